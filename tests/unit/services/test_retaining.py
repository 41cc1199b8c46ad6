"""Removing what was kept long enough."""

import asyncio
from uuid import UUID

import pytest

from fieldpost.messages.requests import Request
from fieldpost.ports.backends import Backends
from fieldpost.ports.ledger_values import Finish
from fieldpost.services.leases import HeldLease
from fieldpost.services.retaining import Retaining
from fieldpost.settings import Settings
from tests.support.clock import FakeClock
from tests.support.messages import a_request, a_response
from tests.support.waiting import eventually

DAY_SECONDS = 86_400


@pytest.fixture
def lease(backends: Backends, clock: FakeClock) -> HeldLease:
    return HeldLease(leases=backends.shared.leases, clock=clock, name="dispatcher.shard1", holder="me", ttl_seconds=10)


@pytest.fixture
def retaining(settings: Settings, backends: Backends, clock: FakeClock, lease: HeldLease) -> Retaining:
    return Retaining(settings=settings, backends=backends, clock=clock, shard="shard1", lease=lease)


async def _answered(backends: Backends, clock: FakeClock, *, acknowledged: bool) -> UUID:
    ledger = backends.ledgers["shard1"]
    request: Request = a_request()
    now = clock.now()
    await ledger.records.record([request], dispatched={request.id}, now=now)
    (claim,) = await ledger.claims.claim([request.id], holder="w", now=now, until=now)
    response = a_response(request, attempts=claim.attempt)
    await ledger.claims.finish([Finish(request_id=request.id, attempt=claim.attempt, response=response)], [], now=now)
    if acknowledged:
        await ledger.deliveries.acknowledge([request.id], request.device_id, now=now)
    return request.id


async def _is_there(backends: Backends, request_id: UUID) -> bool:
    return await backends.ledgers["shard1"].records.status(request_id, 1) is not None


async def test_what_ended_is_kept_for_its_days_and_what_has_not_is_kept(
    backends: Backends, clock: FakeClock, retaining: Retaining
) -> None:
    clock.advance(365 * DAY_SECONDS)
    waiting = a_request()
    await backends.ledgers["shard1"].records.record([waiting], dispatched=set(), now=clock.now())
    fetched = await _answered(backends, clock, acknowledged=True)
    unfetched = await _answered(backends, clock, acknowledged=False)

    clock.advance(30 * DAY_SECONDS - 60)
    assert 0 == await retaining.remove_some()
    assert await _is_there(backends, fetched)

    clock.advance(120)
    await retaining.remove_some()
    assert not await _is_there(backends, fetched)
    assert not await _is_there(backends, unfetched)
    assert await _is_there(backends, waiting.id)


async def test_only_the_holder_of_the_lease_removes(
    backends: Backends, clock: FakeClock, lease: HeldLease, settings: Settings, retaining: Retaining
) -> None:
    fetched = await _answered(backends, clock, acknowledged=True)
    clock.advance(400 * DAY_SECONDS)
    await backends.shared.leases.acquire("dispatcher.shard1", holder="another", ttl_seconds=3600)
    running = asyncio.create_task(retaining.run())
    await eventually(lambda: bool(clock._sleepers))
    assert await _is_there(backends, fetched)

    await backends.shared.leases.release("dispatcher.shard1", holder="another")
    clock.advance(60)
    await eventually(lambda: bool(clock._sleepers))
    assert not await _is_there(backends, fetched)
    running.cancel()
    await asyncio.wait([running])
