"""Who hears what, over a bus that may be slow."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID, uuid4

import msgspec
import pytest

from fieldpost.messages.events import DEVICE_CHANNELS, Broadcast, DeviceEvent, ResponseChunk, device_channel
from fieldpost.ports.backends import Backends
from fieldpost.services.mailbox import Listener, Mailbox
from tests.support.slow_bus import SlowBus
from tests.support.waiting import eventually

#: Two devices of one channel.
DEVICE, NEIGHBOUR = 1, 1 + DEVICE_CHANNELS
CHANNEL = device_channel(DEVICE)


@pytest.fixture
def bus() -> SlowBus:
    return SlowBus()


@pytest.fixture
def mailbox(backends: Backends, bus: SlowBus) -> Mailbox:
    shared = msgspec.structs.replace(backends.shared, bus=bus)  # type: ignore[type-var]
    return Mailbox(msgspec.structs.replace(backends, shared=shared))


@asynccontextmanager
async def _running(mailbox: Mailbox) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(mailbox.run())
        await eventually(lambda: mailbox._subscription is not None)
        yield
        running.cancel()


def _chunk(request_id: UUID, *, device_id: int = DEVICE, text: str = "") -> DeviceEvent:
    return ResponseChunk(request_id=request_id, device_id=device_id, attempt=1, index=0, offset=0, text=text)


async def _publish(bus: SlowBus, events: Iterable[DeviceEvent]) -> None:
    for event in events:
        await bus.publish(device_channel(event.device_id), [event])


async def _heard(listener: Listener) -> list[UUID]:
    async with asyncio.timeout(30):
        return [event.request_id for event in await listener.receive() if isinstance(event, ResponseChunk)]


class _Visit:
    """A listener that comes, stays until it is told to go, and goes."""

    def __init__(self, mailbox: Mailbox, tasks: asyncio.TaskGroup) -> None:
        self.listener: Listener | None = None
        self._mailbox = mailbox
        self._leave = asyncio.Event()
        self.task = tasks.create_task(self._stay())

    async def go(self) -> None:
        self._leave.set()

    async def _stay(self) -> None:
        async with self._mailbox.listen(DEVICE) as self.listener:
            await self._leave.wait()


async def test_a_listener_for_a_request_hears_of_nothing_else(mailbox: Mailbox, bus: SlowBus) -> None:
    mine, other = uuid4(), uuid4()
    async with _running(mailbox), mailbox.listen(DEVICE) as everything, mailbox.listen(DEVICE, mine) as one:
        await _publish(bus, [_chunk(other), _chunk(mine, device_id=NEIGHBOUR), _chunk(mine)])

        assert [other, mine] == await _heard(everything)
        assert [mine] == await _heard(one)
        await _publish(bus, [_chunk(other)])
        assert [other] == await _heard(everything)
        assert not one._ready.is_set()


async def test_a_narrowed_listener_keeps_what_it_has_of_its_request_only(mailbox: Mailbox, bus: SlowBus) -> None:
    mine, other = uuid4(), uuid4()
    async with (
        _running(mailbox),
        mailbox.listen(DEVICE) as narrowed,
        mailbox.listen(DEVICE) as empty,
        mailbox.listen(DEVICE) as witness,
    ):
        await _publish(bus, [_chunk(other), _chunk(mine)])
        await _heard(witness)
        mailbox.narrow(narrowed, mine)
        mailbox.narrow(empty, uuid4())
        await _publish(bus, [_chunk(other), _chunk(mine)])
        await _heard(witness)

        assert [mine, mine] == await _heard(narrowed)
        # Nothing is left of others, which would look like a loss.
        assert not empty._ready.is_set()
    assert () == mailbox.device_ids
    assert not bus.channels


async def test_the_second_listener_of_a_channel_waits_until_the_first_has_it_followed(
    mailbox: Mailbox, bus: SlowBus
) -> None:
    async with _running(mailbox), asyncio.TaskGroup() as tasks:
        bus.gate.clear()
        first, second = _Visit(mailbox, tasks), _Visit(mailbox, tasks)
        await eventually(lambda: bus.calls == [f"follow {CHANNEL}"])
        await eventually(lambda: 2 == mailbox._wanted[CHANNEL])

        assert (None, None) == (first.listener, second.listener)
        bus.gate.set()
        await eventually(lambda: first.listener is not None and second.listener is not None)
        request_id = uuid4()
        await _publish(bus, [_chunk(request_id)])
        for visit in (first, second):
            assert visit.listener is not None
            assert [request_id] == await _heard(visit.listener)
            await visit.go()

    assert [f"follow {CHANNEL}", f"unfollow {CHANNEL}"] == bus.calls


async def test_a_listener_that_comes_while_the_last_one_leaves_hears(mailbox: Mailbox, bus: SlowBus) -> None:
    async with _running(mailbox), asyncio.TaskGroup() as tasks:
        first = _Visit(mailbox, tasks)
        await eventually(lambda: first.listener is not None)
        bus.gate.clear()
        await first.go()
        await eventually(lambda: f"unfollow {CHANNEL}" in bus.calls)
        second = _Visit(mailbox, tasks)
        await eventually(lambda: 1 == mailbox._wanted[CHANNEL])
        assert second.listener is None
        bus.gate.set()
        await eventually(lambda: second.listener is not None)
        request_id = uuid4()
        await _publish(bus, [_chunk(request_id)])

        assert second.listener is not None
        assert [request_id] == await _heard(second.listener)
        await second.go()

    assert not bus.channels


async def test_a_listener_that_gives_up_while_it_enters_leaves_the_next_one_a_followed_channel(
    mailbox: Mailbox, bus: SlowBus
) -> None:
    async with _running(mailbox), asyncio.TaskGroup() as tasks:
        bus.gate.clear()
        first, second = _Visit(mailbox, tasks), _Visit(mailbox, tasks)
        await eventually(lambda: bus.calls == [f"follow {CHANNEL}"] and 2 == mailbox._wanted[CHANNEL])
        first.task.cancel()
        await eventually(first.task.done)
        bus.gate.set()
        await eventually(lambda: second.listener is not None)

        assert bus.channels == {CHANNEL}
        await second.go()


async def test_listeners_that_came_before_the_subscription_was_made_are_told_to_look_and_hear(
    mailbox: Mailbox, bus: SlowBus
) -> None:
    bus.is_open.clear()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(mailbox.run())
        await asyncio.sleep(0)
        listener = await stack.enter_async_context(mailbox.listen(DEVICE))
        bus.is_open.set()
        async with asyncio.timeout(30):
            assert () == await listener.receive()
        request_id = uuid4()
        await _publish(bus, [_chunk(request_id)])

        assert [request_id] == await _heard(listener)
        running.cancel()


async def test_a_broadcast_to_a_list_is_left_to_who_hands_them_on_a_few_at_a_time(
    bus: SlowBus, mailbox: Mailbox
) -> None:
    request_id = uuid4()
    broadcast = Broadcast(broadcast_id=uuid4(), text="Depot 3 is closed.", device_ids=(DEVICE,))
    async with _running(mailbox), mailbox.listen(DEVICE) as listener:
        with mailbox.hear_broadcasts() as broadcasts:
            await bus.publish(CHANNEL, [broadcast])
            await _publish(bus, [_chunk(request_id)])
            async with asyncio.timeout(30):
                events = await listener.receive()

            assert [request_id] == [event.request_id for event in events if isinstance(event, ResponseChunk)]
            assert 1 == len(events)
            assert (broadcast,) == await broadcasts.receive()
        await bus.publish(CHANNEL, [broadcast])
        await _publish(bus, [_chunk(request_id)])

        # Nobody keeps what nobody hands on.
        assert [request_id] == await _heard(listener)
