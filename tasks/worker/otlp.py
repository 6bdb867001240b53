"""Spans sent over OTLP/HTTP. The only module that imports OpenTelemetry's SDK, and an optional extra.

Its own variables say where to, how many and under which name (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER,
OTEL_SERVICE_NAME, ...). Spans wait in a bounded queue for a thread of the SDK's to send them: a collector that is slow
or down costs spans, never work.
"""

import atexit
import logging
import threading
from collections.abc import Mapping, Sequence

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from tasks.worker.traces import Sender

log = structlog.get_logger(__name__)

_SERVICE = "occ-connect"
_PATIENCE_AT_EXIT = 3.0  # seconds; a worker that is stopped must not wait for a collector that is down


def sender(environ: Mapping[str, str], exporter: SpanExporter | None = None) -> Sender:
    """Starts sending; `exporter` instead of the one for OTLP."""
    # It logs each failure anew, with what the collector answered; `LoggingExporter` logs it once.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    named = "OTEL_SERVICE_NAME" in environ or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(
        resource=Resource.create({} if named else {"service.name": _SERVICE}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(LoggingExporter(exporter or OTLPSpanExporter())))

    def close() -> None:
        atexit.unregister(close)
        # The SDK's own shutdown waits half a minute for a collector that does not answer.
        ending = threading.Thread(target=provider.shutdown, name="traces end", daemon=True)
        ending.start()
        ending.join(_PATIENCE_AT_EXIT)

    atexit.register(close)
    return provider.get_tracer(_SERVICE), close


class LoggingExporter(SpanExporter):
    """Logs that a collector does not take spans, once, and its return."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them. Never raises."""
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
        """End the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Send what waits."""
        return self._exporter.force_flush(timeout_millis)
