"""A primary with replicas: commits that are confirmed, reads that are not stale, and a failover that loses nothing."""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from fieldpost.backends.postgresql.confirming import Synchronous
from fieldpost.backends.postgresql.opening import Shard, open_shard
from fieldpost.clock import SystemClock
from fieldpost.errors import BackendTimeoutError, BackendUnavailableError, UnavailableError
from fieldpost.messages.requests import Channel, Priority, Request, RequestState
from fieldpost.ports.ledger_values import Finish, RecordOutcome
from fieldpost.services.checks import Checks
from fieldpost.services.read_counts import ReadCounts
from fieldpost.settings import DataSettings, Settings
from fieldpost.wiring.opening import open_backends
from tests.support import engines
from tests.support.messages import a_request, a_response, at
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def servers(engine_place: engines.Engines) -> Iterator[engines.ReplicatedPostgreSQL]:
    """A primary and one replica that confirms."""
    servers = engines.ReplicatedPostgreSQL(engine_place)
    yield servers
    for number in (0, 1):
        servers.kill(number)


@pytest.fixture
def pair(servers: engines.ReplicatedPostgreSQL) -> Iterator[engines.ReplicatedPostgreSQL]:
    """With a database of the test's own."""
    servers.new_database()
    yield servers
    servers.recover()


def _open(
    pair: engines.ReplicatedPostgreSQL, synchronous: Synchronous = "quorum", *, patience_seconds: float = 10.0
) -> AbstractAsyncContextManager[Shard]:
    return open_shard(
        "shard1",
        pair.urls[0],
        replicas=pair.urls[1:],
        pool_size=4,
        clock=SystemClock(),
        synchronous=synchronous,
        patience_seconds=patience_seconds,
    )


async def _record(shard: Shard, *requests: Request) -> list[RecordOutcome]:
    return list((await shard.ledger.records.record(requests, dispatched=(), now=at(0))).values())


async def _answer(shard: Shard, request: Request) -> None:
    await shard.ledger.claims.claim([request.id], holder="w", now=at(1), until=at(20))
    finish = Finish(request_id=request.id, attempt=1, response=a_response(request))
    assert await shard.ledger.claims.finish([finish], [], now=at(2))


async def _state(shard: Shard, request: Request) -> RequestState:
    status = await shard.ledger.records.status(request.id, request.device_id)
    assert status is not None
    return status.status


def _is_read(shard: Shard) -> bool:
    return all(replica.is_read for replica in shard.status().replicas)


def _count(pair: engines.ReplicatedPostgreSQL, number: int) -> int:
    rows: list[Any] = pair.execute(number, "SELECT count(*) FROM requests")
    return int(rows[0][0])


# Reads


async def test_what_is_final_is_read_from_a_replica_and_the_rest_from_the_primary(
    pair: engines.ReplicatedPostgreSQL,
) -> None:
    request, answered = a_request(), a_request()
    async with _open(pair) as shard:
        await _record(shard, request, answered)
        await _answer(shard, answered)
        await eventually(lambda: _is_read(shard))
        await eventually(lambda: _is_final_on_replica(pair))

        assert RequestState.SUCCEEDED == await _state(shard, answered)
        assert (1, 0) == (shard.status().replica_reads, shard.status().primary_reads)
        assert RequestState.QUEUED == await _state(shard, request)
        assert (1, 1) == (shard.status().replica_reads, shard.status().primary_reads)


async def test_looking_for_work_costs_the_primary_nothing_until_there_is_some(
    pair: engines.ReplicatedPostgreSQL,
) -> None:
    async with _open(pair) as shard:
        await eventually(lambda: _is_read(shard))
        dispatch, deliveries, files = shard.ledger.dispatch, shard.ledger.deliveries, shard.ledger.waiting_files

        assert not await dispatch.is_waiting("library", Priority.NORMAL, now=at(1))
        assert {} == await dispatch.queued_for_others(["library"])
        assert not (await deliveries.undelivered_files(limit=1, limit_bytes=1, is_sweep=True)).answers
        assert not await files.page(after=None, limit=1, is_sweep=True)
        assert (4, 0) == (shard.reads.replica, shard.reads.primary)

        # Somebody has just said that there is some.
        await deliveries.undelivered_files(limit=1, limit_bytes=1)
        await files.page(after=None, limit=1)
        assert (4, 2) == (shard.reads.replica, shard.reads.primary)


async def test_a_folder_answer_that_a_replica_shows_is_asked_again_of_the_primary(
    pair: engines.ReplicatedPostgreSQL,
) -> None:
    request = a_request(channel=Channel.FOLDER, file_name="a.txt")
    async with _open(pair) as shard:
        await _record(shard, request)
        await _answer(shard, request)
        await eventually(lambda: _is_read(shard))
        await eventually(lambda: _is_final_on_replica(pair))
        # The replica stands still where the answer was not delivered yet.
        pair.execute(1, "SELECT pg_wal_replay_pause()")
        try:
            await shard.ledger.deliveries.acknowledge([request.id], 1, now=at(3))

            page = await shard.ledger.deliveries.undelivered_files(limit=1, limit_bytes=1, is_sweep=True)
        finally:
            pair.execute(1, "SELECT pg_wal_replay_resume()")

        assert not page.answers
        assert 1 == shard.reads.primary


async def test_reads_are_counted_in_the_metrics(pair: engines.ReplicatedPostgreSQL) -> None:
    registry = CollectorRegistry()
    async with _open(pair) as shard:
        registry.register(ReadCounts({shard.name: shard.reads}))
        await eventually(lambda: _is_read(shard))
        await shard.ledger.dispatch.is_waiting("library", Priority.NORMAL, now=at(1))
        await shard.ledger.records.standings([])

    told = generate_latest(registry).decode()
    assert f'fieldpost_database_reads_total{{node="primary",shard="{shard.name}"}} 1.0' in told
    assert f'fieldpost_database_reads_total{{node="replica",shard="{shard.name}"}} 1.0' in told


def _is_final_on_replica(pair: engines.ReplicatedPostgreSQL) -> bool:
    return bool(pair.execute(1, "SELECT 1 FROM requests WHERE state >= 2"))


async def test_a_device_never_reads_an_older_state_than_it_was_told(pair: engines.ReplicatedPostgreSQL) -> None:
    async with _open(pair) as shard:
        await eventually(lambda: _is_read(shard))
        for _ in range(30):
            request = a_request()
            await _record(shard, request)
            assert RequestState.QUEUED == await _state(shard, request)
            await _answer(shard, request)
            assert RequestState.SUCCEEDED == await _state(shard, request)


async def test_a_replica_that_falls_behind_is_left_out_and_comes_back(pair: engines.ReplicatedPostgreSQL) -> None:
    request = a_request()
    async with _open(pair) as shard:
        await eventually(lambda: _is_read(shard))
        pair.execute(1, "SELECT pg_wal_replay_pause()")
        await eventually(lambda: pair.execute(1, "SELECT pg_get_wal_replay_pause_state()")[0][0] == "paused")

        await _record(shard, request)
        await _answer(shard, request)
        told = await _state(shard, request)
        await eventually(lambda: not _is_read(shard))
        lag = shard.status().replicas[0].lag_seconds
        page = await shard.ledger.records.page(1, state=None, before=None, limit=10, limit_bytes=10**6)

        pair.execute(1, "SELECT pg_wal_replay_resume()")
        await eventually(lambda: _is_read(shard))

    assert RequestState.SUCCEEDED == told
    assert lag is not None
    assert lag > 0
    assert [request.id] == [entry[1].id for entry in page.entries]


async def test_a_replica_that_idles_is_not_behind(pair: engines.ReplicatedPostgreSQL) -> None:
    async with _open(pair) as shard:
        await eventually(lambda: _is_read(shard))

        for _ in range(3):
            await shard.look()
            assert _is_read(shard)


async def test_without_a_replica_the_primary_serves(pair: engines.ReplicatedPostgreSQL) -> None:
    request = a_request()
    async with _open(pair) as shard:
        await eventually(lambda: _is_read(shard))
        await _record(shard, request)
        await _answer(shard, request)

        pair.kill(1)

        assert RequestState.SUCCEEDED == await _state(shard, request)
        await eventually(lambda: not _is_read(shard))
        assert RequestState.SUCCEEDED == await _state(shard, request)


async def test_what_is_final_is_still_told_without_a_primary(pair: engines.ReplicatedPostgreSQL) -> None:
    request = a_request()
    async with _open(pair) as shard:
        await _record(shard, request)
        await _answer(shard, request)
        await eventually(lambda: _is_read(shard))
        await eventually(lambda: _is_final_on_replica(pair))

        pair.kill(0)

        assert RequestState.SUCCEEDED == await _state(shard, request)
        with pytest.raises(BackendUnavailableError):
            await _record(shard, a_request())


async def test_a_processor_whose_primary_is_gone_is_not_ready_though_replicas_answer(
    pair: engines.ReplicatedPostgreSQL, tmp_path: Path
) -> None:
    settings = Settings(data=DataSettings(directory=str(tmp_path)))
    async with open_backends(settings, SystemClock()) as embedded, _open(pair) as shard:
        backends = msgspec.structs.replace(embedded, ledgers={shard.name: shard.ledger})
        checks = Checks(backends=backends, clock=SystemClock(), roles=["processor"])
        await checks.look()
        before = (checks.reasons(), checks.degraded())
        await eventually(lambda: _is_read(shard))

        pair.kill(0)
        await shard.ledger.records.dead_letters(before=None, limit=1)
        await checks.look()

    assert ([], []) == before
    assert (["every ledger is away"], ["ledger.shard1"]) == (checks.reasons(), checks.degraded())


async def test_a_replica_is_not_written_to(pair: engines.ReplicatedPostgreSQL) -> None:
    async with open_shard("shard1", pair.urls[1], pool_size=2, clock=SystemClock()) as shard:
        with pytest.raises(BackendUnavailableError, match="replica"):
            await _record(shard, a_request())
        with pytest.raises(BackendUnavailableError, match="replica"):
            await shard.ledger.records.status(a_request().id, 1)


# Confirmed commits


async def test_a_commit_that_no_replica_confirms_in_time_is_unknown_and_nobody_sees_it(
    pair: engines.ReplicatedPostgreSQL,
) -> None:
    request = a_request()
    async with _open(pair, "wait", patience_seconds=1.5) as shard:
        await _record(shard, a_request())
        with freeze(pair):
            with pytest.raises(BackendTimeoutError):
                await _record(shard, request)
            seen = _count(pair, 0)
            # It is neither there nor not there: the same again has to wait for it.
            with pytest.raises(UnavailableError):
                await _record(shard, request)

        await eventually(lambda: _count(pair, 0) == 2)
        outcomes = await _record(shard, request)

    assert 1 == seen
    assert [RecordOutcome.DUPLICATE] == outcomes


async def test_a_caller_that_gives_up_does_not_end_the_wait_for_a_replica(pair: engines.ReplicatedPostgreSQL) -> None:
    async with _open(pair, "wait") as shard:
        await _record(shard, a_request())
        with freeze(pair):
            task = asyncio.create_task(_record(shard, a_request()))
            await eventually(lambda: _waiting(pair) == 1)

            task.cancel()
            await asyncio.wait([task])

            assert task.cancelled()
            # A connection that hears of a request to cancel would have stopped waiting by now.
            await shard.ledger.records.standings([])
            assert (1, 1) == (_waiting(pair), _count(pair, 0))

        await eventually(lambda: _count(pair, 0) == 2)


async def test_a_commit_whose_wait_the_server_gives_up_is_unknown_and_said_again_only_when_confirmed(
    pair: engines.ReplicatedPostgreSQL,
) -> None:
    request = a_request()
    async with _open(pair, "wait", patience_seconds=3.0) as shard:
        await _record(shard, a_request())
        with freeze(pair):
            task = asyncio.create_task(_record(shard, request))
            await eventually(lambda: _waiting(pair) == 1)
            pair.execute(0, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
            with pytest.raises(BackendTimeoutError):
                await task
            seen = _count(pair, 0)
            # The row is there to be seen, on one disk: saying "recorded already" would promise too much.
            with pytest.raises(BackendTimeoutError):
                await _record(shard, request)

        await eventually(lambda: _waiting(pair) == 0)
        outcomes = await _record(shard, request)

    assert 2 == seen
    assert [RecordOutcome.DUPLICATE] == outcomes


async def test_without_a_replica_it_goes_on_and_says_so(pair: engines.ReplicatedPostgreSQL) -> None:
    async with _open(pair, "quorum", patience_seconds=3.0) as shard:
        await _record(shard, a_request())
        await eventually(lambda: _is_read(shard))
        before = shard.status().is_alone
        pair.kill(1)

        await eventually(lambda: shard.status().is_alone)
        alone = await _record(shard, a_request())
        await asyncio.to_thread(pair.restart, 1)
        await eventually(lambda: not shard.status().is_alone)
        await _record(shard, a_request())

    assert not before
    assert [RecordOutcome.NEW] == alone


async def test_what_waited_when_the_last_replica_went_goes_on_too(pair: engines.ReplicatedPostgreSQL) -> None:
    async with _open(pair, "quorum", patience_seconds=20.0) as shard:
        await _record(shard, a_request())
        await eventually(lambda: _is_read(shard))
        with freeze(pair):
            waiting = asyncio.create_task(_record(shard, a_request()))
            await eventually(lambda: _waiting(pair) == 1)
            pair.kill(1)

            # On one disk only, which the caller is not told to be enough; the same again is answered.
            with pytest.raises(BackendTimeoutError, match="gave up waiting"):
                await waiting


async def test_told_to_wait_nothing_is_written_without_a_replica(pair: engines.ReplicatedPostgreSQL) -> None:
    async with _open(pair, "wait", patience_seconds=1.0) as shard:
        pair.kill(1)
        with pytest.raises(UnavailableError):
            await _record(shard, a_request())
        pair.execute(0, "ALTER SYSTEM SET synchronous_standby_names = ''")
        pair.execute(0, "SELECT pg_reload_conf()")
        await eventually(lambda: pair.execute(0, "SHOW synchronous_standby_names")[0][0] == "")
        count = _count(pair, 0)

        with pytest.raises(BackendUnavailableError):
            await _record(shard, a_request())
        await shard.ledger.dispatch.take("library", Priority.NORMAL, after_device=0, limit=1, now=at(0))

        assert count == _count(pair, 0)


async def test_a_failover_loses_nothing_that_was_reported_recorded(engine_place: engines.Engines) -> None:
    pair = engines.ReplicatedPostgreSQL(engine_place)
    pair.new_database()
    recorded: list[Request] = []

    async def write(shard: Shard) -> None:
        while True:
            request = a_request()
            await _record(shard, request)
            recorded.append(request)

    async with _open(pair) as shard:
        writers = [asyncio.create_task(write(shard)) for _ in range(6)]
        await eventually(lambda: len(recorded) > 100)
        await asyncio.to_thread(pair.kill, 0)
        outcomes = await asyncio.gather(*writers, return_exceptions=True)

    await asyncio.to_thread(pair.promote, 1)
    async with open_shard("shard1", pair.urls[1], pool_size=4, clock=SystemClock()) as shard:
        ids = [request.id for request in recorded]
        assert set(ids) == set(await shard.ledger.records.standings(ids))
        assert [RecordOutcome.NEW] == await _record(shard, a_request())
    assert all(isinstance(outcome, UnavailableError) for outcome in outcomes)
    pair.kill(1)


@contextlib.contextmanager
def freeze(pair: engines.ReplicatedPostgreSQL) -> Iterator[None]:
    """The replica receives nothing: its receiver is frozen, and so is whoever would start another."""
    pair.freeze(1)
    try:
        yield
    finally:
        pair.thaw(1)


def _waiting(pair: engines.ReplicatedPostgreSQL) -> int:
    return len(pair.execute(0, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
