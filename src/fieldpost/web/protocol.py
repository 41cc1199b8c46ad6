"""Uvicorn's protocols with the bounds that they leave out: of heads, of peers that read nothing, and of who has left."""

import asyncio
import socket
import struct
from collections.abc import Sequence
from typing import ClassVar

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from fieldpost.messages.problems import problem
from fieldpost.messages.responses import Problem
from fieldpost.observability import get_logger

#: Request line and headers together.
_MAX_HEAD_BYTES = 65_536
#: What is left to send over a WebSocket that has ended is given up after this time.
_LAST_WORDS_SECONDS = 10.0
#: `struct linger`: on, 0 seconds.
_RESET = struct.pack("ii", 1, 0)

log = get_logger()


class HeadTooLargeError(Exception):
    """Headers without end; the parser turns it into a 400."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long a connection's peer may take."""

    #: For a request's head, from its first byte to its last, however many come in between.
    head_seconds: float = 30.0
    #: Over what it was sent and has not taken.
    stalled_seconds: float = 30.0


class BoundedHttp(HttpToolsProtocol):
    """Refuses heads without end, in bytes and in time, gives up peers that read nothing, and tells calls who left."""

    patience: ClassVar[Patience] = Patience()

    _head_bytes = 0
    _is_in_head = False
    _head_task: asyncio.TimerHandle | None = None
    _stalled_task: asyncio.TimerHandle | None = None
    #: Calls of this connection that are not answered yet; uvicorn itself tells only the last one of a lost connection.
    _unanswered: Sequence[RequestResponseCycle] = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_more()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_protocol() is not self:
            # It is a WebSocket now, whose silence is not ours to judge.
            self._stop_waiting()
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            # The beginning of a request came, and the rest of it must come too.
            self._expect_more()
            self._expect_head()

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._is_in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        if self._head_task is not None:
            self._head_task.cancel()
            self._head_task = None
        super().on_headers_complete()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None:
            self._unanswered = [*(before for before in self._unanswered if not before.response_complete), cycle]

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_taken()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_taken()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled_task is not None and not self.transport.is_closing():
            self._stalled_task.cancel()
            self._stalled_task = None

    def timeout_keep_alive_handler(self) -> None:
        """Nothing more was asked for a while."""
        super().timeout_keep_alive_handler()
        self._expect_taken()

    def shutdown(self) -> None:
        """The server stops."""
        super().shutdown()
        self._expect_taken()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        for cycle in self._unanswered:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def send_400_response(self, msg: str) -> None:
        """Problem documents here too."""
        self._refuse(b"400 Bad Request", problem("malformed-request", "The request cannot be read.", 400, detail=msg))

    def _refuse(self, status_line: bytes, document: Problem) -> None:
        encoded = msgspec.json.encode(document)
        self.transport.write(
            b"HTTP/1.1 %s\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%s" % (status_line, len(encoded), encoded)
        )
        self.transport.close()
        self._expect_taken()

    def _count(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._head_bytes > _MAX_HEAD_BYTES:
            raise HeadTooLargeError

    def _expect_more(self) -> None:
        if self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _expect_head(self) -> None:
        """The whole head, however it trickles: what comes in between starts no new time."""
        if self._head_task is None and not self.transport.is_closing():
            self._head_task = self.loop.call_later(self.patience.head_seconds, self._give_up_head)

    def _give_up_head(self) -> None:
        if self.transport.is_closing():
            return
        if self._is_in_head:
            detail = f"the head did not come within {self.patience.head_seconds:g} s"
            document = problem("request-timeout", "The request did not come in time.", 408, detail=detail)
            self._refuse(b"408 Request Timeout", document)
        else:
            # Not even the beginning of a request: empty lines, or the rest of a body that was answered long ago.
            self.transport.close()
            self._expect_taken()

    def _expect_taken(self) -> None:
        """What cannot be sent on, or is left of a connection that closes, must be taken in time."""
        is_due = self.flow.write_paused or (self.transport.is_closing() and self.transport.get_write_buffer_size() > 0)
        if is_due and self._stalled_task is None:
            self._stalled_task = self.loop.call_later(self.patience.stalled_seconds, self._give_up_peer)

    def _give_up_peer(self) -> None:
        log.info("peer_stalled", summed=True, left_bytes=self.transport.get_write_buffer_size())
        # Reset, or the kernel would go on holding what the peer does not take.
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def _stop_waiting(self) -> None:
        for task in (self._head_task, self._stalled_task):
            if task is not None:
                task.cancel()
        self._head_task = self._stalled_task = None


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


def bounded_http(given: Patience) -> type[BoundedHttp]:
    """The protocol for connections whose peers are given this time."""

    class Bounded(BoundedHttp):
        patience = given

    return Bounded
