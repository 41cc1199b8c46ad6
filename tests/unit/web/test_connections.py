"""Peers that trickle, and peers that read nothing, over real sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fieldpost.observability import Metrics
from fieldpost.web.application import build
from fieldpost.web.operations import Call, Caller, Operation, Reply
from fieldpost.web.protocol import Patience
from fieldpost.web.routing import routes_of
from fieldpost.web.server import reserve, serve
from tests.support.waiting import eventually

_SMALL_BYTES = 60_000


class _Replies:
    """What a handler did, and what became of it."""

    def __init__(self) -> None:
        self.asked = 0
        self.acknowledged = 0

    async def small(self, _call: Call) -> Reply:
        self.asked += 1
        return Reply(body=b"x" * _SMALL_BYTES)

    async def large(self, _call: Call) -> Reply:
        self.asked += 1
        return Reply(body=b"x" * 32_000_000, on_sent=self._acknowledge)

    async def _acknowledge(self) -> None:
        self.acknowledged += 1


@asynccontextmanager
async def _served(patience: Patience, replies: _Replies | None = None) -> AsyncIterator[int]:
    replies = replies or _Replies()
    routes = routes_of([_get("/small", replies.small), _get("/large", replies.large, waits=True)], None)
    application = build(routes, metrics=Metrics(), ready=list)
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(
            serve(application, reserve("127.0.0.1", 0), on_listening=listening.set_result, patience=patience)
        )
        yield await asyncio.wait_for(listening, 30)
        serving.cancel()


def _get(path: str, handler: object, *, waits: bool = False) -> Operation:
    return Operation(method="GET", path=path, summary="", handler=handler, caller=Caller.ANYONE, waits=waits)  # type: ignore[arg-type]


async def test_a_head_that_trickles_is_refused_however_steadily() -> None:
    async with _served(Patience(head_seconds=0.3)) as port:
        answer = await _answer_to_trickle(port, b"GET /small HTTP/1.1\r\nhost: x\r\n", b"x-a: b\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert json.loads(body)["type"] == "urn:fieldpost:problem:request-timeout"


async def test_empty_lines_keep_no_connection() -> None:
    async with _served(Patience(head_seconds=0.3)) as port:
        assert await _answer_to_trickle(port, b"\r\n", b"\r\n") == b""


async def test_a_head_in_pieces_that_comes_in_time_is_answered_and_the_next_one_has_its_own_time() -> None:
    replies = _Replies()
    async with _served(Patience(head_seconds=60), replies) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in (1, 2):
            for piece in (b"GET /small", b" HTTP/1.1\r\n", b"host: x\r\n", b"\r\n"):
                writer.write(piece)
                await asyncio.sleep(0)
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            await asyncio.wait_for(reader.readexactly(_SMALL_BYTES), 30)
            assert replies.asked == number
        writer.close()


async def test_a_peer_that_reads_no_small_replies_is_given_up() -> None:
    replies = _Replies()
    async with _served(Patience(stalled_seconds=0.3), replies) as port:
        peer = await _deaf_peer(port, b"GET /small HTTP/1.1\r\nhost: x\r\n\r\n" * 500)

        await _reset(peer)
    assert replies.asked < 500


async def test_what_is_left_of_a_closing_connection_is_not_kept_for_ever() -> None:
    async with _served(Patience(stalled_seconds=0.3)) as port:
        asks = b"GET /small HTTP/1.1\r\nhost: x\r\n\r\n" * 500 + b"GET /small HTTP/1.0\r\n\r\n"
        peer = await _deaf_peer(port, asks)

        await _reset(peer)


async def test_an_answer_that_was_not_taken_whole_is_not_acknowledged() -> None:
    replies = _Replies()
    async with _served(Patience(stalled_seconds=0.3), replies) as port:
        peer = await _deaf_peer(port, b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")

        await _reset(peer)
    assert (replies.asked, replies.acknowledged) == (1, 0)


async def _answer_to_trickle(port: int, first: bytes, piece: bytes) -> bytes:
    """What comes back first, before or although the other side has closed; nothing when it only closes."""
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.setblocking(False)
        await loop.sock_sendall(peer, first)
        trickling = asyncio.create_task(_trickle(peer, piece))
        try:
            return await asyncio.wait_for(loop.sock_recv(peer, 65_536), 30)
        except ConnectionError:
            return b""
        finally:
            trickling.cancel()


async def _trickle(peer: socket.socket, piece: bytes) -> None:
    with suppress(ConnectionError):
        while True:
            await asyncio.get_running_loop().sock_sendall(peer, piece)
            await asyncio.sleep(0.02)


async def _deaf_peer(port: int, asks: bytes) -> socket.socket:
    """A peer that asks and reads nothing, with as little room for answers as the system allows."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(peer, ("127.0.0.1", port))
    await loop.sock_sendall(peer, asks)
    return peer


async def _reset(peer: socket.socket) -> None:
    """Returns once the other side has cut the connection; the peer still reads nothing."""
    with peer:
        await eventually(lambda: peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0)
