"""Redis Cluster nodes as child processes."""

from pathlib import Path

import msgspec

from fieldpost.cluster import readiness, templates
from fieldpost.cluster.child import Program
from fieldpost.cluster.users import User, make_directory

_MEMORY_LIMIT = "256mb"
#: A master that is silent for this long is replaced.
_NODE_TIMEOUT_MS = 2000


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node; `bus_port` is what nodes speak to each other on."""

    number: int
    port: int
    bus_port: int

    @property
    def name(self) -> str:
        """Its name among the programs."""
        return f"redis-{self.number}"

    @property
    def address(self) -> str:
        """Shape: `host:port`."""
        return f"127.0.0.1:{self.port}"

    async def answers(self) -> bool:
        """Whether it runs."""
        return await readiness.answers("127.0.0.1", self.port, b"PING\r\n", b"+PONG")

    async def is_in_cluster(self) -> bool:
        """Whether it serves as a part of a cluster, and as a replica has its master's data."""
        state = await readiness.answers("127.0.0.1", self.port, b"CLUSTER INFO\r\nQUIT\r\n", b"cluster_state:ok")
        is_waiting = await readiness.answers(
            "127.0.0.1", self.port, b"INFO replication\r\nQUIT\r\n", b"master_link_status:down"
        )
        return state and not is_waiting


def server(directory: Path, node: Node, user: User | None) -> Program:
    """Writes the node's configuration and says how it is run."""
    make_directory(directory / "redis", user)
    base = make_directory(directory / "redis" / str(node.number), user)
    text = templates.fill(
        "redis.conf",
        port=node.port,
        cluster_port=node.bus_port,
        directory=base,
        node_timeout_ms=_NODE_TIMEOUT_MS,
        memory_limit=_MEMORY_LIMIT,
    )
    path = templates.write(base / "redis.conf", text, user)
    return Program(name=node.name, command=["redis-server", str(path)], directory=base, user=user)
