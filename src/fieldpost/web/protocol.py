"""Uvicorn's protocols with the bounds that they leave out: of headers, of idle connections, and of who has left."""

import asyncio
from collections.abc import Sequence

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from fieldpost.messages.problems import problem

#: Request line and headers together.
_MAX_HEAD_BYTES = 65_536
#: What is left to send over a WebSocket that has ended is given up after this time.
_LAST_WORDS_SECONDS = 10.0


class HeadTooLargeError(Exception):
    """Headers without end; the parser turns it into a 400."""


class BoundedHttp(HttpToolsProtocol):
    """Refuses heads without end, closes connections that send nothing, and tells every call that its caller left."""

    _head_bytes = 0
    #: Calls of this connection that are not answered yet; uvicorn itself tells only the last one of a lost connection.
    _unanswered: Sequence[RequestResponseCycle] = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_more()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_protocol() is not self:
            # It is a WebSocket now, whose silence is not ours to judge.
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            # The beginning of a request came, and the rest of it must come too.
            self._expect_more()

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None:
            self._unanswered = [*(before for before in self._unanswered if not before.response_complete), cycle]

    def connection_lost(self, exc: Exception | None) -> None:
        for cycle in self._unanswered:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def send_400_response(self, msg: str) -> None:
        """Problem documents here too."""
        document = msgspec.json.encode(problem("malformed-request", "The request cannot be read.", 400, detail=msg))
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(document), document)
        )
        self.transport.close()

    def _count(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._head_bytes > _MAX_HEAD_BYTES:
            raise HeadTooLargeError

    def _expect_more(self) -> None:
        if self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """Holds no answers for a peer that reads nothing: neither to its pings, nor after the end."""

    def handle_ping(self) -> None:
        """Answers when there is room. Source: RFC 6455, section 5.5.3: only the latest ping needs an answer."""
        pongs = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(pongs)

    async def run_asgi(self) -> None:
        """Serves the connection; closing it waits for a peer that takes what is left, but not for ever."""
        try:
            await super().run_asgi()
        finally:
            self.loop.call_later(_LAST_WORDS_SECONDS, self.transport.abort)
