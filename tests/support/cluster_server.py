"""A whole cluster that tests address as they do a single server: the same scenarios over NGINX and separate roles."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.clusters import RunningCluster, running_cluster
from tests.support.server import QUICK, Server


class ClusterServer(Server):
    """What tests of the doors use of a server; it is not stopped or started by them."""

    def __init__(self, cluster: RunningCluster) -> None:
        super().__init__(cluster.directory / "roles", port=cluster.port)
        self._logs = cluster.directory / "logs"

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
