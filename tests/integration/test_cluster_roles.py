"""A whole small cluster with its roles: a request goes in at NGINX and comes back answered; instances come and go."""

import os
import re
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from fieldpost.cluster.standing import Standing
from tests.support.clusters import RunningCluster, running_cluster, those_left
from tests.support.waiting import eventually_now

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RunningCluster]:
    with running_cluster("--small") as running:
        yield running

        running.command("down")
        assert running.wait() == 0
        assert those_left(running.directory) == []


@pytest.fixture(scope="module")
def key(cluster: RunningCluster) -> str:
    operator_key = (cluster.directory / "roles" / "operator.key").read_text().strip()
    added = httpx.post(
        f"{cluster.url}/admin/devices",
        json={"kind": "truck", "name": "Truck 17"},
        headers={"Authorization": f"Bearer {operator_key}"},
        timeout=30,
    )
    assert added.status_code == 201, added.text
    found: str = added.json()["key"]
    return found


def _answered(cluster: RunningCluster, key: str, name: str) -> bool:
    """Whether a request is answered; asked again by the same name it is the same request."""
    reply = httpx.post(
        f"{cluster.url}/v1/requests",
        json={"input": {"prompt": "How long may I drive without a break?"}, "idempotency_key": name},
        headers={"Authorization": f"Bearer {key}", "Prefer": "wait=20"},
        timeout=40,
    )
    assert reply.status_code in (200, 202, 503, 504), reply.text
    if reply.status_code != 200:
        return False
    assert reply.json()["status"] == "succeeded", reply.text
    return True


def _status(cluster: RunningCluster) -> int:
    """0 when nothing comes: what was sent to a frozen instance stays there."""
    try:
        return httpx.get(f"{cluster.url}/v1/models", timeout=2).status_code
    except httpx.TimeoutException:
        return 0


def _gateways(cluster: RunningCluster) -> dict[str, Standing]:
    return {name: part for name, part in cluster.parts().items() if part.role == "gateway"}


def _upstreams(cluster: RunningCluster) -> str:
    return (cluster.directory / "nginx" / "upstreams.conf").read_text()


def test_the_command_to_try_next_works_as_it_was_printed(cluster: RunningCluster) -> None:
    heading = f"ready: {cluster.url}\nTry next, in another terminal:\n  "
    eventually_now(lambda: heading in cluster.log_path.read_text())
    command = cluster.log_path.read_text().partition(heading)[2].splitlines()[0]

    # As in a shell of its own: where `up` was started, with nothing of this run's settings.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FIELDPOST_")}
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env=environment, cwd="/", timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "Truck 17" in done.stdout
    assert re.search(r"fp_\d+_\S+", done.stdout)


def test_a_request_is_answered(cluster: RunningCluster, key: str) -> None:
    eventually_now(lambda: _answered(cluster, key, "first"))


def test_a_role_gets_more_processes_and_gives_them_back(cluster: RunningCluster, key: str) -> None:
    scaled = cluster.command("scale", "gateway", "2")

    assert scaled.stdout == "gateway has 2, the new ones are ready\n"
    second = cluster.parts()["gateway-2"]
    assert second.health == "ready"
    eventually_now(lambda: f"127.0.0.1:{second.port} " in _upstreams(cluster))
    assert cluster.remembered().topology.roles["gateway"] == 2

    cluster.command("scale", "gateway", "1")

    assert set(_gateways(cluster)) == {"gateway-1"}
    assert f"127.0.0.1:{second.port} " not in _upstreams(cluster)
    assert cluster.remembered().topology.roles["gateway"] == 1
    assert _answered(cluster, key, "after scaling")


def test_a_frozen_gateway_is_sent_nothing_until_it_goes_on(cluster: RunningCluster, key: str) -> None:
    gateway = cluster.parts()["gateway-1"]

    cluster.command("pause", "gateway-1")
    eventually_now(lambda: f"127.0.0.1:{gateway.port} " not in _upstreams(cluster))
    eventually_now(lambda: _status(cluster) == 503)

    cluster.command("resume", "gateway-1")
    eventually_now(lambda: _answered(cluster, key, "after the frost"))


@pytest.mark.parametrize("name", ["worker-1", "processor-1", "gateway-1"])
def test_a_killed_role_comes_back_and_goes_on(cluster: RunningCluster, key: str, name: str) -> None:
    before = cluster.parts()[name]

    cluster.command("kill", name)

    cluster.until(name, lambda part: part.health == "ready" and part.pid != before.pid)
    eventually_now(lambda: _answered(cluster, key, f"after {name}"))
    # The one worker's; what a killed one left is gone.
    assert len([path for path in (cluster.directory / "roles" / "indexes").iterdir() if path.is_dir()]) == 1
