"""A whole cluster that tests address as they do a single server: the same scenarios over NGINX and separate roles."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.clusters import RunningCluster, running_cluster
from tests.support.server import QUICK, Server, running_server
from tests.support.waiting import eventually_now


class ClusterServer(Server):
    """What tests of the doors use of a server; it is not stopped or started by them."""

    def __init__(self, cluster: RunningCluster) -> None:
        super().__init__(cluster.directory / "roles", port=cluster.port)
        self._logs = cluster.directory / "logs"

    def add_device(self, *, kind: str = "truck", name: str = "a device", id: int | None = None) -> tuple[int, str]:  # noqa: A002
        """Adds a device; its id and key, once every door knows it: other processes hear of it soon, not at once."""
        device_id, key = super().add_device(kind=kind, name=name, id=id)
        headers = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}
        doors = (f"{self.url}/v1/stream", f"{self.url}/v1/requests")
        eventually_now(lambda: all(httpx.head(door, headers=headers).status_code != 401 for door in doors))
        return device_id, key

    def log(self) -> str:
        """Everything its roles have said so far."""
        roles = ("gateway", "hub", "processor", "worker", "watcher")
        paths = [path for role in roles for path in sorted(Path(self._logs).glob(f"{role}-*.log"))]
        return "".join(path.read_text(errors="replace") for path in paths)


@contextmanager
def running_cluster_server(settings: Mapping[str, str]) -> Iterator[ClusterServer]:
    """A small cluster that is up; gone at the end."""
    with running_cluster("--small", settings={**QUICK, **settings}) as cluster:
        yield ClusterServer(cluster)


#: The ways to run through which scenarios go.
WAYS = ("one process", "cluster")


def server_of(
    request: pytest.FixtureRequest, directory: Path, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """The body of a fixture with `WAYS`: a server of its own, or the cluster that all share."""
    if request.param == "cluster":
        yield request.getfixturevalue("cluster_server")
        return
    with running_server(directory / "data", settings=dict(settings or {})) as running:
        yield running
