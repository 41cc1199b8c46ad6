"""etcd nodes as child processes: what Patroni's agents agree through.

Members know each other by address, for good. So that another program's ports never force a change, they speak to each
other on a loopback address that belongs to this cluster alone (all of 127.0.0.0/8 is this machine).
"""

import random
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fieldpost.cluster import asking, templates
from fieldpost.cluster.child import Program
from fieldpost.cluster.users import User, make_directory


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node; `peer_host` and `peer_port` are for other nodes."""

    number: int
    port: int
    peer_host: str
    peer_port: int

    @property
    def name(self) -> str:
        """Its name among the programs."""
        return f"etcd-{self.number}"

    @property
    def address(self) -> str:
        """Shape: `host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def peer_url(self) -> str:
        """Where other nodes reach it."""
        return f"http://{self.peer_host}:{self.peer_port}"

    async def is_ready(self) -> bool:
        """Whether it serves, which needs a leader."""
        reply = await asking.get(self.port, "/health")
        return reply.status == 200 and b'"health":"true"' in reply.body


def own_host(source: random.Random) -> str:
    """A loopback address that no other cluster is likely to have."""
    return f"127.{source.randint(64, 254)}.{source.randint(1, 254)}.{source.randint(1, 254)}"


def server(directory: Path, node: Node, *, nodes: Sequence[Node], user: User | None) -> Program:
    """Writes the node's configuration and says how it is run."""
    make_directory(directory / "etcd", user)
    base = make_directory(directory / "etcd" / str(node.number), user)
    text = templates.fill(
        "etcd.yml",
        name=node.name,
        directory=base / "data",
        address=node.address,
        peer_url=node.peer_url,
        peers=",".join(f"{peer.name}={peer.peer_url}" for peer in nodes),
    )
    path = templates.write(base / "etcd.yml", text, user)
    # The last ones of several wait for a majority that will not come again; what they were told is on the disk already.
    return Program(
        name=node.name, command=["etcd", "--config-file", str(path)], directory=base, user=user, stop_seconds=2.0
    )
