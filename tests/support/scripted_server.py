"""A small HTTP server that says what it is told to, and remembers what it was asked."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One reply."""

    status: int
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = ()


class ScriptedServer:
    """Gives its replies in order, and the last one for ever after."""

    def __init__(self, url: str, replies: Sequence[Said]) -> None:
        self.url = url
        #: Method, path, body.
        self.asked: list[tuple[str, str, bytes]] = []
        self._replies = list(replies)
        self._turn = threading.Lock()

    def reply(self, method: str, path: str, body: bytes) -> Said:
        with self._turn:
            self.asked.append((method, path, body))
            return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]


@contextlib.contextmanager
def scripted_server(*replies: Said) -> Iterator[ScriptedServer]:
    """Listens while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            said = script.reply(self.command, self.path, body)
            self.send_response(said.status)
            for name, value in (*said.headers, ("Content-Length", str(len(said.body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said.body)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 the names that the library calls

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 as the library has it
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        script = ScriptedServer(f"http://127.0.0.1:{listening.server_port}", replies)
        serving = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield script
        finally:
            listening.shutdown()
            serving.join()
