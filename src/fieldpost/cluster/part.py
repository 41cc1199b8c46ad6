"""One part of a running cluster: a program that is kept running, and what an operator may do to it."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from fieldpost.clock import Clock
from fieldpost.cluster import processes
from fieldpost.cluster.child import Child, Program
from fieldpost.errors import BackendUnavailableError
from fieldpost.observability import get_logger
from fieldpost.policy.backoff import ends_in_a_row, restart_seconds

log = get_logger()


async def _nothing() -> None:
    return


class Part:
    """Started once by whoever brings the cluster up, who must see it fail; kept running from then on.

    Args:
        port: where it is asked how it is; shown.
        is_ready: whether it serves.
        on_death: called whenever it has ended, before it starts again.
        dependants: processes that are not its children and are frozen with it.
    """

    def __init__(
        self,
        program: Program,
        *,
        role: str,
        port: int,
        is_ready: Callable[[], Awaitable[bool]],
        log_path: Path,
        mark: str,
        clock: Clock,
        on_death: Callable[[], Awaitable[None]] = _nothing,
        dependants: Callable[[], Sequence[int]] = tuple,
    ) -> None:
        self.name = program.name
        self.role = role
        self.port = port
        self.is_ready = is_ready
        self.child = Child(program, log_path=log_path, mark=mark)
        self.restarts = 0
        self._clock = clock
        self._on_death = on_death
        self._dependants = dependants
        self._is_stopping = False
        self._is_restarting = False
        self._rest_until = 0.0
        self._started_at = 0.0
        self._last_pid: int | None = None
        self._change = asyncio.Event()
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """While it runs."""
        return self.child.pid

    @property
    def is_stopping(self) -> bool:
        """Whether it is stopped for good, or was told to and has not ended yet."""
        return self._is_stopping

    @property
    def is_paused(self) -> bool:
        """Whether it was frozen."""
        return self.pid is not None and processes.is_frozen(self.pid)

    async def start(self) -> None:
        """Starts it for the first time.

        Raises:
            BackendUnavailableError: it cannot be run, or was stopped for good: nobody would stop it again.
        """
        async with self._starting:
            if self._is_stopping:
                raise BackendUnavailableError(f"{self.name} was stopped")
            self._started_at = self._clock.monotonic()
            await self.child.start()
            self._last_pid = self.child.pid

    async def run(self) -> None:
        """Starts it again whenever it ends, until it is stopped."""
        ends = 0
        while True:
            if self.child.is_running:
                await self.child.wait()
            if self._is_stopping:
                return
            if self._is_restarting:
                ends = 0
            else:
                ends = ends_in_a_row(ends, ran_seconds=self._clock.monotonic() - self._started_at)
                pause_seconds = restart_seconds(ends)
                log.warning("part_ended", part=self.name, exit_code=self.child.exit_code, restart_seconds=pause_seconds)
                await self._end_what_is_left()
                await self._rest(pause_seconds)
            self._is_restarting = False
            await self._start_again()

    async def stop(self) -> None:
        """Stops it in order, for good.

        Raises:
            BackendUnavailableError: it does not end even when it is killed.
        """
        self._is_stopping = True
        # One that is being started just now can be stopped only when it runs.
        async with self._starting:
            await self.child.stop()
        await self._end_what_is_left()
        self._change.set()

    async def restart(self) -> None:
        """Stops it in order; it starts again at once."""
        self._is_restarting = self.child.is_running
        self._rest_until = 0.0
        self._change.set()
        await self.child.stop()

    def kill(self, number: int, *, down_seconds: float = 0.0) -> None:
        """Sends it a signal.

        Args:
            down_seconds: how long it is left alone when it has ended of it.
        """
        self._rest_until = self._clock.monotonic() + down_seconds
        self.child.send(number)

    def pause(self) -> None:
        """Freezes it, its children and what depends on it."""
        self._send_to_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        self._send_to_all(signal.SIGCONT)

    def _send_to_all(self, number: int) -> None:
        if self.pid is None:
            return
        for pid in {*processes.group(self.pid), *self._dependants()}:
            processes.send(pid, number)

    async def _end_what_is_left(self) -> None:
        """Kills what outlives it: children of its own, such as NGINX's workers, which go on serving."""
        pids = processes.group(self._last_pid) if self._last_pid else ()
        for pid in pids:
            processes.send(pid, signal.SIGKILL)
        await processes.until_gone(pids, clock=self._clock)
        await self._on_death()

    async def _rest(self, pause_seconds: float) -> None:
        seconds = max(pause_seconds, self._rest_until - self._clock.monotonic())
        self._change.clear()
        async with asyncio.TaskGroup() as tasks:
            waits = [tasks.create_task(self._clock.sleep(seconds)), tasks.create_task(self._changed())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def _changed(self) -> None:
        await self._change.wait()

    async def _start_again(self) -> None:
        if self._is_stopping:
            return
        self.restarts += 1
        try:
            await self.start()
        except BackendUnavailableError as error:
            log.warning("part_cannot_start", part=self.name, reason=error.detail)
