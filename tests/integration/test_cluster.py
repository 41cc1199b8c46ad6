"""`fieldpost cluster` with real engines and without roles: comes up, is looked after, and leaves nothing behind."""

import signal
from collections.abc import Iterator

import httpx
import pytest

from fieldpost.cluster import processes, rotating
from fieldpost.cluster.ports import free_ports
from tests.support.clusters import RunningCluster, running_cluster, take, those_left
from tests.support.waiting import eventually_now

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RunningCluster]:
    with running_cluster("--small", "--without-roles") as running:
        yield running


def test_every_part_is_shown_with_its_process(cluster: RunningCluster) -> None:
    parts = cluster.parts()

    assert set(parts) == {
        "nginx", "rabbitmq-1", "epmd", "redis-1", "redis-2", "redis-3", "pgbouncer-1", "patroni-1-1", "postgresql-1-1",
        "etcd-1",
    }  # fmt: skip
    assert all(part.pid is not None and part.resident_bytes > 0 for part in parts.values())
    assert parts["postgresql-1-1"].role == "primary"
    assert all(part.health in ("ready", "running") for part in parts.values())
    shown = cluster.command("status").stdout
    assert "postgresql-1-1" in shown
    assert f"ready: {cluster.url}" in shown


def test_writes_go_through_the_pool(cluster: RunningCluster) -> None:
    cluster.sql("create table written (number int)")
    cluster.sql("insert into written values (17)")

    assert cluster.sql("select number from written") == "17"
    assert cluster.sql("select number from written", database="fieldpost_1") == "17"


def test_without_a_ready_instance_the_door_says_that_nothing_was_accepted(cluster: RunningCluster) -> None:
    reply = httpx.post(f"{cluster.url}/v1/requests", json={})

    assert reply.status_code == 503
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["retry-after"] == "1"
    assert reply.json()["type"] == "urn:fieldpost:problem:backend-unavailable"


@pytest.mark.parametrize("name", ["redis-2", "nginx", "pgbouncer-1", "etcd-1"])
def test_a_killed_part_comes_back(cluster: RunningCluster, name: str) -> None:
    before = cluster.parts()[name]

    cluster.command("kill", name)

    cluster.until(name, lambda part: part.health == "ready" and part.pid != before.pid)
    assert cluster.parts()[name].restarts == before.restarts + 1


def test_a_server_whose_agent_was_killed_is_ended_with_all_its_sessions(cluster: RunningCluster) -> None:
    server = cluster.parts()["postgresql-1-1"]
    assert server.pid is not None
    of_server = [server.pid, *processes.descendants(server.pid)]

    cluster.command("kill", "patroni-1-1", "--down", "600")

    eventually_now(lambda: not any(map(processes.is_alive, of_server)))
    assert cluster.parts()["patroni-1-1"].health == "down"
    cluster.command("restart", "patroni-1-1")
    cluster.until("postgresql-1-1", lambda part: part.role == "primary" and part.health == "running")
    cluster.until_sql("select 1", "1")


def test_a_server_that_crashes_is_started_again_by_its_agent(cluster: RunningCluster) -> None:
    before = cluster.parts()["postgresql-1-1"]

    cluster.command("kill", "postgresql-1-1")

    cluster.until("postgresql-1-1", lambda part: part.pid not in (None, before.pid) and part.health == "running")
    cluster.until_sql("select 1", "1")


def test_a_paused_part_is_frozen_until_it_is_resumed(cluster: RunningCluster) -> None:
    pid = cluster.parts()["redis-1"].pid
    assert pid is not None

    cluster.command("pause", "redis-1")

    eventually_now(lambda: processes.is_frozen(pid))
    assert cluster.parts()["redis-1"].health == "paused"

    resumed = cluster.command("resume", "redis-1")

    assert resumed.stdout == "redis-1 goes on and is ready\n"
    assert cluster.parts()["redis-1"].health == "ready"
    assert cluster.parts()["redis-1"].pid == pid


def test_a_frozen_server_serves_when_resume_returns(cluster: RunningCluster) -> None:
    server = cluster.parts()["postgresql-1-1"]
    cluster.command("pause", "postgresql-1-1")
    eventually_now(lambda: cluster.parts()["postgresql-1-1"].health == "paused")

    cluster.command("resume", "postgresql-1-1")

    assert cluster.sql("select 1") == "1"
    assert cluster.parts()["postgresql-1-1"].pid == server.pid


@pytest.mark.parametrize("name", ["redis-3", "rabbitmq-1"])
def test_a_part_that_restart_has_returned_for_is_another_process_and_ready(cluster: RunningCluster, name: str) -> None:
    before = cluster.parts()[name]

    restarted = cluster.command("restart", name)

    after = cluster.parts()[name]
    assert restarted.stdout == f"{name} was started again and is ready\n"
    assert after.health == "ready"
    assert after.pid != before.pid


def test_logs_are_shown_by_part(cluster: RunningCluster) -> None:
    shown = cluster.command("logs", "redis-1", "-n", "3").stdout

    assert len(shown.splitlines()) == 3
    refused = cluster.command("logs", "redis-9", check=False)
    assert refused.returncode == 1
    assert "redis-1" in refused.stderr


def test_a_part_whose_log_is_full_goes_on_in_an_empty_one(cluster: RunningCluster) -> None:
    path = cluster.directory / "logs" / "redis-2.log"
    with path.open("ab") as log:
        log.write(b"an old line\n" * (rotating.MAX_BYTES // 11))

    eventually_now(lambda: path.stat().st_size < 1000 and rotating.older(path).exists())
    cluster.command("restart", "redis-2")

    # What it says now stands where it was cut, not behind a hole of the old size.
    assert path.stat().st_size < 10_000
    assert "Redis is starting" in path.read_text()
    shown = cluster.command("logs", "redis-2", "-n", "1000").stdout
    assert "an old line" in shown
    assert "Redis is starting" in shown


def test_mistakes_are_told_in_one_line(cluster: RunningCluster) -> None:
    for words, told in [
        (("kill", "redis-9"), "there is no part redis-9"),
        (("kill", "redis-1", "--signal", "NOISE"), "there is no signal NOISE"),
        (("restart", "postgresql-1-1"), "restart patroni-1-1"),
        (("scale", "gatekeeper", "2"), "there is no role gatekeeper"),
    ]:
        refused = cluster.command(*words, check=False)
        assert refused.returncode == 1
        assert told in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_commands_are_for_the_owner_alone(cluster: RunningCluster) -> None:
    assert (cluster.directory / "control.sock").stat().st_mode & 0o777 == 0o600
    assert (cluster.directory / "fieldpost.toml").stat().st_mode & 0o777 == 0o600


def test_a_second_one_on_the_same_directory_is_refused(cluster: RunningCluster) -> None:
    refused = cluster.command("up", "--port", str(free_ports(1)[0]), check=False)

    assert refused.returncode == 1
    assert "a cluster runs on" in refused.stderr
    assert cluster.parts()["nginx"].health == "ready"


def test_down_leaves_nothing_and_up_brings_all_of_it_back() -> None:
    with running_cluster("--small", "--without-roles") as running:
        running.sql("create table kept as select 17 as number")
        pids = [part.pid for part in running.parts().values() if part.pid is not None]

        running.command("down")

        assert running.wait() == 0
        assert not any(map(processes.is_alive, pids))
        assert those_left(running.directory) == []

        running.start()
        running.until_sql("select number from kept", "17")
        # Nobody stops what a killed one ran: the next one on the same data does, wherever its ports went.
        before = running.remembered().ports
        running.kill()
        with take(before["redis-2.client"]), take(before["rabbitmq-1.amqp"]), take(before["etcd-1.client"]):
            running.start()

        after = running.remembered().ports
        changed = {name for name in before if before[name] != after[name]}
        assert {"redis-2.client", "rabbitmq-1.amqp", "etcd-1.client"} <= changed
        running.until_sql("select number from kept", "17")
        assert all(part.health in ("ready", "running") for part in running.parts().values())
        running.send(signal.SIGINT)

        assert running.wait() == 0
        assert those_left(running.directory) == []
