"""What every shared state promises; see fieldpost.ports.shared."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import pytest_asyncio

from fieldpost.backends import memory
from fieldpost.backends.redis_cluster.opening import open_shared
from fieldpost.clock import SystemClock
from fieldpost.messages.broadcasts import MAX_DEVICES, MAX_TEXT_CHARACTERS, NewBroadcast
from fieldpost.messages.events import DEVICE_CHANNELS, Broadcast, CredentialsChanged, Event
from fieldpost.messages.instances import Instance
from fieldpost.ports.shared import MAX_UNREAD, Shared, Subscription
from fieldpost.services.broadcasting import events_of
from tests.support.clock import FakeClock
from tests.support.engines import Engines, SingleRedis
from tests.support.waiting import eventually

#: Long enough to stay true during a test, and short enough to wait for.
LONG_SECONDS = 600.0
SHORT_SECONDS = 0.2
#: Names differ from test to test: engines remember.
Named = Callable[[str], str]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def redis_single(engine_place: Engines) -> SingleRedis:
    return SingleRedis(engine_place)


@pytest_asyncio.fixture(params=["memory", "redis-cluster", "redis"])
async def shared(request: pytest.FixtureRequest, clock: FakeClock) -> AsyncIterator[Shared]:
    if request.param == "memory":
        yield memory.memory_shared(clock)
        return
    url = request.getfixturevalue("redis_cluster" if request.param == "redis-cluster" else "redis_single").url
    async with open_shared(url, clock=SystemClock(), instance="test") as opened:
        yield opened


@pytest.fixture
def named(request: pytest.FixtureRequest) -> Named:
    return lambda name: f"{request.node.name}.{name}"


def _event(number: int) -> Event:
    return CredentialsChanged(device_id=number)


def _numbers(events: Sequence[Event]) -> list[int]:
    return [event.device_id for event in events if isinstance(event, CredentialsChanged)]


async def _receive(subscription: Subscription) -> Sequence[Event]:
    async with asyncio.timeout(30):
        return await subscription.receive()


async def _hear(subscription: Subscription, count: int) -> list[int]:
    """The numbers of the next events, however they come."""
    numbers: list[int] = []
    while len(numbers) < count:
        events = await _receive(subscription)
        assert events, "a loss is told"
        numbers += _numbers(events)
    return numbers


async def test_subscribers_hear_what_is_published_after_they_came_in_order(shared: Shared, named: Named) -> None:
    a, b = named("a"), named("b")
    await shared.bus.publish(a, [_event(0)])
    async with shared.bus.subscribe([a]) as one, shared.bus.subscribe([a, b]) as other:
        await shared.bus.publish(a, [_event(1), _event(2)])
        await shared.bus.publish(b, [_event(3)])
        await shared.bus.publish(a, [_event(4)])

        assert [1, 2, 4] == await _hear(one, 3)
        heard = await _hear(other, 4)
        assert [1, 2, 4] == [number for number in heard if number != 3]
        assert 3 in heard


async def test_a_waiting_subscriber_wakes(shared: Shared, named: Named) -> None:
    async with shared.bus.subscribe([named("a")]) as subscription:
        waiting = asyncio.create_task(_receive(subscription))
        await asyncio.sleep(0)
        await shared.bus.publish(named("a"), [_event(1)])

        assert [1] == _numbers(await waiting)


async def test_a_cancelled_receive_loses_nothing(shared: Shared, named: Named) -> None:
    async with shared.bus.subscribe([named("a")]) as subscription:
        heard: list[int] = []
        for number in range(20):
            waiting = asyncio.create_task(_receive(subscription))
            await asyncio.sleep(0)
            await shared.bus.publish(named("a"), [_event(number)])
            waiting.cancel()
            await asyncio.wait([waiting])
            heard += [] if waiting.cancelled() else _numbers(waiting.result())

        assert list(range(20)) == heard + await _hear(subscription, 20 - len(heard))


async def test_channels_can_be_followed_and_unfollowed(shared: Shared, named: Named) -> None:
    async with shared.bus.subscribe([]) as subscription:
        await subscription.follow([named("a"), named("b")])
        await subscription.unfollow([named("a")])
        await shared.bus.publish(named("a"), [_event(1)])
        await shared.bus.publish(named("b"), [_event(2)])

        assert [2] == await _hear(subscription, 1)


async def test_a_channel_that_others_still_follow_is_not_lost_to_them(shared: Shared, named: Named) -> None:
    async with shared.bus.subscribe([named("a")]) as stays, shared.bus.subscribe([named("a")]) as leaves:
        await leaves.unfollow([named("a")])
        await shared.bus.publish(named("a"), [_event(1)])

        assert [1] == await _hear(stays, 1)


async def test_all_device_channels_can_be_followed(shared: Shared, named: Named) -> None:
    channels = [named(str(number)) for number in range(256)]
    async with shared.bus.subscribe(channels) as subscription:
        for number, channel in enumerate(channels):
            await shared.bus.publish(channel, [_event(number)])

        assert set(range(256)) == set(await _hear(subscription, 256))


@pytest.mark.parametrize("step", [1, DEVICE_CHANNELS], ids=["over all channels", "all on one channel"])
async def test_the_largest_broadcast_comes_through(shared: Shared, named: Named, step: int) -> None:
    devices = tuple(2**62 + number * step for number in range(MAX_DEVICES))
    new = NewBroadcast(text="😀" * MAX_TEXT_CHARACTERS, devices=devices)
    heard: set[int] = set()
    async with shared.bus.subscribe([named(f"devices.{number}") for number in range(DEVICE_CHANNELS)]) as subscription:
        while heard != set(devices):
            for channel, event in events_of(new, uuid4()):
                await shared.bus.publish(named(channel), [event])
            # A loss is told where the engine was slow; what is too large for it would never come.
            while heard != set(devices) and (events := await _receive(subscription)):
                heard |= {one for event in events if isinstance(event, Broadcast) for one in event.device_ids}


async def test_two_concurrent_first_subscribers_both_hear(shared: Shared, named: Named) -> None:
    async def hear() -> int:
        async with shared.bus.subscribe([named("a")]) as subscription:
            ready.release()
            return (await _hear(subscription, 1))[0]

    ready = asyncio.Semaphore(0)
    hearing = [asyncio.create_task(hear()) for _ in range(2)]
    for _ in hearing:
        await ready.acquire()
    await shared.bus.publish(named("a"), [_event(7)])

    assert [7, 7] == await asyncio.gather(*hearing)


async def test_a_subscriber_that_does_not_read_is_told_that_it_lost_something(shared: Shared, named: Named) -> None:
    async with shared.bus.subscribe([named("a")]) as sleeper, shared.bus.subscribe([named("a")]) as reader:
        for first in range(0, MAX_UNREAD + 1, 1000):
            await shared.bus.publish(named("a"), [_event(first + number) for number in range(1000)])
            await _hear(reader, 1000)

        assert () == await _receive(sleeper)
        await shared.bus.publish(named("a"), [_event(5)])
        while [5] != _numbers(await _receive(sleeper))[-1:]:
            pass


async def test_publishing_to_nobody_is_nothing(shared: Shared, named: Named) -> None:
    await shared.bus.publish(named("a"), [_event(1)])
    await shared.bus.publish(named("a"), [])


async def test_values_live_as_long_as_they_were_given(shared: Shared, clock: FakeClock, named: Named) -> None:
    await shared.values.put([(named("a"), b"1"), (named("b"), b"")], ttl_seconds=LONG_SECONDS)
    await shared.values.put([(named("short"), b"2")], ttl_seconds=SHORT_SECONDS)

    async def is_gone() -> bool:
        clock.advance(SHORT_SECONDS / 2)
        return await shared.values.get(named("short")) is None

    await eventually(is_gone)
    found = [await shared.values.get(named(name)) for name in ("a", "b", "c")]
    assert [b"1", b"", None] == found


async def test_many_values_can_be_put_at_once(shared: Shared, named: Named) -> None:
    await shared.values.put([(named(str(number)), b"%d" % number) for number in range(3000)], ttl_seconds=LONG_SECONDS)

    for first in range(0, 3000, 100):
        numbers = range(first, first + 100)
        found = await asyncio.gather(*(shared.values.get(named(str(number))) for number in numbers))
        assert [b"%d" % number for number in numbers] == found


async def test_what_many_callers_put_at_once_is_there_each_for_its_own_time(
    shared: Shared, clock: FakeClock, named: Named
) -> None:
    def seconds(number: int) -> float:
        return LONG_SECONDS if number % 3 else SHORT_SECONDS

    puts = (
        shared.values.put([(named(str(number)), b"%d" % number)], ttl_seconds=seconds(number)) for number in range(300)
    )
    cut_short = asyncio.create_task(shared.values.put([(named("cut"), b"")], ttl_seconds=LONG_SECONDS))
    await asyncio.sleep(0)
    cut_short.cancel()
    await asyncio.gather(*puts)

    async def are_gone() -> bool:
        clock.advance(SHORT_SECONDS / 2)
        return await shared.values.get(named("0")) is None and await shared.values.get(named("297")) is None

    await eventually(are_gone)
    found = [await shared.values.get(named(str(number))) for number in range(300) if number % 3]
    assert [b"%d" % number for number in range(300) if number % 3] == found


async def test_a_value_can_be_replaced(shared: Shared, named: Named) -> None:
    await shared.values.put([(named("a"), b"1")], ttl_seconds=LONG_SECONDS)
    await shared.values.put([(named("a"), b"2")], ttl_seconds=LONG_SECONDS)

    assert b"2" == await shared.values.get(named("a"))


async def test_a_lease_has_one_holder_until_it_runs_out(shared: Shared, clock: FakeClock, named: Named) -> None:
    for name in ("renewed", "left"):
        assert await shared.leases.acquire(named(name), holder="a", ttl_seconds=SHORT_SECONDS)
    assert await shared.leases.acquire(named("renewed"), holder="a", ttl_seconds=LONG_SECONDS)

    async def is_free() -> bool:
        clock.advance(SHORT_SECONDS / 2)
        return await shared.leases.acquire(named("left"), holder="b", ttl_seconds=LONG_SECONDS)

    await eventually(is_free)
    assert not await shared.leases.acquire(named("left"), holder="a", ttl_seconds=LONG_SECONDS)
    assert not await shared.leases.acquire(named("renewed"), holder="b", ttl_seconds=LONG_SECONDS)
    assert await shared.leases.acquire(named("renewed"), holder="a", ttl_seconds=LONG_SECONDS)


async def test_of_many_who_ask_at_once_one_gets_the_lease(shared: Shared, named: Named) -> None:
    asking = [shared.leases.acquire(named("l"), holder=str(number), ttl_seconds=LONG_SECONDS) for number in range(50)]

    assert 1 == sum(await asyncio.gather(*asking))


async def test_only_the_holder_gives_a_lease_up(shared: Shared, named: Named) -> None:
    await shared.leases.acquire(named("l"), holder="a", ttl_seconds=LONG_SECONDS)

    await shared.leases.release(named("l"), holder="b")
    assert not await shared.leases.acquire(named("l"), holder="b", ttl_seconds=LONG_SECONDS)
    await shared.leases.release(named("l"), holder="a")
    assert await shared.leases.acquire(named("l"), holder="b", ttl_seconds=LONG_SECONDS)


def _instance(identity: str, role: str, **changes: bool) -> Instance:
    started_at = datetime(2026, 1, 1, tzinfo=UTC)
    return Instance(id=identity, role=role, host="127.0.0.1", port=5001, started_at=started_at, **changes)


async def test_instances_are_listed_by_role_as_they_were_last_announced(shared: Shared, named: Named) -> None:
    role, b, a = named("hub"), named("b"), named("a")
    await shared.instances.announce(_instance(b, role), ttl_seconds=LONG_SECONDS)
    await shared.instances.announce(_instance(a, role), ttl_seconds=LONG_SECONDS)
    await shared.instances.announce(_instance(named("c"), named("gateway")), ttl_seconds=LONG_SECONDS)
    await shared.instances.announce(_instance(b, role, is_ready=True), ttl_seconds=LONG_SECONDS)

    assert [_instance(a, role), _instance(b, role, is_ready=True)] == await shared.instances.list(role)
    assert {a, b, named("c")} <= {instance.id for instance in await shared.instances.list()}
    assert [] == await shared.instances.list(named("nobody"))


async def test_instances_go_when_they_are_withdrawn_or_silent(shared: Shared, clock: FakeClock, named: Named) -> None:
    role = named("hub")
    await shared.instances.announce(_instance(named("stays"), role), ttl_seconds=LONG_SECONDS)
    await shared.instances.announce(_instance(named("leaves"), role), ttl_seconds=LONG_SECONDS)
    await shared.instances.announce(_instance(named("dies"), role), ttl_seconds=SHORT_SECONDS)
    await shared.instances.withdraw(named("leaves"))
    await shared.instances.withdraw(named("unknown"))

    async def is_alone() -> bool:
        clock.advance(SHORT_SECONDS / 2)
        return [named("stays")] == [instance.id for instance in await shared.instances.list(role)]

    await eventually(is_alone)
