"""A whole cluster on this machine, as `fieldpost cluster up` runs it, for tests that go through its commands."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fieldpost.clock import SystemClock
from fieldpost.cluster import processes, state
from fieldpost.cluster.child import MARK
from fieldpost.cluster.control import Command, ask
from fieldpost.cluster.engines.postgresql import binary_directory
from fieldpost.cluster.leftovers import end_leftovers
from fieldpost.cluster.ports import free_ports
from fieldpost.cluster.standing import Standing
from tests.support.waiting import eventually_now

#: Of a machine that does other things at the same time.
UP_SECONDS = 150.0
_COMMAND_SECONDS = 120.0
_SEEN_SECONDS = 60.0


class RunningCluster:
    """`fieldpost cluster up` over a directory; may be stopped, killed and started again."""

    def __init__(self, directory: Path, options: Sequence[str], settings: Mapping[str, str]) -> None:
        self.directory = directory
        self.port = free_ports(1, start=32_000 - os.getpid() % 4000)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = directory.with_suffix(".log")
        self._options = options
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it says that it is ready."""
        words = self._words("up", "--port", str(self.port), *self._options)
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                words, stdout=log, stderr=log, env={**_environment(), **self._settings}, cwd="/"
            )
        process = self._process

        def is_ready() -> bool:
            assert process.poll() is None, self.log_path.read_text()
            return f"ready: {self.url}\n" in self.log_path.read_text()

        eventually_now(is_ready, seconds=UP_SECONDS)

    def send(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """What it runs is left to itself."""
        self.send(signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(_COMMAND_SECONDS)

    def command(self, verb: str, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """One of `fieldpost cluster`'s commands."""
        done = subprocess.run(
            self._words(verb, *words),
            capture_output=True,
            text=True,
            env=_environment(),
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def parts(self) -> Mapping[str, Standing]:
        """How each part stands."""
        reply = asyncio.run(ask(self.directory, Command(verb="status"), seconds=30.0))
        return {part.part: part for part in reply.parts}

    def until(self, part: str, condition: Callable[[Standing], bool], *, seconds: float = _SEEN_SECONDS) -> None:
        eventually_now(lambda: condition(self.parts()[part]), seconds=seconds)

    def sql(self, statement: str, *, database: str = "fieldpost", shard: int = 1) -> str:
        """What a statement answers through the pool."""
        return self._psql(statement, database, shard, check=True).stdout.strip()

    def until_sql(self, statement: str, answer: str, *, seconds: float = _SEEN_SECONDS) -> None:
        """Returns once a statement answers so; until then it may fail."""
        eventually_now(
            lambda: self._psql(statement, "fieldpost", 1, check=False).stdout.strip() == answer, seconds=seconds
        )

    def remembered(self) -> state.State:
        found = state.read(self.directory)
        assert found is not None
        return found

    def close(self) -> None:
        """Kills all of it: what it holds is thrown away."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        asyncio.run(end_leftovers(self.directory, mark=str(self.directory), clock=SystemClock()))

    def _psql(self, statement: str, database: str, shard: int, *, check: bool) -> "subprocess.CompletedProcess[str]":
        port = self.remembered().ports[f"pgbouncer-{shard}"]
        return subprocess.run(
            [
                str(binary_directory() / "psql"), "-XqAt", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres",
                "-c", statement, database,
            ],
            capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=check,
            env={**os.environ, "PGCONNECT_TIMEOUT": "5"},
        )  # fmt: skip

    def _words(self, verb: str, *words: str) -> list[str]:
        return [sys.executable, "-m", "fieldpost", "cluster", verb, *words, "--data", str(self.directory)]


@contextmanager
def running_cluster(*options: str, settings: Mapping[str, str] | None = None) -> Iterator[RunningCluster]:
    """A cluster that is up; gone at the end.

    `settings` are the roles', as variables.
    """
    above = Path(tempfile.mkdtemp(prefix="fieldpost-"))
    # The user who runs PostgreSQL must get in.
    above.chmod(0o711)
    running = RunningCluster(above / "cluster", options, settings or {})
    try:
        running.start()
        yield running
    finally:
        running.close()
        shutil.rmtree(above, ignore_errors=True)


def those_left(directory: Path) -> list[str]:
    """Command lines of processes that belong to a cluster's directory and still run."""
    wanted = f"{MARK}={directory}".encode()
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or not processes.is_alive(int(entry.name)):
            continue
        try:
            is_marked = wanted in (entry / "environ").read_bytes().split(b"\0")
            is_inside = (entry / "cwd").resolve().is_relative_to(directory)
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if is_marked or is_inside or str(directory) in command:
            found.append(command)
    return found


def take(port: int) -> socket.socket:
    """Listens on a port as soon as nobody else does."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def is_ours() -> bool:
        try:
            taken.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

    eventually_now(is_ours)
    taken.listen()
    return taken


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FIELDPOST_")}
