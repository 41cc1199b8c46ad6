"""What is looked after all the time: who takes writes, who is ready, whose agent is frozen, whose log is full."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from fieldpost.cluster import bringing_up, processes, state
from fieldpost.cluster.cluster import Cluster
from fieldpost.cluster.engines import nginx, patroni, pgbouncer
from fieldpost.cluster.plan import Shard
from fieldpost.cluster.readiness import until_ready
from fieldpost.cluster.rotating import rotate_all
from fieldpost.errors import FieldpostError
from fieldpost.observability import get_logger

_LOOK_SECONDS = 1.0
#: A new primary is looked for more often: until it is found nothing is recorded.
_PRIMARY_SECONDS = 0.5
_BURY_SECONDS = 0.5
_LOGS_SECONDS = 2.0
#: NGINX reads new upstreams at once; its old workers go on for what they have in hand.
_READ_SECONDS = 5.0
#: An agent frozen for this long is as good as dead: half of what others wait before they replace its server.
_FROZEN_SECONDS = 10.0

log = get_logger()


class Watches:
    """All of them, for one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._balancing = asyncio.Lock()
        #: Ports of gateways and hubs that NGINX is known to send to.
        self._balanced: tuple[Sequence[int], Sequence[int]] | None = None
        #: Shards whose pool was told of another primary and has not confirmed it.
        self._unconfirmed: set[str] = set()
        self._generation = 0
        self._frozen_since: dict[str, float] = {}
        self._unburied: int | None = None

    async def run(self) -> None:
        """Watches until cancelled, all but the dead."""
        async with asyncio.TaskGroup() as tasks:
            for shard in self._cluster.plan.shards:
                tasks.create_task(self._every(shard.name, _PRIMARY_SECONDS, partial(self.follow_primary, shard)))
            tasks.create_task(self._every("balance", _LOOK_SECONDS, self.balance))
            tasks.create_task(self._every("fence", _LOOK_SECONDS, self.fence))
            tasks.create_task(self._every("logs", _LOGS_SECONDS, self.rotate_logs))

    async def bury_all(self) -> None:
        """Buries until cancelled; also while everything stops, for agents wait until their server is gone."""
        await self._every("bury", _BURY_SECONDS, self.bury)

    async def follow_primary(self, shard: Shard) -> None:
        """Points a shard's pool at who takes writes now."""
        cluster = self._cluster
        known = cluster.primaries.get(shard.name)
        if known is None or shard.pool.name not in cluster.parts:
            return
        primary = await bringing_up.primary_of(shard)
        if primary is None or (primary.name == known and shard.name not in self._unconfirmed):
            return
        self._unconfirmed.add(shard.name)
        pgbouncer.write(cluster.directory, shard.pool, primary=primary.port, user=cluster.user)
        await pgbouncer.repoint(shard.pool)
        self._unconfirmed.discard(shard.name)
        cluster.primaries[shard.name] = primary.name
        log.warning("primary_changed", shard=shard.name, before=known, now=primary.name)

    async def balance(self) -> None:
        """Sends requests to instances that are ready, and to no others; returns when NGINX does so.

        Raises:
            BackendUnavailableError: it does not read in time what was written.
        """
        async with self._balancing:
            cluster = self._cluster
            part = cluster.parts.get(cluster.balancer.name)
            if part is None or part.pid is None:
                return
            ready = (await self._ready("gateway"), await self._ready("hub"))
            if ready == self._balanced:
                return
            self._generation += 1
            # Until it has read this nobody knows which of the two it sends to.
            self._balanced = None
            written = nginx.Upstreams(gateways=ready[0], hubs=ready[1], generation=self._generation)
            nginx.write_upstreams(cluster.directory, written, user=cluster.user)
            part.child.send(signal.SIGHUP)
            await until_ready("nginx with new upstreams", self._is_read, clock=cluster.clock, seconds=_READ_SECONDS)
            self._balanced = ready
            log.info("upstreams_changed", gateways=list(ready[0]), hubs=list(ready[1]))

    async def _is_read(self) -> bool:
        return await self._cluster.balancer.generation() == self._generation

    async def fence(self) -> None:
        """Ends every PostgreSQL server whose agent does not look after it: dead ones' at once, frozen ones' soon."""
        cluster = self._cluster
        now = cluster.clock.monotonic()
        for node in cluster.servers.values():
            part = cluster.parts.get(node.name)
            if part is None:
                continue
            if not part.is_paused:
                self._frozen_since.pop(node.name, None)
            elif now - self._frozen_since.setdefault(node.name, now) < _FROZEN_SECONDS:
                continue
            if (part.pid is None or part.is_paused) and patroni.server_processes(
                patroni.data_directory(cluster.directory, node)
            ):
                log.warning("server_fenced", part=node.server_name, is_frozen=part.is_paused)
                await cluster.fence(node)

    async def rotate_logs(self) -> None:
        """Cuts logs that are full."""
        await asyncio.to_thread(rotate_all, state.log_directory(self._cluster.directory))

    async def bury(self) -> None:
        """Buries servers' orphans: a dead one that nobody buries looks alive to who wants to start the next."""
        found = processes.unburied()
        # What this process waits for itself is gone by the second look.
        if found is not None and found == self._unburied and found not in self._cluster.own_children():
            processes.bury(found)
            found = None
        self._unburied = found

    async def _ready(self, role: str) -> Sequence[int]:
        parts = [
            part
            for part in self._cluster.parts.values()
            if part.role == role and part.pid is not None and part.name not in self._cluster.leaving
        ]
        answers = await asyncio.gather(*(part.is_ready() for part in parts))
        return sorted(part.port for part, is_ready in zip(parts, answers, strict=True) if is_ready)

    async def _every(self, name: str, seconds: float, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await look()
            except (FieldpostError, OSError) as error:
                log.warning("watch_failed", watch=name, reason=str(error))
            await self._cluster.clock.sleep(seconds)
