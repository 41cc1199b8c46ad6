"""What every shared state promises; see fieldpost.ports.shared."""

import asyncio
from collections.abc import Sequence

import pytest

from fieldpost.backends import memory
from fieldpost.messages.events import CredentialsChanged, Event
from fieldpost.ports.shared import Shared, Subscription
from tests.support.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def shared(clock: FakeClock) -> Shared:
    return memory.memory_shared(clock)


def _event(number: int) -> Event:
    return CredentialsChanged(device_id=number)


async def _receive(subscription: Subscription) -> Sequence[Event]:
    async with asyncio.timeout(10):
        return await subscription.receive()


async def test_subscribers_hear_what_is_published_after_they_came_in_order(shared: Shared) -> None:
    await shared.bus.publish("a", [_event(0)])
    async with shared.bus.subscribe(["a"]) as one, shared.bus.subscribe(["a", "b"]) as other:
        await shared.bus.publish("a", [_event(1), _event(2)])
        await shared.bus.publish("b", [_event(3)])

        assert [1, 2] == [event.device_id for event in await _receive(one)]
        assert [1, 2, 3] == [event.device_id for event in await _receive(other)]


async def test_a_waiting_subscriber_wakes(shared: Shared) -> None:
    async with shared.bus.subscribe(["a"]) as subscription:
        waiting = asyncio.create_task(_receive(subscription))
        await asyncio.sleep(0)
        await shared.bus.publish("a", [_event(1)])

        assert [1] == [event.device_id for event in await waiting]


async def test_channels_can_be_followed_and_unfollowed(shared: Shared) -> None:
    async with shared.bus.subscribe([]) as subscription:
        await subscription.follow(["a", "b"])
        await subscription.unfollow(["a"])
        await shared.bus.publish("a", [_event(1)])
        await shared.bus.publish("b", [_event(2)])

        assert [2] == [event.device_id for event in await _receive(subscription)]


async def test_two_concurrent_first_subscribers_both_hear(shared: Shared) -> None:
    async def hear() -> int:
        async with shared.bus.subscribe(["a"]) as subscription:
            ready.release()
            return (await _receive(subscription))[0].device_id

    ready = asyncio.Semaphore(0)
    hearing = [asyncio.create_task(hear()) for _ in range(2)]
    for _ in hearing:
        await ready.acquire()
    await shared.bus.publish("a", [_event(7)])

    assert [7, 7] == await asyncio.gather(*hearing)


async def test_a_subscriber_that_does_not_read_is_told_that_it_lost_something(shared: Shared) -> None:
    async with shared.bus.subscribe(["a"]) as subscription:
        for number in range(memory.MAX_UNREAD + 1):
            await shared.bus.publish("a", [_event(number)])

        assert () == await _receive(subscription)
        await shared.bus.publish("a", [_event(5)])
        assert [5] == [event.device_id for event in await _receive(subscription)]


async def test_publishing_to_nobody_is_nothing(shared: Shared) -> None:
    await shared.bus.publish("a", [_event(1)])


async def test_values_live_as_long_as_they_were_given(shared: Shared, clock: FakeClock) -> None:
    await shared.values.put([("a", b"1"), ("b", b"")], ttl_seconds=10)

    assert (b"1", b"", None) == (
        await shared.values.get("a"),
        await shared.values.get("b"),
        await shared.values.get("c"),
    )
    clock.advance(10)
    assert await shared.values.get("a") is None


async def test_a_value_can_be_replaced(shared: Shared) -> None:
    await shared.values.put([("a", b"1")], ttl_seconds=10)
    await shared.values.put([("a", b"2")], ttl_seconds=10)

    assert b"2" == await shared.values.get("a")


async def test_a_lease_has_one_holder_until_it_runs_out(shared: Shared, clock: FakeClock) -> None:
    assert await shared.leases.acquire("l", holder="a", ttl_seconds=10)
    assert not await shared.leases.acquire("l", holder="b", ttl_seconds=10)
    clock.advance(9)
    assert await shared.leases.acquire("l", holder="a", ttl_seconds=10)
    clock.advance(9)
    assert not await shared.leases.acquire("l", holder="b", ttl_seconds=10)
    clock.advance(1)
    assert await shared.leases.acquire("l", holder="b", ttl_seconds=10)


async def test_only_the_holder_gives_a_lease_up(shared: Shared) -> None:
    await shared.leases.acquire("l", holder="a", ttl_seconds=10)

    await shared.leases.release("l", holder="b")
    assert not await shared.leases.acquire("l", holder="b", ttl_seconds=10)
    await shared.leases.release("l", holder="a")
    assert await shared.leases.acquire("l", holder="b", ttl_seconds=10)
