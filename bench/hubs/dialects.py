"""What each server is told, and what it says: one connection's greeting, an echo, and the news for all."""

from collections.abc import Callable, Mapping

import msgspec


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How a client speaks with one kind of server. Texts are found by how they begin."""

    path: bytes
    #: What is said to the server's first text, when that does not greet yet.
    opening: bytes = b""
    greeting: bytes
    #: Has the server send a frame of about 330 bytes to all that are connected; numbers differ.
    call: Callable[[int], bytes]
    ping: Callable[[int], bytes]
    pong: bytes
    #: What the server says now and then, and what it must hear then.
    heartbeat: bytes = b""
    heartbeat_reply: bytes = b""


def _request(number: int) -> bytes:
    """An answer to it, in its frame, is as long as the others' news."""
    return b'{"type":"Request","ref":"bench-%d","body":{"input":{"prompt":"May I go on?"}}}' % number


def _ping(number: int) -> bytes:
    return b'{"type":"Ping","nonce":"%d"}' % number


_PLAIN = Dialect(path=b"/", greeting=b"hello", call=lambda _number: b"news", ping=_ping, pong=b'{"type":"Ping"')

FIELDPOST = Dialect(
    path=b"/v1/stream",
    greeting=b'{"type":"Hello"',
    call=_request,
    ping=_ping,
    pong=b'{"type":"Pong"',
    heartbeat=b'{"type":"Ping"}',
    heartbeat_reply=b'{"type":"Pong"}',
)
DIALECTS: Mapping[str, Dialect] = {
    "fieldpost": FIELDPOST,
    "websockets": _PLAIN,
    "picows": _PLAIN,
    "channels": _PLAIN,
    # Source: the Engine.IO 4 and Socket.IO 5 protocols: 40 connects, 42 is an event.
    "socketio": Dialect(
        path=b"/socket.io/?EIO=4&transport=websocket",
        opening=b"40",
        greeting=b"40{",
        call=lambda _number: b'42["news"]',
        ping=lambda number: b'42["echo","%d"]' % number,
        pong=b'42["echo"',
        heartbeat=b"2",
        heartbeat_reply=b"3",
    ),
}
