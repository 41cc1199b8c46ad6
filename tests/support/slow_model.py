"""A real HTTP server that speaks just enough of the OpenAI API, and answers when the test says so."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

_CHUNK = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "slow"}


class SlowModel:
    """`asked` is set by the first question; every question is answered once `answer` is set."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answer = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)

    def settings(self, *, drain_seconds: float) -> dict[str, str]:
        """What a server needs to ask this model."""
        return {
            "FIELDPOST_MODEL_URL": f"http://127.0.0.1:{self._server.server_port}/v1",
            "FIELDPOST_MODEL_NAME": "slow",
            "FIELDPOST_SERVER_DRAIN_SECONDS": str(drain_seconds),
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.answer.set()
        self._server.shutdown()
        self._thread.join(30)
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                model.asked.set()
                model.answer.wait(60)
                self._reply(is_stream=bool(body.get("stream")))

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                """Says nothing."""

            def _reply(self, *, is_stream: bool) -> None:
                message = {"role": "assistant", "content": "Nine hours."}
                if is_stream:
                    choices = [{"index": 0, "delta": message, "finish_reason": "stop"}]
                    content = f"data: {json.dumps(_CHUNK | {'choices': choices})}\n\ndata: [DONE]\n\n"
                else:
                    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
                    content = json.dumps(_CHUNK | {"object": "chat.completion", "choices": choices})
                self.send_response(200)
                self.send_header("content-type", "text/event-stream" if is_stream else "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content.encode())

        return Handler
