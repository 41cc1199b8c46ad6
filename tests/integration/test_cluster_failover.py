"""A shard of a cluster whose primary moves: the pool follows, what was confirmed is there, the old one comes back."""

from collections.abc import Iterator

import httpx
import pytest

from fieldpost.cluster import processes
from tests.support.clusters import RunningCluster, running_cluster
from tests.support.waiting import eventually_now

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


@pytest.mark.long
def test_a_lost_primary_is_replaced_and_comes_back_as_a_replica(cluster: RunningCluster) -> None:
    eventually_now(lambda: _is_whole(cluster), seconds=FAILOVER_SECONDS)
    before = _primary(cluster)
    _write(cluster, "before the loss")

    cluster.command("kill", f"patroni-1-{before}", "--down", "600")

    _until_writable(cluster, "after the loss")
    assert cluster.sql("select count(*) from written where words = 'before the loss'") == "1"
    assert _primary(cluster) not in (0, before)
    cluster.command("restart", f"patroni-1-{before}")
    eventually_now(lambda: _is_whole(cluster), seconds=FAILOVER_SECONDS)


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
