"""A collector of traces: takes OTLP over HTTP and keeps every byte."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

CLIENT = OtlpSpan.SpanKind.SPAN_KIND_CLIENT


@dataclass(frozen=True)
class Span:
    """One span as it arrived; `worker` is what the process that made it was called."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    is_call: bool
    worker: str
    facts: Mapping[str, Any]


class Collector:
    """Runs in a thread while the context is open."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.received.append(body)
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as its parent calls it
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT says."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def spans(self) -> list[Span]:
        """All that have arrived."""
        found = []
        for body in list(self.received):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                worker = str(_facts(resource.resource.attributes).get("worker", ""))
                found += [_span(span, worker) for scope in resource.scope_spans for span in scope.spans]
        return found

    def of_merchant(self, merchant_id: str) -> list[Span]:
        """The spans of the traces in which a merchant appears."""
        spans = self.spans()
        traces = {span.trace_id for span in spans if span.facts.get("occ.merchant_id") == merchant_id}
        return [span for span in spans if span.trace_id in traces]


def _span(span: Any, worker: str) -> Span:
    return Span(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        is_call=span.kind == CLIENT,
        worker=worker,
        facts=_facts(span.attributes),
    )


def _facts(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
