"""Patroni's agents as child processes; each starts, stops and promotes the PostgreSQL server of its node.

An agent that dies leaves its server running, which goes on taking writes beside a new primary: `fence` ends it.
"""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fieldpost.cluster import asking, processes, templates
from fieldpost.cluster.child import Program
from fieldpost.cluster.engines import etcd, postgresql
from fieldpost.cluster.users import User, make_directory
from fieldpost.errors import BackendUnavailableError, ConfigError

#: Of the whole server, shared by all who connect, which is PgBouncer.
MAX_CONNECTIONS = 500


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One PostgreSQL server and its agent; numbers begin at 1."""

    shard: int
    number: int
    port: int
    agent_port: int

    @property
    def name(self) -> str:
        """The agent's name among the programs, and in its cluster."""
        return node_name(self.shard, self.number)

    @property
    def server_name(self) -> str:
        """The server's name among the parts."""
        return f"postgresql-{self.shard}-{self.number}"

    @property
    def agent_url(self) -> str:
        """Where it tells who is primary."""
        return f"http://127.0.0.1:{self.agent_port}"

    async def is_primary(self) -> bool:
        """Whether it takes writes and holds the lock on doing so.

        An agent holds the lock also while its server is only starting, or not promoted yet.
        """
        reply = await asking.get(self.agent_port, "/primary")
        return reply.status == 200 and _status(reply.body) == _Status(state="running", role="primary")

    async def is_replica(self) -> bool:
        """Whether it follows the primary."""
        return (await asking.get(self.agent_port, "/replica")).status == 200


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent tells about one node of its cluster."""

    name: str
    role: str
    state: str
    #: Behind the primary; `unknown` in words.
    lag: int | str = 0

    @property
    def is_primary(self) -> bool:
        """Whether it takes writes."""
        return self.role in ("leader", "primary")


class _Members(msgspec.Struct, frozen=True, kw_only=True):
    members: Sequence[Member]


class _Status(msgspec.Struct, frozen=True, kw_only=True):
    state: str = ""
    role: str = ""


def node_name(shard: int, number: int) -> str:
    """The agent's name."""
    return f"patroni-{shard}-{number}"


def executable(configured: str) -> Path:
    """Where Patroni is installed.

    Args:
        configured: its environment's directory; empty for the one that `make engines` makes.

    Raises:
        ConfigError: it is not there.
    """
    usual = Path("/opt/fieldpost/patroni") if os.geteuid() == 0 else Path.home() / ".local/share/fieldpost/patroni"
    path = (Path(configured) if configured else usual) / "bin" / "patroni"
    if not path.exists():
        raise ConfigError(f"Patroni is not installed at {path}; run: make engines")
    return path


def agent(
    directory: Path, node: Node, *, program: Path, agreed_through: Sequence[etcd.Node], user: User | None
) -> Program:
    """Writes the agent's configuration and says how it is run."""
    base = make_directory(directory / node.server_name, user)
    text = templates.fill(
        "patroni.yml",
        scope=f"shard{node.shard}",
        name=node.name,
        agent_address=f"127.0.0.1:{node.agent_port}",
        etcd_hosts=", ".join(peer.address for peer in agreed_through),
        address=f"127.0.0.1:{node.port}",
        data_directory=data_directory(directory, node),
        binary_directory=postgresql.binary_directory(),
        password_file=base / "pgpass",
        max_connections=MAX_CONNECTIONS,
    )
    path = templates.write(base / "patroni.yml", text, user)
    return Program(
        name=node.name,
        command=[str(program), str(path)],
        directory=base,
        environment={"HOME": str(base)},
        user=user,
        stop_seconds=20.0,
    )


def data_directory(directory: Path, node: Node) -> Path:
    """Where the node's server keeps its data."""
    return directory / node.server_name / "data"


async def members(node: Node) -> Sequence[Member]:
    """Everybody's standing, as one agent sees it; none when it does not answer."""
    reply = await asking.get(node.agent_port, "/cluster")
    if reply.status != 200:
        return []
    try:
        return msgspec.json.decode(reply.body, type=_Members).members
    except msgspec.MsgspecError:
        return []


async def own(node: Node) -> Member | None:
    """How an agent's own server stands, also while the agents cannot agree; None when it does not tell."""
    reply = await asking.get(node.agent_port, "/patroni")
    status = _status(reply.body)
    # One that could not ask its server remembers a role all the same.
    if reply.status != 200 or status.state in ("", "unknown"):
        return None
    return Member(name=node.name, role=status.role, state=status.state, lag="unknown")


def server_processes(data: Path) -> Sequence[int]:
    """The server's process and those of its sessions, the server's first."""
    pid = processes.postmaster(data)
    return [] if pid is None else [pid, *processes.descendants(pid)]


def fence(data: Path) -> Sequence[int]:
    """Kills a server and its sessions at once, so that none of them commits any more; returns who they were."""
    pids = server_processes(data)
    for pid in pids:
        processes.send(pid, signal.SIGKILL)
    return pids


async def is_serving(node: Node) -> bool:
    """Whether its server is the primary or follows it."""
    return await node.is_primary() or await node.is_replica()


async def make_database(primary: Node, name: str) -> None:
    """Makes a database where it is not there yet.

    Raises:
        BackendUnavailableError: it cannot be made.
    """
    command = [
        str(postgresql.binary_directory() / "createdb"),
        "--host=127.0.0.1",
        f"--port={primary.port}",
        f"--username={postgresql.SUPERUSER}",
        name,
    ]
    try:
        await postgresql.run(command, Path("/"), None)
    except BackendUnavailableError as error:
        if "already exists" not in error.detail:
            raise


def _status(body: bytes) -> _Status:
    try:
        return msgspec.json.decode(body, type=_Status)
    except msgspec.MsgspecError:
        return _Status()
