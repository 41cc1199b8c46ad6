"""A device's WebSocket, as small as can be: reads whole text frames, sends short ones with an empty mask."""

import asyncio
import sys
from collections.abc import Callable

_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
#: Payloads up to this length have it in the second byte.
_SHORT = 125


class Stream(asyncio.Protocol):
    """One device's connection: tells `on_answer` the key and the id of each `ResponseReady`, and acknowledges it."""

    def __init__(self, key: str, on_answer: Callable[[str, bytes], None]) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._key = key
        self._on_answer = on_answer
        self._buffer = bytearray()
        self._is_open = self._is_closed = False
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._transport.write(
            b"GET /v1/stream HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %s\r\nupgrade: websocket\r\n"
            b"connection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            % self._key.encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_open:
            head, separator, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not separator:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._fail(head.decode(errors="replace"))
                return
            self._is_open, self._buffer = True, bytearray(rest)
        while (frame := self._next()) is not None:
            self._take(*frame)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the hub closed: {error!r}")

    def close(self) -> None:
        self._is_closed = True
        self._transport.abort()

    def _next(self) -> tuple[int, bytes] | None:
        """The next frame's kind and payload, once it is all there; servers neither mask nor, here, compress."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1], 2
        if length > _SHORT:
            start += 2 if length == _SHORT + 1 else 8
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + length:
            return None
        kind, payload = buffer[0] & 15, bytes(buffer[start : start + length])
        del buffer[: start + length]
        return kind, payload

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == _PING:
            self._send(_PONG, payload)
        elif kind == _TEXT and payload.startswith(b'{"type":"ResponseReady"'):
            request_id = identity(payload, b'"request_id":"')
            self._on_answer(self._key, request_id)
            self._send(_TEXT, b'{"type":"Ack","request_ids":["%s"]}' % request_id)
        elif kind == _TEXT and payload.startswith(b'{"type":"Hello"') and not self.opened.done():
            self.opened.set_result(None)
        elif kind == _TEXT and payload.startswith(b'{"type":"Ping"'):
            self._send(_TEXT, b'{"type":"Pong"}')
        elif kind == _CLOSE:
            self._fail(payload.decode(errors="replace"))

    def _send(self, kind: int, payload: bytes) -> None:
        """A short frame: XOR with a mask of zeros changes nothing."""
        self._transport.write(bytes((0x80 | kind, 0x80 | len(payload))) + b"\0\0\0\0" + payload)

    def _fail(self, reason: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(reason))
        elif not self._is_closed:
            sys.exit(f"a WebSocket ended: {reason}")


def identity(body: bytes, before: bytes) -> bytes:
    """The request's id in a reply or a frame: 36 characters after its name."""
    start = body.find(before) + len(before)
    return body[start : start + 36]
