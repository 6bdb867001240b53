"""Traces: what a request came to, from its producer over every step to each call to the store.

Uses OpenTelemetry's API alone, which does nothing without a tracer of its SDK; `otlp.py` has that. The instrumentations
of Celery, Redis and requests are not used: they cannot follow a run, and they put whole URLs into spans (decision 13).
What goes into a span is here: ids, codes and host names, never a path, a query, a header, a body or an error's text.
"""

import importlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TraceFlags, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from integrations.errors import SettingsError
from integrations.observer import ObservedCall
from integrations.settings import KeylessSettings

TRACEPARENT = "traceparent"
"""W3C's name of a trace context: in a request, and among the headers of a Celery message."""

REQUIREMENTS = ("opentelemetry-sdk>=1.45,<2", "opentelemetry-exporter-otlp-proto-http>=1.45,<2")
"""The extra `tracing` of pyproject.toml."""

_FAILURES_FROM = 400  # https://opentelemetry.io/docs/specs/semconv/http/http-spans/: an error, to a client

Sender = tuple[Tracer, Callable[[], None]]
"""What makes spans and sends them, and how to send off the last ones, which takes a bounded time."""


class Traces:
    """Makes the spans of one process. Safe to share between threads, not to take along into a fork."""

    def __init__(self, start: Callable[[], Sender] = lambda: (trace.NoOpTracer(), lambda: None)) -> None:
        """`start` is called when there is something to trace, and not before: it may connect and start a thread."""
        self._start = start
        self._lock = threading.Lock()
        self._sender: Sender | None = None

    @contextmanager
    def request(self, kind: str, traceparent: str) -> Iterator[Span]:
        """The span of a request that is being accepted or refused, below its producer's span if there is one."""
        with opened(self._begin("occ.accept", traceparent, SpanKind.CONSUMER, time.time())) as span:
            describe(span, request=kind)
            yield span

    def step(self, name: str, traceparent: str, began: float) -> Span:
        """The span of a step, to be `opened`. `began`: in seconds since the epoch by this process's clock."""
        return self._begin(f"occ.{name}", traceparent, SpanKind.INTERNAL, began)

    def called(self, call: ObservedCall) -> None:
        """The span of a call, below what is open in this thread; a call outside of all that is not traced."""
        if not trace.get_current_span().is_recording():
            return
        ended = time.time_ns()
        server = urlsplit(f"//{call.host}")
        facts: dict[str, str | int] = {
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
        """Send off what there is, for a bounded time."""
        with self._lock:
            sender, self._sender = self._sender, None
        if sender is not None:
            sender[1]()

    def _begin(self, name: str, traceparent: str, kind: SpanKind, began: float) -> Span:
        return self._tracer().start_span(name, context=_below(traceparent), kind=kind, start_time=int(began * 1e9))

    def _tracer(self) -> Tracer:
        with self._lock:
            if self._sender is None:
                self._sender = self._start()
            return self._sender[0]


@contextmanager
def opened(span: Span) -> Iterator[Span]:
    """While this is open, the calls this thread makes belong to the span. Then it ends."""
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except BaseException as error:  # its class alone: texts of errors come from anywhere
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise


def describe(span: Span, **facts: str | int | None) -> None:
    """Add what is known of a span: ids and codes, never a text from outside. None is left out."""
    span.set_attributes({f"occ.{name}": value for name, value in facts.items() if value is not None})


def traceparent_of(span: Span) -> str:
    """The trace context in which others can put spans below this one; "" if it is in no trace."""
    known = span.get_span_context()
    if not known.is_valid:
        return ""
    return f"00-{known.trace_id:032x}-{known.span_id:016x}-{known.trace_flags & TraceFlags.SAMPLED:02x}"


def parse_traceparent(value: object) -> str:
    """A producer's trace context, with no other flag than whether it is sampled; "" if it is none.

    A malformed one counts as not sent: it is no reason to refuse a request, and nothing of it is kept or repeated.
    """
    return traceparent_of(trace.get_current_span(_below(value))) if isinstance(value, str) else ""


def traceparent_in(request: object) -> str:
    """The trace context that came with a request; "" if none did."""
    return parse_traceparent(request.get(TRACEPARENT)) if isinstance(request, Mapping) else ""


def _below(traceparent: str) -> Context:
    """Below another span, which may be of another process; or below none, whatever is open here."""
    return TraceContextTextMapPropagator().extract({TRACEPARENT: traceparent}, Context())


def traces_of(settings: KeylessSettings, environ: Mapping[str, str] = os.environ) -> Traces:
    """What OCC_TRACES asks for. Raises SettingsError if the packages that takes are not installed."""
    if settings.traces == "none":
        return Traces()
    try:
        otlp = importlib.import_module("tasks.worker.otlp")
    except ImportError:
        missing = " ".join(f"'{requirement}'" for requirement in REQUIREMENTS)
        problem = f"OCC_TRACES: otlp needs packages that are not installed: .venv/bin/pip install {missing}"
        raise SettingsError([problem]) from None
    return Traces(lambda: otlp.sender(environ))
