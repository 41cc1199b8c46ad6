"""Opens one shard: a PostgreSQL primary, its replicas, and the agents that say which is which."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import msgspec
from sqlalchemy import Connection

from fieldpost.backends.postgresql.agents import Agents, Judge, NoAgents
from fieldpost.backends.postgresql.confirming import Confirming, Synchronous
from fieldpost.backends.postgresql.executor import PATIENCE_SECONDS, PostgresExecutor
from fieldpost.backends.postgresql.node import Node
from fieldpost.backends.postgresql.replicas import Replicas, ReplicaStatus, written
from fieldpost.backends.relational import upgrading
from fieldpost.backends.relational.directory import RelationalDirectory
from fieldpost.backends.relational.ledger import relational_ledger
from fieldpost.background import running
from fieldpost.clock import Clock
from fieldpost.errors import FieldpostError
from fieldpost.observability import get_logger
from fieldpost.ports.devices import DeviceDirectory
from fieldpost.ports.ledger import Ledger

#: How often replicas are measured and counted.
LOOK_SECONDS = 0.5
#: Changing the tables of a large database takes a while.
_UPGRADE_SECONDS = 3600.0
_STATUS_SECONDS = 10.0

log = get_logger()


class ShardStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a shard stands, as far as this process knows."""

    name: str
    #: Whether commits are on one disk only.
    is_alone: bool
    replicas: Sequence[ReplicaStatus]
    primary_reads: int
    replica_reads: int


class Shard:
    """One shard's ledger and, on the shard that has it, the directory of devices."""

    def __init__(self, name: str, executor: PostgresExecutor, *, replicas: Replicas, confirming: Confirming) -> None:
        self.name = name
        self.ledger: Ledger = relational_ledger(executor)
        self.devices: DeviceDirectory = RelationalDirectory(executor)
        self.reads = executor.reads
        self._executor = executor
        self._replicas = replicas
        self._confirming = confirming

    def status(self) -> ShardStatus:
        """How it stands."""
        return ShardStatus(
            name=self.name,
            is_alone=self._confirming.is_alone,
            replicas=self._replicas.status(),
            primary_reads=self.reads.primary,
            replica_reads=self.reads.replica,
        )

    def tell(self) -> None:
        """Tells what it has done, at its end."""
        log.info("reads_served", shard=self.name, primary=self.reads.primary, replica=self.reads.replica)

    async def look(self) -> None:
        """Counts and measures the replicas once."""
        try:
            position = await self._executor.ask_primary(self._look)
        except FieldpostError as error:
            # Without a primary to compare with they stay as they are: what they have is all there is.
            log.warning("primary_away", shard=self.name, error=repr(error))
            return
        await self._replicas.measure(position)

    def _look(self, connection: Connection) -> int:
        self._confirming.look(connection)
        return written(connection)


@asynccontextmanager
async def open_shard(
    name: str,
    url: str,
    *,
    replicas: Sequence[str] = (),
    agents: Sequence[str] = (),
    pool_size: int = 10,
    clock: Clock,
    synchronous: Synchronous = "quorum",
    lag_seconds: float = 0.1,
    patience_seconds: float = PATIENCE_SECONDS,
) -> AsyncIterator[Shard]:
    """The shard; its servers may be away, then its calls say so.

    Args:
        url: `postgresql://user@host:port/database` of the primary, or of a PgBouncer (in transaction mode) before it.
        replicas: the same for each replica.
        agents: base URLs of the Patroni agents of all servers; without them, any server that takes writes is the primary.
        pool_size: connections to each of them at most.
        synchronous: see `Confirming`.
        lag_seconds: replicas further behind are not read.
        patience_seconds: a call that takes longer ends with an error.
    """
    async with AsyncExitStack() as stack:
        primary = await _open(stack, url, pool_size)
        nodes = [await _open(stack, address, pool_size) for address in replicas]
        followers = Replicas(nodes, shard=name, lag_seconds=lag_seconds, clock=clock)
        confirming = Confirming(synchronous, shard=name, has_agents=bool(agents))
        judge: Judge = NoAgents()
        if agents:
            client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
            judge = asked = Agents(agents, shard=name, clock=clock)
            await asked.ask(client)
            await stack.enter_async_context(running(asked.run(client)))
        executor = PostgresExecutor(
            primary, replicas=followers, judge=judge, confirming=confirming, patience_seconds=patience_seconds
        )
        shard = Shard(name, executor, replicas=followers, confirming=confirming)
        stack.callback(shard.tell)
        await stack.enter_async_context(running(_watch(shard, clock)))
        yield shard


async def upgrade(url: str) -> None:
    """Brings one shard's tables up to date; two at once are safe, the second one waits.

    Raises:
        ConfigError: the database was made by a newer Fieldpost.
        BackendUnavailableError: it cannot be reached, or is a replica.
    """
    node = Node(url, pool_size=1)
    try:
        await node.run(upgrading.upgrade, seconds=_UPGRADE_SECONDS, is_write=True)
    finally:
        await node.close()


async def revision(url: str) -> str | None:
    """The revision of one shard's tables; None when there are none.

    Raises:
        BackendUnavailableError: it cannot be reached.
    """
    node = Node(url, pool_size=1)
    try:
        return await node.run(upgrading.revision, seconds=_STATUS_SECONDS, is_write=False)
    finally:
        await node.close()


async def _open(stack: AsyncExitStack, url: str, pool_size: int) -> Node:
    node = Node(url, pool_size=pool_size)
    stack.push_async_callback(node.close)
    return node


async def _watch(shard: Shard, clock: Clock) -> None:
    while True:
        await shard.look()
        await clock.sleep(LOOK_SECONDS)
