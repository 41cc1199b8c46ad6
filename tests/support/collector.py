"""A collector of spans on a real socket: OTLP over HTTP, as the protocol's own messages decode it."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One span, ids in hexadecimal."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    seconds: float
    is_failed: bool
    attributes: dict[str, str | int]
    instance: str


class Collector:
    """What it was told so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Told] = []

    def of(self, trace_id: str) -> dict[str, Told]:
        """The spans of a trace, by name."""
        return {span.name: span for span in self.spans if span.trace_id == trace_id}

    def take(self, body: bytes) -> None:
        """Notes the spans of one call."""
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            process = {pair.key: pair.value.string_value for pair in group.resource.attributes}
            assert process["service.name"] == "fieldpost"
            self.spans += [
                Told(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    is_failed=span.status.code == 2,
                    attributes={pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes},
                    instance=process["service.instance.id"],
                )
                for scope in group.scope_spans
                for span in scope.spans
            ]


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A collector, while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}/v1/traces")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
