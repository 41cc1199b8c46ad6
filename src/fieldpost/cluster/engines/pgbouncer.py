"""PgBouncer as a child process: few server connections, shared by everybody, and one address for a primary that moves.

Transaction mode: a transaction has a connection to itself, a client has not.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fieldpost.cluster import readiness, templates
from fieldpost.cluster.child import Program
from fieldpost.cluster.engines.patroni import MAX_CONNECTIONS
from fieldpost.cluster.engines.postgresql import SUPERUSER, binary_directory
from fieldpost.cluster.tools import output_of
from fieldpost.cluster.users import User, make_directory
from fieldpost.errors import ConfigError

#: Database names that clients ask for: the primary's, and each server's by its number.
DATABASE = "fieldpost"
_CONSOLE = "pgbouncer"
_COMMAND_SECONDS = 5.0
#: Of a server's connections those that no pool may take.
_SPARE = 20
#: PostgreSQL's first message, asking whether it speaks TLS (80877103): both answers mean that it is there.
_SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """One pool; `servers` are ports of PostgreSQL servers, whose numbers begin at 1.

    Args:
        server_database: the database's name on the servers.
    """

    name: str
    port: int
    servers: Sequence[int]
    server_database: str = DATABASE
    min_pool_size: int = 5
    pool_size: int = 100
    max_clients: int = 2000

    @property
    def url(self) -> str:
        """Leads to the primary."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def server_connections(self) -> int:
        """Those that it may open to one server: as the primary, and by its number."""
        return 2 * self.pool_size

    @property
    def server_urls(self) -> Sequence[str]:
        """Lead to each server, whatever it is."""
        return [f"{self.url}_{number}" for number in range(1, len(self.servers) + 1)]

    async def is_ready(self) -> bool:
        """Whether it takes connections."""
        return await readiness.answers("127.0.0.1", self.port, _SSL_REQUEST, b"N")


def server(directory: Path, pool: Pool, *, primary: int, user: User | None) -> Program:
    """Writes its configuration and says how it is run.

    Args:
        primary: the port of the server that takes writes.

    Raises:
        ConfigError: its pools may open more connections to a server than that takes.
    """
    if pool.server_connections + _SPARE > MAX_CONNECTIONS:
        raise ConfigError(
            f"{pool.name} may open {pool.server_connections} connections to a server that takes {MAX_CONNECTIONS},"
            f" of which {_SPARE} are the agent's and the operators'"
        )
    base = make_directory(directory / pool.name, user)
    path = write(directory, pool, primary=primary, user=user)
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    # No logs of its own: it writes to standard error in the foreground.
    return Program(name=pool.name, command=[program, str(path)], directory=base, user=user, stop_seconds=3.0)


def write(directory: Path, pool: Pool, *, primary: int, user: User | None) -> Path:
    """Writes which server is the primary; it is read at the start and on RELOAD."""
    lines = [f"{DATABASE} = host=127.0.0.1 port={primary} dbname={pool.server_database} user={SUPERUSER}"]
    for number, port in enumerate(pool.servers, start=1):
        lines.append(
            f"{DATABASE}_{number} = host=127.0.0.1 port={port} dbname={pool.server_database} user={SUPERUSER} "
            "min_pool_size=0"
        )
    text = templates.fill(
        "pgbouncer.ini",
        databases="\n".join(lines),
        port=pool.port,
        superuser=SUPERUSER,
        min_pool_size=pool.min_pool_size,
        pool_size=pool.pool_size,
        max_clients=pool.max_clients,
    )
    return templates.write(directory / pool.name / "pgbouncer.ini", text, user)


async def repoint(pool: Pool) -> None:
    """Has it read what was written, and leave connections to the old primary as soon as they are free.

    Raises:
        BackendUnavailableError: it does not do so.
    """
    await command(pool, "RELOAD", f"RECONNECT {DATABASE}")


async def command(pool: Pool, *words: str) -> str:
    """Gives commands on its console; returns what it says.

    Raises:
        BackendUnavailableError: it refuses, or does not answer.
    """
    psql = [
        str(binary_directory() / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align",
        "--host=127.0.0.1", f"--port={pool.port}", f"--username={SUPERUSER}", f"--dbname={_CONSOLE}",
        *(f"--command={each}" for each in words),
    ]  # fmt: skip
    return await output_of(psql, doing=f"{pool.name}'s console", seconds=_COMMAND_SECONDS)
