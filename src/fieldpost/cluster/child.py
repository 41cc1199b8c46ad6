"""One process that this one started: in the foreground, as its direct child, with its output in a file.

A direct child can be waited for, so that it never stays as a zombie that looks alive; and it dies with its parent
(`setpriv --pdeathsig`). What a killed child leaves behind is ended by `leftovers` at the next start.
"""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from fieldpost.cluster.users import User, as_user
from fieldpost.errors import BackendUnavailableError

#: How long a process that was killed outright may take to be gone.
_KILLED_SECONDS = 10.0
#: Marks every process of one data directory, also those that its children start. No setting: roles would refuse it.
MARK = "PART_OF_FIELDPOST_CLUSTER"


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What is run, and how it is stopped.

    Args:
        name: unique in the cluster: `rabbitmq-1`.
        user: None for the user who runs the cluster.
        stop_signal: what makes it stop in order.
        stop_seconds: how long that may take before it is killed.
    """

    name: str
    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str] = {}
    user: User | None = None
    stop_signal: int = signal.SIGTERM
    stop_seconds: float = 10.0


class Child:
    """A program that runs, or ran."""

    def __init__(self, program: Program, *, log_path: Path, mark: str) -> None:
        self.program = program
        self.log_path = log_path
        self._mark = mark
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None and self.is_running else None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        """How it ended: negative for a signal; None while it runs or before its start."""
        return None if self._process is None else self._process.returncode

    async def start(self) -> None:
        """Starts it.

        Raises:
            BackendUnavailableError: it cannot be run at all.
        """
        assert not self.is_running
        program = self.program
        # The search path alone: what else stands in this process's environment is not the engine's business.
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8", MARK: self._mark, **program.environment}
        try:
            with self.log_path.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *as_user(program.user, program.command),
                    cwd=program.directory, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise BackendUnavailableError(f"{program.name} cannot be started: {error.strerror}") from error

    async def wait(self) -> int:
        """Returns its exit code when it has ended."""
        assert self._process is not None
        return await self._process.wait()

    def send(self, number: int) -> None:
        """Sends it a signal; nothing when it has ended."""
        if self.is_running:
            assert self._process is not None
            self._process.send_signal(number)

    async def stop(self) -> None:
        """Stops it in order, and by force when that takes too long.

        Raises:
            BackendUnavailableError: it does not end even so.
        """
        if not self.is_running:
            return
        # One that was frozen hears nothing until it goes on.
        self.send(signal.SIGCONT)
        self.send(self.program.stop_signal)
        try:
            async with asyncio.timeout(self.program.stop_seconds):
                await self.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Kills it, and waits until it is gone.

        Raises:
            BackendUnavailableError: it is not: it hangs in the kernel.
        """
        self.send(signal.SIGKILL)
        if self._process is None:
            return
        try:
            async with asyncio.timeout(_KILLED_SECONDS):
                await self.wait()
        except TimeoutError:
            raise BackendUnavailableError(f"{self.program.name} was killed and does not end") from None

    def last_words(self, lines: int = 20) -> str:
        """The end of its log."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, self.log_path.stat().st_size - 16_384))
                return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""
