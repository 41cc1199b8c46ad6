"""A PostgreSQL server as a child process, in the foreground; Patroni's are started by Patroni."""

import asyncio
import signal
from pathlib import Path

import msgspec

from fieldpost.cluster import templates
from fieldpost.cluster.child import Program
from fieldpost.cluster.tools import output_of
from fieldpost.cluster.users import User, make_directory
from fieldpost.errors import ConfigError

SUPERUSER = "postgres"
_MAKE_SECONDS = 60.0


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """One server of its own, without replicas."""

    name: str
    port: int

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/postgres"

    async def is_ready(self) -> bool:
        """Whether it takes connections."""
        process = await asyncio.create_subprocess_exec(
            str(binary_directory() / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={self.port}"
        )
        return await process.wait() == 0


def binary_directory() -> Path:
    """Where the newest installed PostgreSQL has its programs.

    Raises:
        ConfigError: none is installed.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise ConfigError("PostgreSQL is not installed; run: make engines")
    return found[-1].parent


async def make_server(
    directory: Path, server: Server, *, user: User | None, is_durable: bool = True, confirmed_by: str = ""
) -> Program:
    """Makes the data directory if it is not there, and says how the server is run.

    Args:
        is_durable: False for data that is thrown away: then nothing waits for the disk.
        confirmed_by: which replicas commits wait for, as `synchronous_standby_names` puts it: `ANY 1 (*)`.
    """
    base = make_directory(directory / server.name, user)
    data = base / "data"
    if not (data / "PG_VERSION").exists():
        await run(
            [
                str(binary_directory() / "initdb"), "--pgdata", str(data), "--username", SUPERUSER, "--auth=trust",
                "--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C.UTF-8",
            ],
            base,
            user,
        )  # fmt: skip
    return _program(data, server, user=user, is_durable=is_durable, confirmed_by=confirmed_by)


async def make_replica(
    directory: Path, server: Server, *, primary: Server, user: User | None, is_durable: bool = True
) -> Program:
    """Copies a primary that runs into a new data directory, and says how its replica is run."""
    base = make_directory(directory / server.name, user)
    data = base / "data"
    await run(
        [
            str(binary_directory() / "pg_basebackup"), "--pgdata", str(data), "--write-recovery-conf",
            "--wal-method=stream", "--checkpoint=fast", "--no-sync",
            f"--dbname=host=127.0.0.1 port={primary.port} user={SUPERUSER} application_name={server.name}",
        ],
        base,
        user,
    )  # fmt: skip
    return _program(data, server, user=user, is_durable=is_durable, confirmed_by="")


def _program(data: Path, server: Server, *, user: User | None, is_durable: bool, confirmed_by: str) -> Program:
    text = templates.fill(
        "postgresql.conf",
        port=server.port,
        max_connections=500,
        shared_buffers="32MB",
        fsync="on" if is_durable else "off",
        confirmed_by=confirmed_by,
    )
    templates.write(data / "postgresql.conf", text, user)
    return Program(
        name=server.name,
        command=[str(binary_directory() / "postgres"), "-D", str(data)],
        directory=data,
        user=user,
        # Ends sessions instead of waiting for them.
        stop_signal=signal.SIGINT,
    )


async def run(command: list[str], directory: Path, user: User | None) -> None:
    """Runs one of PostgreSQL's tools to its end.

    Raises:
        BackendUnavailableError: it failed; with its output.
    """
    await output_of(command, doing=Path(command[0]).name, seconds=_MAKE_SECONDS, directory=directory, user=user)
