"""What one processor's dispatcher does while another one holds the lease."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from fieldpost.messages.requests import Priority
from fieldpost.ports.backends import Backends
from fieldpost.services.dispatching import Dispatcher
from fieldpost.services.leases import HeldLease
from fieldpost.services.queues import work_queue
from fieldpost.settings import Settings
from tests.support.clock import FakeClock
from tests.support.messages import a_request
from tests.support.waiting import eventually

_LEASE = "dispatcher.shard1"


@pytest.fixture
async def other(settings: Settings, backends: Backends, clock: FakeClock) -> AsyncIterator[Dispatcher]:
    """Runs without the lease."""
    await backends.shared.leases.acquire(_LEASE, holder="the holder", ttl_seconds=3600)
    lease = HeldLease(leases=backends.shared.leases, clock=clock, name=_LEASE, holder="me", ttl_seconds=10)
    dispatcher = Dispatcher(settings=settings, backends=backends, clock=clock, shard="shard1", lease=lease)
    running = asyncio.create_task(dispatcher.run())
    yield dispatcher
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def _is_chosen(dispatcher: Dispatcher, clock: FakeClock) -> bool:
    request = a_request(model="echo")
    clock.advance(0.25)
    return await dispatcher.choose([request]) == {request.id}


async def test_what_is_recorded_without_the_lease_goes_straight_to_the_workers(
    other: Dispatcher, clock: FakeClock
) -> None:
    await eventually(lambda: _is_chosen(other, clock))


async def test_without_the_lease_nothing_goes_ahead_of_what_waits(
    other: Dispatcher, settings: Settings, backends: Backends, clock: FakeClock
) -> None:
    await eventually(lambda: _is_chosen(other, clock))
    queue = work_queue("echo", Priority.NORMAL)
    full = [b"job"] * settings.queues.max_work
    await backends.broker.publish(queue, full)
    waiting = a_request(model="echo")
    await backends.ledgers["shard1"].records.record([waiting], dispatched=set(), now=clock.now())
    assert not await _is_chosen(other, clock)

    # Room becomes free: whoever holds the lease sends what waits first.
    async with backends.broker.consume([queue], prefetch=len(full)) as consumer:
        await consumer.ack(await consumer.receive(len(full)))
    for _ in range(5):
        assert not await _is_chosen(other, clock)

    dispatch = backends.ledgers["shard1"].dispatch
    (job,) = await dispatch.take("echo", Priority.NORMAL, after_device=0, limit=10, now=clock.now())
    assert waiting.id == job.request_id
    await eventually(lambda: _is_chosen(other, clock))
