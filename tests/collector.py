"""A collector of OpenTelemetry: an OTLP receiver (http/protobuf) on the protocol's own definitions.

``python -m tests.collector`` prints the traces that arrive (docs/how-to/tracing.md).
"""

import gzip
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

MESSAGES: dict[str, tuple[Any, Any]] = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
}
# As a process under test is to send: often, and no log line of its own about slowness.
QUICKLY = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_METRIC_EXPORT_INTERVAL": "300"}


@dataclass
class Collector:
    """Arrivals: the messages of each request, its bytes, and its header ``api-key``."""

    url: str
    spans: list[Span] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)
    services: set[str] = field(default_factory=set)
    received: bytearray = field(default_factory=bytearray)
    keys: set[str] = field(default_factory=set)

    @property
    def env(self) -> dict[str, Any]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, **QUICKLY}

    def trace(self, trace_id: str) -> dict[str, Span]:
        """Return the spans of a trace by their name; of several with one name, the last."""
        return {span.name: span for span in list(self.spans) if span.trace_id.hex() == trace_id}

    def parents(self, span: Span) -> list[str]:
        """Return the names of the spans above one, the nearest first."""
        by_id = {each.span_id: each for each in list(self.spans)}
        names = []
        while span.parent_span_id in by_id:
            span = by_id[span.parent_span_id]
            names.append(span.name)
        return names

    def receive(self, path: str, body: bytes) -> bytes:
        request, response = MESSAGES[path]
        message = request.FromString(body)
        self.received += body
        for resource in getattr(message, "resource_spans", ()):
            self.services |= {service_of(resource.resource)}
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        for resource in getattr(message, "resource_metrics", ()):
            self.metrics |= {metric.name for scope in resource.scope_metrics for metric in scope.metrics}
        answer: bytes = response().SerializeToString()
        return answer


def service_of(resource: Any) -> str:
    named: str = next(each.value.string_value for each in resource.attributes if each.key == "service.name")
    return named


def attributes(span: Span) -> dict[str, Any]:
    """Return the attributes of a span as plain values."""
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in span.attributes}


@contextmanager
def collecting(status: int = 200, port: int = 0) -> Iterator[Collector]:
    """Run a collector that answers with a status until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.headers["Content-Type"] == "application/x-protobuf"
            collector.keys.add(self.headers.get("api-key", ""))
            answer = collector.receive(self.path, body) if status == 200 else b""
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def tree(spans: list[Span], parent: bytes, depth: int = 0) -> Iterator[str]:
    """Yield a line for each span below one, in the order of their starts."""
    for span in sorted(spans, key=lambda each: each.start_time_unix_nano):
        if span.parent_span_id == parent:
            milliseconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
            yield f"{'  ' * depth}{span.name}  {milliseconds:.1f} ms"
            yield from tree(spans, span.span_id, depth + 1)


def traces(spans: list[Span]) -> Iterator[str]:
    """Yield the lines of each trace; spans whose parent is elsewhere, as a browser's is, come first."""
    known = {span.span_id for span in spans}
    for trace_id in dict.fromkeys(span.trace_id for span in spans):
        yield f"\ntrace {trace_id.hex()}"
        own = [span for span in spans if span.trace_id == trace_id]
        for parent in {span.parent_span_id for span in own} - known:
            yield from tree(own, parent, 1)


def main() -> None:
    """Print each trace that arrives on port 4318, until Ctrl-C."""
    with collecting(port=4318) as collector, suppress(KeyboardInterrupt):
        sys.stdout.write(f"Listening on {collector.url}\n")
        while True:
            time.sleep(1)
            arrived, collector.spans = collector.spans, []
            sys.stdout.writelines(f"{line}\n" for line in traces(arrived))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
