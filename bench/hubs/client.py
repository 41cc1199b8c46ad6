"""A client's WebSocket to any of the servers, as small as can be: whole frames, and short ones with an empty mask."""

import asyncio
import sys
from collections.abc import Callable, Sequence

from bench.hubs.dialects import Dialect

_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
#: In the second byte: two bytes with the length follow.
_LONG = 126


class Client(asyncio.Protocol):
    """One connection; `on_text` hears of each text after the greeting."""

    def __init__(self, dialect: Dialect, key: str, on_text: Callable[["Client", bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        #: For who measures: texts it had, and when it sent what is not answered yet.
        self.texts = 0
        self.sent = 0.0
        self._dialect = dialect
        self._key = key
        self._on_text = on_text
        self._rest = b""
        self._is_open = False
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._transport.write(
            b"GET %s HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %s\r\nupgrade: websocket\r\n"
            b"connection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            % (self._dialect.path, self._key.encode())
        )

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        start = 0
        if not self._is_open:
            start = self._open(data)
            if not start:
                self._rest = data
                return
        end = len(data)
        while end - start >= 2:
            size, header = data[start + 1], 2
            if size >= _LONG:
                if end - start < 4:
                    break
                # Nothing here is as long as to need eight bytes.
                size, header = data[start + 2] << 8 | data[start + 3], 4
            following = start + header + size
            if following > end:
                break
            self._take(data[start] & 15, data[start + header : following])
            start = following
        self._rest = data[start:]

    def connection_lost(self, error: Exception | None) -> None:
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionError(f"not greeted: {error!r}, {self._rest[:200]!r}"))
        if not self.lost.done():
            self.lost.set_result(None)

    def send(self, text: bytes) -> None:
        """Sends a text of 125 bytes at most: XOR with a mask of zeros changes nothing."""
        self._send(_TEXT, text)

    def close(self) -> None:
        """Ends the connection without a word."""
        self._transport.close()

    def _open(self, data: bytes) -> int:
        """Where the first frame begins; 0 while the reply to the handshake is not whole, or refuses."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return 0
        self._is_open = data.startswith(b"HTTP/1.1 101")
        if not self._is_open:
            self._transport.close()
            return 0
        return end + 4

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == _TEXT:
            if payload == self._dialect.heartbeat:
                self._send(_TEXT, self._dialect.heartbeat_reply)
            elif self.greeted.done():
                self._on_text(self, payload)
            elif payload.startswith(self._dialect.greeting):
                self.greeted.set_result(None)
            else:
                self._send(_TEXT, self._dialect.opening)
        elif kind == _PING:
            self._send(_PONG, payload)
        elif kind == _CLOSE:
            self._transport.close()

    def _send(self, kind: int, payload: bytes) -> None:
        self._transport.write(bytes((0x80 | kind, 0x80 | len(payload))) + b"\0\0\0\0" + payload)


def count_lost(clients: Sequence[Client]) -> int:
    """How many of them are not open any more."""
    return sum(client.lost.done() for client in clients)


def expect_open(clients: Sequence[Client]) -> None:
    """A server that ends connections under load has no rate."""
    if lost := count_lost(clients):
        sys.exit(f"{lost} connections were lost")


def expect_no_refusal(_client: Client, text: bytes) -> None:
    """Nothing is to be refused for being much."""
    if text.startswith(b'{"type":"Rejected"'):
        sys.exit(f"refused: {text.decode()}")
