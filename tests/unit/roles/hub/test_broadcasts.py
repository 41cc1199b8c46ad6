"""What operators tell, brought to the sessions of a hub in the test's own process."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from fieldpost.messages.devices import Credential, DeviceKind
from fieldpost.messages.events import Broadcast
from fieldpost.roles.hub.broadcasts import SLICE
from fieldpost.roles.hub.budget import Budget
from fieldpost.roles.hub.limits import Limits
from fieldpost.roles.hub.outbox import Outbox
from fieldpost.roles.hub.session import Session
from fieldpost.roles.hub.wording import FrameVoice
from tests.support.doors import Doors, open_doors
from tests.support.sockets import Peer, connected
from tests.support.waiting import eventually


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(tmp_path / "data", limits=Limits(send_seconds=3600)) as opened:
        yield opened


async def _tell(doors: Doors, text: str, **whom: object) -> str:
    async with doors.operator() as operator:
        reply = await operator.post("/admin/broadcasts", json={"text": text, **whom})
    assert 202 == reply.status_code, reply.text
    return str(reply.json()["id"])


async def _count(doors: Doors, outcome: str) -> float:
    async with doors.client() as client:
        lines = (await client.get("/metrics")).text.splitlines()
    head = f'fieldpost_hub_broadcasts_total{{outcome="{outcome}"}} '
    return sum(float(line.removeprefix(head)) for line in lines if line.startswith(head))


def _broadcasts(peer: Peer) -> list[str]:
    return [frame["broadcast_id"] for frame in peer.seen if frame["type"] == "Broadcast"]


def _sessions(count: int, *, kinds: tuple[DeviceKind, ...] = (DeviceKind.TRUCK,)) -> list[Credential]:
    return [
        Credential(device_id=1000 + number, kind=kinds[number % len(kinds)], key_hash=bytes(32), disabled=False)
        for number in range(count)
    ]


async def _open(doors: Doors, stack: AsyncExitStack, devices: list[Credential]) -> list[Session]:
    """Sessions that nobody reads or writes."""
    opening = [doors.hub._open_session(device, FrameVoice()) for device in devices]
    return [await stack.enter_async_context(session) for session in opening]


def _is_told(session: Session) -> bool:
    return any(isinstance(event, Broadcast) for event in session.feed._listener._events)


@pytest.mark.parametrize("is_list", [False, True])
async def test_the_event_loop_has_its_turn_between_a_few_sessions_and_the_next(doors: Doors, is_list: bool) -> None:
    devices = _sessions(3 * SLICE + 1)
    named = tuple(device.device_id for device in devices) if is_list else ()
    async with AsyncExitStack() as stack:
        sessions = await _open(doors, stack, devices)
        told = [0]
        broadcast = Broadcast(broadcast_id=uuid4(), text="Snow.", device_ids=named)
        telling = asyncio.create_task(doors.hub._broadcasts.tell(broadcast))
        while not telling.done():
            await asyncio.sleep(0)
            told.append(sum(map(_is_told, sessions)))

    assert len(devices) == told[-1]
    assert SLICE == max(after - before for before, after in itertools.pairwise(told))


async def test_of_a_list_or_of_all_those_of_the_kind_are_told(doors: Doors) -> None:
    devices = _sessions(9, kinds=tuple(DeviceKind))
    trucks = [device for device in devices if device.kind is DeviceKind.TRUCK]
    for named, meant in (((), trucks), (tuple(device.device_id for device in devices[:4]), trucks[:2])):
        async with AsyncExitStack() as stack:
            sessions = await _open(doors, stack, devices)
            broadcast = Broadcast(broadcast_id=uuid4(), text="Snow.", kind=DeviceKind.TRUCK, device_ids=named)
            await doors.hub._broadcasts.tell(broadcast)

            assert meant == [session.device for session in sessions if _is_told(session)]


async def test_a_device_that_does_not_read_misses_it_and_others_hear_it(doors: Doors) -> None:
    with socket.socket() as raw:
        # So that the kernel holds little of what is not read.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", doors.port))
        async with connected(doors.url, doors.device_key, sock=raw, max_size=2**22, max_queue=1) as slow:
            await slow.hear("Hello")
            (session,) = doors.hub._sessions
            slow.socket.transport.pause_reading()
            for _ in range(20):
                # In the place of answers, and more than both kernels hold.
                session.feed.outbox.put(b'{"type":"Pong","nonce":"' + b"x" * 2**20 + b'"}')
            async with connected(doors.url, doors.device_key) as good:
                await good.hear("Hello")
                told = await _tell(doors, "Snow.")
                assert told == (await good.hear("Broadcast"))["broadcast_id"]
                await eventually(lambda: _is_counted(doors, "left_out", 1))
            slow.socket.transport.resume_reading()
            await slow.say("Ping", nonce="the last")
            while "the last" != (await slow.hear("Pong"))["nonce"]:
                pass

            # With room again it hears the next.
            later = await _tell(doors, "More snow.")
            await slow.hear("Broadcast")
            assert [later] == _broadcasts(slow)
    assert 2 == await _count(doors, "sent")


async def _is_counted(doors: Doors, outcome: str, count: int) -> bool:
    return count == await _count(doors, outcome)


async def test_it_comes_after_the_greeting_and_not_to_who_connects_later(doors: Doors) -> None:
    greet = asyncio.Event()
    undelivered = doors.answers.undelivered

    async def slowly(*args: object, **kwargs: object) -> object:
        await greet.wait()
        return await undelivered(*args, **kwargs)  # type: ignore[arg-type]

    doors.answers.undelivered = slowly  # type: ignore[method-assign, assignment]
    async with connected(doors.url, doors.device_key) as early:
        await eventually(lambda: 1 == len(doors.hub._sessions))
        told = await _tell(doors, "Snow.", devices=[doors.device_id])
        (session,) = doors.hub._sessions
        await eventually(lambda: _is_told(session))
        greet.set()
        await early.hear("Broadcast")
        async with connected(doors.url, doors.device_key) as late:
            await late.hear("Hello")
            await late.say("Ping")
            await late.hear("Pong")

    assert ["Hello", "Broadcast"] == [frame["type"] for frame in early.seen]
    assert ([told], []) == (_broadcasts(early), _broadcasts(late))


async def test_what_may_be_left_out_takes_no_more_than_half_of_the_room(doors: Doors) -> None:
    budget = Budget(max_bytes=4000, readers=1)
    with (
        Outbox(max_items=4, max_bytes=1000, budget=budget) as few,
        Outbox(max_items=100, max_bytes=20, budget=budget) as small,
        Outbox(max_items=100, max_bytes=10_000, budget=budget) as large,
    ):
        for outbox, payload in ((few, b"x"), (small, b"x" * 5)):
            outbox.put(payload)
            assert outbox.has_room_to_spare
            outbox.put(payload)
            assert (False, True) == (outbox.has_room_to_spare, outbox.has_room_for_answers)
        # Half of its share; then half of what all may have.
        large.put(b"x" * 700)
        assert (False, True) == (large.has_room_to_spare, large.has_room_for_answers)
        few.take_now()
        assert few.has_room_to_spare
        large.put(b"x" * 1300)
        assert (False, True) == (few.has_room_to_spare, few.has_room_for_answers)


@pytest.mark.parametrize("key", ["device", "nobody"])
async def test_only_operators_tell(doors: Doors, key: str) -> None:
    client = doors.device() if key == "device" else httpx.AsyncClient(base_url=doors.url)
    async with client, connected(doors.url, doors.device_key) as peer:
        await peer.hear("Hello")
        reply = await client.post("/admin/broadcasts", json={"text": "Snow."})
        await peer.say("Ping")
        await peer.hear("Pong")

    assert (401, "urn:fieldpost:problem:unauthenticated") == (reply.status_code, reply.json()["type"])
    assert [] == _broadcasts(peer)
