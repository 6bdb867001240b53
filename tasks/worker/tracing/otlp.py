"""Spans through OpenTelemetry's SDK, sent over OTLP/HTTP. The only module that imports it.

Where to, how many and under which name is told by its own variables (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER,
OTEL_SERVICE_NAME, ...). Spans wait in a bounded queue for a thread of the SDK's to send them: a collector that is slow
or down costs spans, never work.
"""

import atexit
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import structlog
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer

from integrations.observer import Call
from integrations.traceparent import parse_traceparent
from tasks.worker.tracing.span import Fact

log = structlog.get_logger(__name__)

_SERVICE = "occ-connect"
_FAILURES_FROM = 400  # https://opentelemetry.io/docs/specs/semconv/http/http-spans/: an error, to a client
_PATIENCE_AT_EXIT = 3.0  # seconds; a worker that is stopped must not wait for a collector that is down
_EMPTY = Context()


class OtlpTracing:
    """Makes spans and sends them; a `Tracing`. Safe to share between threads, not to take along into a fork."""

    def __init__(self, environ: Mapping[str, str], exporter: SpanExporter | None = None) -> None:
        """Nothing connects, and no thread runs, before there is something to trace.

        `exporter`: instead of the one for OTLP.
        """
        self._environ = environ
        self._exporter = exporter
        self._lock = threading.Lock()
        self._provider: TracerProvider | None = None
        self._batches: BatchSpanProcessor | None = None
        self._made: Tracer | None = None

    def request(self, kind: str, traceparent: str) -> "OtlpSpan":
        """The span of a request that is looked at."""
        span = self._begin("occ.accept", traceparent, SpanKind.CONSUMER, time.time())
        span.tell(request=kind)
        return span

    def step(self, name: str, traceparent: str, began: float) -> "OtlpSpan":
        """The span of a step."""
        return self._begin(f"occ.{name}", traceparent, SpanKind.INTERNAL, began)

    def saw(self, call: Call) -> None:
        """The span of a call, below what is open in this thread; a call outside of all that is not traced."""
        if not trace.get_current_span().get_span_context().is_valid:
            return
        ended = time.time_ns()
        server = urlsplit(f"//{call.host}")
        facts: dict[str, Fact] = {
            "http.request.method": call.method,
            "server.address": server.hostname or "",
            "occ.endpoint": str(call.endpoint),
        }
        facts |= {"server.port": server.port} if server.port else {}
        facts |= {"http.response.status_code": call.status} if call.status is not None else {}
        error = call.error if call.status is None else str(call.status) if call.status >= _FAILURES_FROM else None
        facts |= {"error.type": error} if error else {}
        span = self._tracer().start_span(
            f"{call.method} {call.endpoint}",
            kind=SpanKind.CLIENT,
            attributes=facts,
            start_time=ended - int(call.seconds * 1e9),
        )
        if error:
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended)

    def close(self) -> None:
        """Send off what there is; a few seconds for it."""
        with self._lock:
            provider, self._provider, batches, self._batches = self._provider, None, self._batches, None
        if provider is None or batches is None:
            return
        atexit.unregister(self.close)
        # The SDK's own shutdown waits half a minute for a collector that does not answer.
        ending = threading.Thread(target=provider.shutdown, name="traces end", daemon=True)
        ending.start()
        ending.join(_PATIENCE_AT_EXIT)

    def _begin(self, name: str, traceparent: str, kind: SpanKind, began: float) -> "OtlpSpan":
        parent = _context_of(traceparent)
        return OtlpSpan(self._tracer().start_span(name, context=parent, kind=kind, start_time=int(began * 1e9)))

    def _tracer(self) -> Tracer:
        if self._made is None:
            with self._lock:
                if self._made is None:
                    self._made = self._make()
        return self._made

    def _make(self) -> Tracer:
        # It logs each failure anew, with what the collector answered; `_Telling` says it once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        named = "OTEL_SERVICE_NAME" in self._environ or "service.name=" in self._environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        resource = Resource.create({} if named else {"service.name": _SERVICE})
        self._batches = BatchSpanProcessor(_Telling(self._exporter or OTLPSpanExporter()))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(self._batches)
        atexit.register(self.close)
        return self._provider.get_tracer(_SERVICE)


class OtlpSpan:
    """A `Span` of the SDK's."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._token: Token[Context] | None = None

    @property
    def traceparent(self) -> str:
        """By which others can hang spans of theirs below it."""
        known = self._span.get_span_context()
        if not known.is_valid:  # OTEL_SDK_DISABLED
            return ""
        return f"00-{known.trace_id:032x}-{known.span_id:016x}-{known.trace_flags & TraceFlags.SAMPLED:02x}"

    def tell(self, **facts: Fact | None) -> None:
        """What is known of it."""
        self._span.set_attributes({f"occ.{name}": value for name, value in facts.items() if value is not None})

    def __enter__(self) -> Self:
        self._token = context.attach(trace.set_span_in_context(self._span, _EMPTY))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None:
            context.detach(self._token)
        if kind is not None:  # its class alone: texts of errors come from anywhere
            self._span.set_attribute("error.type", kind.__name__)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class _Telling(SpanExporter):
    """Tells of a collector that does not take spans, once, and of its return."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - its text may hold the collector's address, with a login
            result = SpanExportResult.FAILURE
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self._failing:
            log.warning("traces_not_sent", remedy="see OTEL_EXPORTER_OTLP_ENDPOINT; spans are dropped meanwhile")
        elif self._failing and not failing:
            log.info("traces_sent_again")
        self._failing = failing
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _context_of(traceparent: str) -> Context:
    """Below another span, which may be of another process; or below none, whatever is open here."""
    known = parse_traceparent(traceparent)
    if not known:
        return _EMPTY
    _, trace_id, span_id, flags = known.split("-")
    remote = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return trace.set_span_in_context(NonRecordingSpan(remote), _EMPTY)
