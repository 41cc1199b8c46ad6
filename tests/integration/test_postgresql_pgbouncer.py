"""Through PgBouncer in transaction mode, where the next transaction may be on another server connection."""

import asyncio
from collections.abc import Iterator

import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy.engine import make_url

from fieldpost.backends.postgresql.opening import open_shard, revision, upgrade
from fieldpost.clock import SystemClock
from fieldpost.cluster.child import Child
from fieldpost.cluster.engines import pgbouncer
from fieldpost.cluster.readiness import until_ready
from fieldpost.errors import UnavailableError
from fieldpost.ports.ledger_values import Finish, RecordOutcome
from tests.support import engines
from tests.support.messages import a_request, a_response, at
from tests.support.waiting import eventually

CLIENTS = 60
#: Fewer than clients, so that they do share.
CONNECTIONS = 5


class Pooled:
    """A PgBouncer before one database."""

    def __init__(self, place: engines.Engines, database_url: str) -> None:
        self._place = place
        self.database_url = database_url
        address = make_url(database_url)
        assert address.port is not None
        port = place.ports(1)[0]
        self._pool = pgbouncer.Pool(
            name=f"pgbouncer-{port}",
            port=port,
            servers=[address.port],
            server_database=str(address.database),
            min_pool_size=1,
            pool_size=CONNECTIONS,
        )
        self.child = place.run(self._start(address.port))

    @property
    def url(self) -> str:
        return self._pool.url

    def repoint(self, primary: int) -> None:
        pgbouncer.write(self._place.directory, self._pool, primary=primary, user=self._place.user)
        self._place.run(pgbouncer.repoint(self._pool))

    def kill(self) -> None:
        self._place.run(self.child.kill())

    def restart(self) -> None:
        self._place.run(self._begin())

    async def _begin(self) -> None:
        await self.child.start()
        await until_ready("pgbouncer", self._pool.is_ready, clock=self._place.clock, seconds=engines.READY_SECONDS)

    async def _start(self, primary: int) -> Child:
        program = pgbouncer.server(self._place.directory, self._pool, primary=primary, user=self._place.user)
        child = await self._place.start(program)
        await until_ready("pgbouncer", self._pool.is_ready, clock=self._place.clock, seconds=engines.READY_SECONDS)
        return child


@pytest.fixture
def pooled(engine_place: engines.Engines, postgresql: engines.PostgreSQL) -> Iterator[Pooled]:
    pooled = Pooled(engine_place, postgresql.make_database())
    yield pooled
    pooled.kill()
    postgresql.drop_database(pooled.database_url)


async def test_named_statements_would_fail_here(pooled: Pooled) -> None:
    """What the next test shows to be avoided: asyncpg as it comes."""
    clients = [await asyncpg.connect(pooled.url, timeout=10) for _ in range(CONNECTIONS + 3)]

    async def ask(client: asyncpg.Connection) -> None:
        for number in range(50):
            await client.fetch(f"SELECT {number % 3} + $1::int", number)

    outcomes = await asyncio.gather(*(ask(client) for client in clients), return_exceptions=True)

    for client in clients:
        client.terminate()
    assert any(isinstance(outcome, asyncpg.PostgresError) for outcome in outcomes)


async def test_many_clients_share_few_connections_without_an_error(pooled: Pooled) -> None:
    async with open_shard("shard1", pooled.url, pool_size=CLIENTS, clock=SystemClock(), synchronous="off") as shard:

        async def work(device_id: int) -> int:
            request = a_request(device_id=device_id)
            await shard.ledger.records.record([request], dispatched=(), now=at(0))
            claims = await shard.ledger.claims.claim([request.id], holder="w", now=at(1), until=at(9))
            finish = Finish(request_id=request.id, attempt=claims[0].attempt, response=a_response(request))
            await shard.ledger.claims.finish([finish], [], now=at(2))
            page = await shard.ledger.deliveries.undelivered(
                device_id, after=None, leaving_out=(), limit=10, limit_bytes=10**6
            )
            ids = [answer.request_id for answer in page.answers]
            return len(await shard.ledger.deliveries.acknowledge(ids, device_id, now=at(3)))

        for _ in range(3):
            await asyncio.gather(*(work(device_id) for device_id in range(1, CLIENTS + 1)))


async def test_no_statement_is_left_behind_on_a_server_connection(
    pooled: Pooled, postgresql: engines.PostgreSQL
) -> None:
    async with open_shard("shard1", pooled.url, pool_size=4, clock=SystemClock(), synchronous="off") as shard:
        for _ in range(20):
            await shard.ledger.records.record([a_request()], dispatched=(), now=at(0))

        client = await asyncpg.connect(pooled.url, timeout=10, statement_cache_size=0)
        left = await client.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''")
        settings = await client.fetchval("SELECT current_setting('lock_timeout')")
        await client.close()

    assert (0, "0") == (left, settings)


async def test_tables_are_made_through_it_once_however_many_try(pooled: Pooled, postgresql: engines.PostgreSQL) -> None:
    postgresql.execute("DROP SCHEMA public CASCADE", pooled.database_url)
    postgresql.execute("CREATE SCHEMA public", pooled.database_url)
    before = await revision(pooled.url)

    await asyncio.gather(*(upgrade(pooled.url) for _ in range(4)))

    assert before is None
    assert await revision(pooled.url) == await revision(pooled.database_url) is not None


async def test_its_death_is_an_error_and_its_return_needs_nobody(pooled: Pooled) -> None:
    async with open_shard("shard1", pooled.url, pool_size=4, clock=SystemClock(), synchronous="off") as shard:
        await shard.ledger.records.record([a_request()], dispatched=(), now=at(0))
        pooled.kill()
        with pytest.raises(UnavailableError):
            await shard.ledger.records.record([a_request()], dispatched=(), now=at(0))

        await asyncio.to_thread(pooled.restart)

        request = a_request()
        outcomes = await shard.ledger.records.record([request], dispatched=(), now=at(0))
        assert {request.id: RecordOutcome.NEW} == outcomes


async def test_a_primary_that_moves_is_followed_through_it(engine_place: engines.Engines) -> None:
    pair = engines.ReplicatedPostgreSQL(engine_place)
    pair.new_database()
    pooled = Pooled(engine_place, pair.urls[0])
    request = a_request()
    async with open_shard("shard1", pooled.url, pool_size=4, clock=SystemClock()) as shard:
        await shard.ledger.records.record([request], dispatched=(), now=at(0))
        pair.kill(0)
        pair.promote(1)
        with pytest.raises(UnavailableError):
            await shard.ledger.records.record([a_request()], dispatched=(), now=at(0))

        pooled.repoint(pair.servers[1].port)

        assert {request.id} == set(await shard.ledger.records.standings([request.id]))
        await eventually(lambda: shard.status().is_alone)
        assert await shard.ledger.records.record([a_request()], dispatched=(), now=at(0))
    pooled.kill()
    pair.kill(1)
