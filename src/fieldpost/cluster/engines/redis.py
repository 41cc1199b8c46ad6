"""Redis Cluster nodes as child processes."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fieldpost.cluster import readiness, templates
from fieldpost.cluster.child import Program
from fieldpost.cluster.users import User, make_directory
from fieldpost.errors import BackendUnavailableError

_MEMORY_LIMIT = "256mb"
#: A master that is silent for this long is replaced.
_NODE_TIMEOUT_MS = 2000
_CREATE_SECONDS = 30.0


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


async def join(nodes: Sequence[Node], *, replicas: int) -> None:
    """Makes a cluster of nodes; one that has all of its slots stays as it is, and one half made is begun anew.

    Args:
        replicas: of each master.

    Raises:
        BackendUnavailableError: it cannot be made.
    """
    if await _has_all_slots(nodes[0]):
        return
    # A node that somebody began to join would be refused for what it knows; one with keys in it refuses this.
    for node in nodes:
        await _run_client("-p", str(node.port), "cluster", "reset", "hard")
    addresses = [node.address for node in nodes]
    await _run_client("--cluster", "create", *addresses, "--cluster-replicas", str(replicas), "--cluster-yes")


async def _run_client(*words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "redis-cli", "-e", *words,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_CREATE_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise BackendUnavailableError("the Redis cluster was not made in time") from None
    if process.returncode:
        raise BackendUnavailableError(f"the Redis cluster cannot be made:\n{output.decode(errors='replace')}")


async def _has_all_slots(node: Node) -> bool:
    return await readiness.answers(
        "127.0.0.1", node.port, b"CLUSTER INFO\r\nQUIT\r\n", b"cluster_slots_assigned:16384\r\n"
    )
