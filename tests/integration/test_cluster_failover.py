"""A shard of a cluster whose primary moves: the pool follows, what was confirmed is there, the old one comes back."""

import asyncio
import tomllib
from collections.abc import Iterator, Sequence

import httpx
import pytest

from fieldpost.backends.postgresql.opening import Shard, open_shard, upgrade
from fieldpost.background import running
from fieldpost.clock import SystemClock
from fieldpost.cluster import processes
from fieldpost.errors import BackendTimeoutError, BackendUnavailableError
from fieldpost.messages.requests import Request
from tests.support.clusters import RunningCluster, running_cluster
from tests.support.messages import a_request, at
from tests.support.waiting import eventually, eventually_now

pytestmark = pytest.mark.timeout(400)
#: What others wait before they replace a silent server (Patroni's ttl), and what they then do.
FAILOVER_SECONDS = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[RunningCluster]:
    with running_cluster("--without-roles") as running:
        running.sql("create table written (number serial, words text)")
        yield running


def _primary(cluster: RunningCluster) -> int:
    """The number of the node that takes writes."""
    found = [part.part for part in cluster.parts().values() if part.role == "primary"]
    return int(found[0].rpartition("-")[2]) if found else 0


def _servers_beside(cluster: RunningCluster, number: int) -> Sequence[str]:
    return [name for name in cluster.parts() if name.startswith("postgresql-") and not name.endswith(f"-{number}")]


def _is_whole(cluster: RunningCluster) -> bool:
    servers = [part for part in cluster.parts().values() if part.part.startswith("postgresql-")]
    return sorted(part.health for part in servers) == ["running", "streaming", "streaming"]


def _write(cluster: RunningCluster, words: str) -> None:
    cluster.sql(f"insert into written (words) values ('{words}')")


def _until_writable(cluster: RunningCluster, words: str) -> None:
    statement = f"insert into written (words) values ('{words}') returning words"
    cluster.until_sql(statement, words, seconds=FAILOVER_SECONDS)


def _hand_over(cluster: RunningCluster, agent: str) -> bool:
    url = f"http://127.0.0.1:{cluster.parts()[agent].port}/switchover"
    return httpx.post(url, json={"leader": agent}, timeout=FAILOVER_SECONDS).status_code == 200


def test_commits_are_confirmed_by_a_replica(cluster: RunningCluster) -> None:
    eventually_now(lambda: cluster.sql("show synchronous_standby_names").startswith("ANY 1"))

    _write(cluster, "confirmed")
    cluster.until_sql("select count(*) from pg_stat_replication where sync_state = 'quorum'", "2")


def test_the_pool_follows_a_planned_change(cluster: RunningCluster) -> None:
    eventually_now(lambda: _is_whole(cluster))
    before = _primary(cluster)
    _write(cluster, "before the change")

    # Refused as long as the agents do not know yet who confirms.
    eventually_now(lambda: _hand_over(cluster, f"patroni-1-{before}"), seconds=FAILOVER_SECONDS)

    _until_writable(cluster, "after the change")
    assert cluster.sql("select count(*) from written where words = 'before the change'") == "1"
    eventually_now(lambda: _primary(cluster) not in (0, before))
    eventually_now(lambda: _is_whole(cluster), seconds=FAILOVER_SECONDS)


def test_replicas_that_fall_silent_hold_up_commits_for_seconds_only(cluster: RunningCluster) -> None:
    eventually_now(lambda: _is_whole(cluster), seconds=FAILOVER_SECONDS)
    cluster.until_sql("select count(*) from pg_stat_replication where sync_state = 'quorum'", "2")
    primary = _primary(cluster)
    # By their places: how far a replica is behind is told a while after it has caught up.
    replicas = _servers_beside(cluster, primary)
    assert primary
    assert len(replicas) == 2

    for name in replicas:
        cluster.command("pause", name)

    # By PostgreSQL's default they would count as there for a minute.
    cluster.until_sql("select count(*) from pg_stat_replication", "0", seconds=30.0)
    _until_writable(cluster, "with nobody to confirm")
    for name in replicas:
        cluster.command("resume", name)
    eventually_now(lambda: _is_whole(cluster), seconds=FAILOVER_SECONDS)


class Writing:
    """Records one request after the other, as a processor does, and remembers what was acknowledged."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self.acknowledged: list[Request] = []

    async def run(self) -> None:
        while True:
            request = a_request()
            try:
                await self._shard.ledger.records.record([request], dispatched=(), now=at(0))
            except (BackendUnavailableError, BackendTimeoutError):
                await asyncio.sleep(0.1)
            else:
                self.acknowledged.append(request)

    def has_more_than(self, count: int) -> bool:
        return len(self.acknowledged) > count

    async def has_all(self) -> bool:
        records = self._shard.ledger.records
        found = [await records.status(request.id, request.device_id) for request in self.acknowledged]
        return None not in found


@pytest.mark.long
def test_a_ledger_goes_on_elsewhere_when_the_primarys_agent_was_killed_and_nothing_acknowledged_is_lost(
    cluster: RunningCluster,
) -> None:
    eventually_now(lambda: _is_whole(cluster), seconds=FAILOVER_SECONDS)
    before = _primary(cluster)
    server = cluster.parts()[f"postgresql-1-{before}"]
    assert server.pid is not None

    asyncio.run(_write_while_it_moves(cluster, before, [server.pid, *processes.descendants(server.pid)]))

    assert _primary(cluster) not in (0, before)


async def _write_while_it_moves(cluster: RunningCluster, before: int, of_server: Sequence[int]) -> None:
    addresses = tomllib.loads((cluster.directory / "fieldpost.toml").read_text())["database"]["shards"][0]
    await upgrade(addresses["url"])
    async with open_shard(
        "shard1",
        addresses["url"],
        replicas=addresses["replicas"],
        agents=addresses["agents"],
        clock=SystemClock(),
    ) as shard:
        writing = Writing(shard)
        async with running(writing.run()):
            await eventually(lambda: writing.has_more_than(20))

            await asyncio.to_thread(cluster.command, "kill", f"patroni-1-{before}", "--down", "600")

            # Soon, for it takes writes, and long before another one does.
            await eventually(lambda: not any(map(processes.is_alive, of_server)))
            written = len(writing.acknowledged)
            await eventually(lambda: writing.has_more_than(written + 20), seconds=FAILOVER_SECONDS)
        assert await asyncio.to_thread(_primary, cluster) not in (0, before)
        assert await writing.has_all()

        # The old one follows the new one, and takes nothing away.
        await asyncio.to_thread(cluster.command, "restart", f"patroni-1-{before}")
        await eventually(lambda: asyncio.to_thread(_is_whole, cluster), seconds=FAILOVER_SECONDS)
        assert await writing.has_all()


@pytest.mark.long
def test_a_frozen_primary_is_replaced_and_takes_no_more_writes(cluster: RunningCluster) -> None:
    eventually_now(lambda: _is_whole(cluster), seconds=FAILOVER_SECONDS)
    before = _primary(cluster)
    frozen = cluster.parts()[f"postgresql-1-{before}"]
    assert frozen.pid is not None

    cluster.command("pause", f"patroni-1-{before}")

    _until_writable(cluster, "after the frost")
    assert not processes.is_alive(frozen.pid)
    cluster.command("resume", f"patroni-1-{before}")
    eventually_now(lambda: _is_whole(cluster), seconds=FAILOVER_SECONDS)
    assert _primary(cluster) not in (0, before)
