"""A PostgreSQL that dies, freezes, refuses or is full: what was reported recorded stays, and no call waits for ever."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from fieldpost.backends.postgresql.node import Node
from fieldpost.backends.postgresql.opening import Shard, open_shard
from fieldpost.clock import SystemClock
from fieldpost.errors import (
    BackendTimeoutError,
    BackendUnavailableError,
    ConfigError,
    CorruptDataError,
    FieldpostError,
    StorageFullError,
    UnavailableError,
)
from tests.support import engines
from tests.support.messages import a_request, at
from tests.support.waiting import eventually

PATIENCE_SECONDS = 1.5


@pytest.fixture
def own(engine_place: engines.Engines) -> engines.PostgreSQL:
    """A server to be harmed."""
    return engines.PostgreSQL(engine_place)


def _open(url: str, *, pool_size: int = 4) -> "contextlib.AbstractAsyncContextManager[Shard]":
    return open_shard(
        "shard1",
        url,
        pool_size=pool_size,
        clock=SystemClock(),
        synchronous="off",
        patience_seconds=PATIENCE_SECONDS,
    )


class Writers:
    """Record one request after the other; remember what was reported recorded, and what was not."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self.recorded: list[UUID] = []
        self.failures: list[FieldpostError] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(self._write())

    async def _write(self) -> None:
        while True:
            request = a_request()
            try:
                await self._shard.ledger.records.record([request], dispatched=(), now=at(0))
            except UnavailableError as error:
                self.failures.append(error)
                await asyncio.sleep(0.05)
            else:
                self.recorded.append(request.id)

    async def more(self, count: int = 20) -> None:
        """Waits until they get on."""
        wanted = len(self.recorded) + count
        await eventually(lambda: len(self.recorded) >= wanted)


@pytest.fixture
async def shard(own: engines.PostgreSQL) -> AsyncIterator[Shard]:
    async with _open(own.make_database()) as opened:
        yield opened


@pytest.fixture
async def writers(shard: Shard) -> AsyncIterator[Writers]:
    writers = Writers(shard)
    task = asyncio.create_task(writers.run())
    await writers.more()
    yield writers
    task.cancel()
    await asyncio.wait([task])


async def _all_there(shard: Shard, ids: list[UUID]) -> bool:
    return set(ids) <= set(await shard.ledger.records.standings(ids))


async def test_nothing_recorded_is_lost_when_the_server_is_killed_and_writing_goes_on_by_itself(
    own: engines.PostgreSQL, shard: Shard, writers: Writers
) -> None:
    own.kill()
    await eventually(lambda: len(writers.failures) >= 4)

    await asyncio.to_thread(own.restart)
    await writers.more()

    assert await _all_there(shard, list(writers.recorded))


async def test_a_frozen_server_keeps_nobody_waiting_and_is_used_again_when_it_thaws(
    own: engines.PostgreSQL, shard: Shard, writers: Writers
) -> None:
    own.freeze()
    try:
        await eventually(lambda: len(writers.failures) >= 8)
        with pytest.raises(UnavailableError):
            await shard.ledger.records.status(a_request().id, 1)
    finally:
        own.thaw()

    await writers.more()

    assert await _all_there(shard, list(writers.recorded))


async def test_connections_that_died_in_the_pool_are_replaced_unnoticed(own: engines.PostgreSQL, shard: Shard) -> None:
    await asyncio.gather(*(shard.ledger.records.status(a_request().id, 1) for _ in range(4)))

    own.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test_%'")

    for _ in range(4):
        assert {} != await shard.ledger.records.record([a_request()], dispatched=(), now=at(0))


async def test_a_server_that_is_away_is_an_error_at_once(own: engines.PostgreSQL, shard: Shard) -> None:
    own.kill()

    with pytest.raises(BackendUnavailableError):
        await shard.ledger.records.status(a_request().id, 1)


async def test_more_calls_than_connections_wait_their_turn_and_not_for_ever(postgresql: engines.PostgreSQL) -> None:
    url = postgresql.make_database()
    async with _open(url, pool_size=2) as shard:
        many = await asyncio.gather(*(shard.ledger.records.status(a_request().id, 1) for _ in range(50)))
        postgresql_lock = Node(url, pool_size=1)
        held, release = asyncio.Event(), asyncio.Event()
        holder = asyncio.create_task(_hold(postgresql_lock, held, release))
        await held.wait()

        outcomes = await asyncio.gather(
            *(shard.ledger.records.record([a_request()], dispatched=(), now=at(0)) for _ in range(6)),
            return_exceptions=True,
        )

        release.set()
        await holder
        await postgresql_lock.close()
    assert [None] * 50 == many
    assert all(isinstance(outcome, BackendUnavailableError) for outcome in outcomes)


async def _hold(node: Node, held: asyncio.Event, release: asyncio.Event) -> None:
    async with node._engine.begin() as connection:
        await connection.execute(text("LOCK TABLE requests"))
        held.set()
        await release.wait()


def _raise(code: str) -> Callable[[Connection], None]:
    def run(connection: Connection) -> None:
        connection.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$")

    return run


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("53100", StorageFullError),
        ("53300", BackendUnavailableError),
        ("57P03", BackendUnavailableError),
        ("55P03", BackendUnavailableError),
        ("25006", BackendUnavailableError),
        ("40001", BackendUnavailableError),
        ("42501", BackendUnavailableError),
        ("42703", BackendUnavailableError),
        ("XX001", CorruptDataError),
        ("22021", CorruptDataError),
    ],
)
async def test_what_a_server_says_becomes_an_error_of_ours(
    postgresql: engines.PostgreSQL, code: str, expected: type[FieldpostError]
) -> None:
    node = Node(postgresql.url, pool_size=1)

    with pytest.raises(expected):
        await node.run(_raise(code), seconds=5, is_write=True)

    await node.close()


async def test_an_error_that_nobody_expects_stays_what_it_is(postgresql: engines.PostgreSQL) -> None:
    node = Node(postgresql.url, pool_size=1)

    def fail(_connection: Connection) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        await node.run(fail, seconds=5, is_write=True)

    await node.close()


async def test_a_server_that_warns_at_a_commit_in_any_language_has_not_confirmed_it(
    postgresql: engines.PostgreSQL,
) -> None:
    node = Node(postgresql.url, pool_size=1)

    def warn(connection: Connection, *, at_commit: bool) -> None:
        connection.exec_driver_sql("CREATE TEMP TABLE notes (note int) ON COMMIT DROP")
        connection.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION pg_temp.warn() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE WARNING 'storniere Warten auf synchrone Replikation'; RETURN NULL; END $$"
        )
        connection.exec_driver_sql(
            "CREATE CONSTRAINT TRIGGER warn AFTER INSERT ON notes DEFERRABLE "
            f"INITIALLY {'DEFERRED' if at_commit else 'IMMEDIATE'} FOR EACH ROW EXECUTE FUNCTION pg_temp.warn()"
        )
        connection.exec_driver_sql("INSERT INTO notes VALUES (1)")

    with pytest.raises(BackendTimeoutError, match="this server alone"):
        await node.run(partial(warn, at_commit=True), seconds=5, is_write=True)

    # Before the commit a warning says nothing of it.
    await node.run(partial(warn, at_commit=False), seconds=5, is_write=True)
    await node.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://fieldpost:s3cret@host/fieldpost?sslmode=require&prepare=no", "not prepare"),
        ("postgresql://fieldpost:s3cret@host:port/fieldpost", "cannot be read"),
        ("fieldpost:s3cret@host", "cannot be read"),
        ("mysql://fieldpost:s3cret@host/fieldpost", "postgresql://user@host"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        Node(url, pool_size=1)

    assert "s3cret" not in str(refused.value)


async def test_a_waiting_call_is_not_overtaken_by_those_that_never_stop(postgresql: engines.PostgreSQL) -> None:
    node = Node(postgresql.url, pool_size=1)
    async with asyncio.TaskGroup() as group:
        busy = [group.create_task(_for_ever(node)) for _ in range(3)]

        assert 1 == await node.run(_one, seconds=5, is_write=False)

        for task in busy:
            task.cancel()
    await node.close()


async def _for_ever(node: Node) -> None:
    while True:
        await node.run(_one, seconds=60, is_write=False)


def _one(connection: Connection) -> int:
    number: int = connection.execute(text("SELECT 1")).scalar_one()
    return number


async def test_deadlocks_are_tried_again(postgresql: engines.PostgreSQL) -> None:
    node = Node(postgresql.url, pool_size=1)
    codes = iter(["40P01", "40001"])

    def run(connection: Connection) -> str:
        code = next(codes, None)
        if code is not None:
            _raise(code)(connection)
        return "done"

    assert "done" == await node.run(run, seconds=5, is_write=True)
    await node.close()


async def test_a_server_that_takes_no_more_connections_is_away(postgresql: engines.PostgreSQL) -> None:
    postgresql.execute("CREATE ROLE limited LOGIN CONNECTION LIMIT 0")

    async with _open(postgresql.url.replace("postgres@", "limited@")) as shard:
        with pytest.raises(BackendUnavailableError, match="too many connections"):
            await shard.ledger.records.status(a_request().id, 1)


async def test_a_database_without_tables_says_what_to_do(postgresql: engines.PostgreSQL) -> None:
    async with _open(postgresql.url) as shard:
        with pytest.raises(BackendUnavailableError, match="fieldpost db upgrade"):
            await shard.ledger.records.status(a_request().id, 1)


@pytest.mark.parametrize("url", ["mysql://x/y", "postgresql://host", "postgresql:///name", "not a url"])
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        Node(url, pool_size=1)


async def test_a_caller_that_gives_up_leaves_no_connection_behind(postgresql: engines.PostgreSQL) -> None:
    async with _open(postgresql.make_database(), pool_size=2) as shard:
        for _ in range(30):
            task = asyncio.create_task(shard.ledger.records.record([a_request()], dispatched=(), now=at(0)))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

        assert {} != await shard.ledger.records.record([a_request()], dispatched=(), now=at(0))


async def test_a_commit_that_is_cut_off_is_unknown(own: engines.PostgreSQL) -> None:
    node = Node(own.url, pool_size=1)
    own.execute("CREATE TABLE t (n int)")
    own.execute(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN NULL; END $$"
    )
    own.execute(
        "CREATE CONSTRAINT TRIGGER dies AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION die()"
    )

    with pytest.raises(BackendTimeoutError):
        await node.run(
            lambda connection: connection.exec_driver_sql("INSERT INTO t VALUES (1)"), seconds=5, is_write=True
        )

    await node.close()
