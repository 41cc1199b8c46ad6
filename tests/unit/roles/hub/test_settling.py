"""What was acknowledged is not sent any more, although the device that has it waiting reads nothing meanwhile."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from fieldpost.roles.hub.feed import Feed
from fieldpost.roles.hub.limits import Limits
from tests.support.doors import Doors, open_doors
from tests.support.sockets import connected
from tests.support.waiting import eventually
from tests.unit.roles.hub.test_hub import NEVER, _finish

#: Little may wait, and who reads nothing is given all the time.
PATIENT = Limits(outbox_bytes=1_000_000, send_seconds=3600, farewell_seconds=3600)
#: More than both kernels' buffers and the outbox hold.
MANY, LARGE = 30, 400_000


@asynccontextmanager
async def _deaf(doors: Doors) -> AsyncIterator[socket.socket]:
    """A connection whose kernel takes little."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", doors.port))
        yield raw


async def _until_full(doors: Doors) -> Feed:
    await eventually(lambda: 1 == len(doors.hub._sessions))
    (session,) = doors.hub._sessions
    await eventually(lambda: not session.feed.outbox.has_room)
    return session.feed


def _waiting(feed: Feed) -> Sequence[UUID]:
    return [item.answer_to for item in feed.outbox._items if item.answer_to is not None]


async def test_a_web_socket_that_was_deaf_is_not_sent_what_was_acknowledged_over_http(tmp_path: Path) -> None:
    async with (
        open_doors(tmp_path / "data", hub_settings=NEVER, limits=PATIENT) as doors,
        _deaf(doors) as raw,
        connected(doors.url, doors.device_key, max_size=2**24, max_queue=1, sock=raw) as peer,
        doors.device() as client,
    ):
        await peer.hear("Hello")
        ids = await _finish(doors, MANY, text="x" * LARGE, tell=True)
        feed = await _until_full(doors)
        waiting = _waiting(feed)
        for request_id in ids:
            assert 200 == (await client.post(f"/v1/requests/{request_id}/ack")).status_code
        await eventually(lambda: not feed.window.on_their_way)
        await peer.say("Ping", nonce="last")
        await peer.hear("Pong")

        assert waiting
        assert not {str(request_id) for request_id in waiting} & set(peer.answered())


async def test_events_that_nobody_read_are_not_sent_once_they_are_acknowledged(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with open_doors(tmp_path / "data", hub_settings=NEVER, limits=PATIENT) as doors, _deaf(doors) as raw:
        await _finish(doors, MANY, text="x" * LARGE)
        await loop.sock_sendall(raw, _asking(doors.device_key))
        feed = await _until_full(doors)
        waiting = _waiting(feed)
        await doors.answers.acknowledge(doors.device_id, feed.window.on_their_way)
        await eventually(lambda: not set(waiting) & set(feed.window.on_their_way))
        draining = loop.create_task(doors.hub.drain())
        seen = bytearray()
        while piece := await loop.sock_recv(raw, 2**20):
            seen += piece
        await draining

    assert b"event: draining" in seen
    assert waiting
    assert not [request_id for request_id in waiting if str(request_id).encode() in seen]


def _asking(key: str) -> bytes:
    return (
        "GET /v1/stream HTTP/1.1\r\nHost: fieldpost\r\nAccept: text/event-stream\r\nConnection: close\r\n"
        f"Authorization: Bearer {key}\r\n\r\n"
    ).encode()
