"""Many processes write one ledger at once: what one SQLite writer never had to stand."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from fieldpost.backends.postgresql.opening import Shard, open_shard
from fieldpost.clock import SystemClock
from fieldpost.errors import ConflictError
from fieldpost.messages.devices import DeviceKind
from fieldpost.messages.requests import Priority, Request, RequestState
from fieldpost.ports.ledger_values import Claim, Finish, RecordOutcome, Retry
from fieldpost.services.endings import EXPIRED, too_many_deaths
from tests.support import engines
from tests.support.messages import a_request, a_response, at

PROCESSES = 6


@pytest.fixture
async def shards(postgresql: engines.PostgreSQL) -> AsyncIterator[list[Shard]]:
    """One database as several processes have it: each with connections of its own."""
    url = postgresql.make_database()
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                open_shard(f"process{number}", url, pool_size=4, clock=SystemClock(), synchronous="off")
            )
            for number in range(PROCESSES)
        ]
    postgresql.drop_database(url)


async def _record(shard: Shard, *requests: Request) -> dict[UUID, RecordOutcome]:
    return dict(await shard.ledger.records.record(requests, dispatched={r.id for r in requests}, now=at(0)))


async def _claim(shard: Shard, *requests: Request, lasts: float = 15) -> list[Claim]:
    ids = [request.id for request in requests]
    return list(await shard.ledger.claims.claim(ids, holder=shard.name, now=at(1), until=at(1 + lasts)))


async def test_of_many_that_record_one_request_one_is_first(shards: list[Shard]) -> None:
    for _ in range(20):
        request = a_request()

        outcomes = await asyncio.gather(*(_record(shard, request) for shard in shards))

        found = sorted(outcome[request.id] for outcome in outcomes)
        assert [RecordOutcome.DUPLICATE] * (PROCESSES - 1) + [RecordOutcome.NEW] == found


async def test_of_many_bodies_under_one_id_one_stands_and_the_others_are_dead_letters(shards: list[Shard]) -> None:
    request_id = a_request().id
    requests = [a_request(id=request_id, prompt=f"{number}") for number in range(PROCESSES)]

    outcomes = await asyncio.gather(*(_record(shard, request) for shard, request in zip(shards, requests, strict=True)))

    found = [outcome[request_id] for outcome in outcomes]
    letters = await shards[0].ledger.records.dead_letters(before=None, limit=100)
    standing = (await shards[0].ledger.records.standings([request_id]))[request_id]
    assert 1 == found.count(RecordOutcome.NEW)
    assert PROCESSES - 1 == found.count(RecordOutcome.CONFLICT) == len(letters)
    assert requests[found.index(RecordOutcome.NEW)].body_hash == standing.body_hash


async def test_a_cancellation_that_races_its_request_is_never_lost(shards: list[Shard]) -> None:
    for number in range(60):
        request = a_request()

        await asyncio.gather(
            _record(shards[number % PROCESSES], request),
            shards[(number + 1) % PROCESSES].ledger.records.cancel(request.id, 1, expected=True, now=at(0)),
        )

        status = await shards[0].ledger.records.status(request.id, 1)
        assert status is not None
        assert RequestState.CANCELLED == status.status


async def test_new_batches_that_share_requests_never_wait_in_a_circle(shards: list[Shard]) -> None:
    source = random.Random(7)

    with capture_logs() as logs:
        for _ in range(10):
            requests = [a_request() for _ in range(100)]
            await asyncio.gather(*(_record(shard, *source.sample(requests, len(requests))) for shard in shards))

    assert [] == [entry for entry in logs if entry["event"] == "transaction_repeated"]


async def test_batches_that_share_requests_never_wait_in_a_circle(shards: list[Shard]) -> None:
    source = random.Random(7)
    requests = [a_request() for _ in range(60)]
    # One by one, so that they lie in the table in another order than that of their ids.
    for request in requests:
        await _record(shards[0], request)

    async def shuffle(shard: Shard) -> None:
        for _ in range(8):
            batch = source.sample(requests, len(requests))
            ids = [request.id for request in batch]
            await _record(shard, *batch)
            claims = await _claim(shard, *batch)
            attempts = {claim.request.id: claim.attempt for claim in claims}
            await shard.ledger.claims.renew(attempts, now=at(2), until=at(30))
            await shard.ledger.claims.release(attempts, now=at(3))
            await shard.ledger.dispatch.take("library", Priority.NORMAL, after_device=0, limit=30, now=at(4))
            await shard.ledger.deliveries.acknowledge(ids, 1, now=at(3))

    with capture_logs() as logs:
        await asyncio.gather(*(shuffle(shard) for shard in shards))

    assert [] == [entry for entry in logs if entry["event"] == "transaction_repeated"]
    counted = await shards[0].ledger.records.page(
        1, state=RequestState.QUEUED, before=None, limit=100, limit_bytes=2**30
    )
    assert len(requests) == len(counted.entries)


async def test_a_claim_is_given_to_one_of_many_and_one_answer_counts(shards: list[Shard]) -> None:
    requests = [a_request() for _ in range(40)]
    await _record(shards[0], *requests)

    claimed = await asyncio.gather(*(_claim(shard, *requests) for shard in shards))
    given = [claim.request.id for claims in claimed for claim in claims]
    finishes = [Finish(request_id=r.id, attempt=1, response=a_response(r)) for r in requests]
    finished = await asyncio.gather(*(shard.ledger.claims.finish(finishes, [], now=at(2)) for shard in shards))

    ended = [entry.request_id for entries in finished for entry in entries]
    assert sorted(r.id for r in requests) == sorted(given) == sorted(ended)


async def test_whoever_reaps_finishes_or_claims_at_once_one_end_stands(shards: list[Shard]) -> None:
    requests = [a_request(deadline_at=at(100)) for _ in range(30)]
    ids = [request.id for request in requests]
    await _record(shards[0], *requests)
    await _claim(shards[0], *requests, lasts=5)
    finishes = [Finish(request_id=r.id, attempt=1, response=a_response(r)) for r in requests]
    retries = [Retry(request_id=r.id, attempt=1, not_before=at(3)) for r in requests[::2]]

    async def reap(shard: Shard) -> list[UUID]:
        reaped = await shard.ledger.dispatch.reap(
            max_deaths=9, too_many_deaths=too_many_deaths(9), expired=EXPIRED, now=at(50), limit=100
        )
        assert not reaped.finished
        return list(reaped.requeued)

    async def again(shard: Shard) -> list[Claim]:
        return list(await shard.ledger.claims.claim(ids, holder=shard.name, now=at(60), until=at(70)))

    requeued, others, claims, claims_too, ended, _ = await asyncio.gather(
        reap(shards[0]),
        reap(shards[1]),
        again(shards[2]),
        again(shards[3]),
        shards[4].ledger.claims.finish(finishes, [], now=at(50)),
        shards[5].ledger.claims.finish([], retries, now=at(50)),
    )

    second = [claim.request.id for claim in (*claims, *claims_too)]
    states = [await shards[0].ledger.records.status(request_id, 1) for request_id in ids]
    succeeded = {status.id for status in states if status is not None and status.status is RequestState.SUCCEEDED}
    assert len(set(requeued) | set(others)) == len(requeued) + len(others)
    assert len(set(second)) == len(second)
    # Ended by the first attempt, or out of its hands: never both.
    assert {entry.request_id for entry in ended} == succeeded
    assert not succeeded & set(second)


async def test_many_add_devices_at_once_and_get_ids_in_order(shards: list[Shard]) -> None:
    async def add(shard: Shard) -> int:
        return (await shard.devices.add(kind=DeviceKind.TRUCK, name="x", key_hash=b"k", now=at(0))).id

    ids = await asyncio.gather(*(add(shard) for shard in shards * 5))

    assert set(range(1, 5 * PROCESSES + 1)) == set(ids)


async def test_a_chosen_id_is_given_to_one_of_many(shards: list[Shard]) -> None:
    async def add(shard: Shard) -> bool:
        try:
            await shard.devices.add(kind=DeviceKind.TRUCK, name="x", key_hash=b"k", now=at(0), device_id=17)
        except ConflictError:
            return False
        return True

    assert 1 == sum(await asyncio.gather(*(add(shard) for shard in shards)))


async def test_what_one_purges_no_other_one_waits_for(shards: list[Shard]) -> None:
    requests = [a_request() for _ in range(50)]
    await _record(shards[0], *requests)
    await _claim(shards[0], *requests)
    finishes = [Finish(request_id=r.id, attempt=1, response=a_response(r)) for r in requests]
    await shards[0].ledger.claims.finish(finishes, [], now=at(2))
    await shards[0].ledger.deliveries.acknowledge([r.id for r in requests], 1, now=at(3))

    removed = await asyncio.gather(
        *(
            shard.ledger.records.purge(acknowledged_before=at(10), undelivered_before=at(10), limit=20)
            for shard in shards
        )
    )

    assert len(requests) == sum(removed)
