"""A running cluster: its parts by name, each kept running in a task of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fieldpost.clock import Clock
from fieldpost.cluster import processes, state
from fieldpost.cluster.child import Child, Program
from fieldpost.cluster.engines import nginx, patroni
from fieldpost.cluster.part import Part
from fieldpost.cluster.plan import Plan
from fieldpost.cluster.readiness import until_ready
from fieldpost.cluster.state import State
from fieldpost.cluster.users import User, make_directory
from fieldpost.errors import BackendUnavailableError, ConfigError

#: How long an engine or a role may take to serve for the first time.
READY_SECONDS = 60.0


class Cluster:
    """What runs on one data directory.

    Args:
        own: the user's settings by section, handed on to the roles.
        say: shows a line of progress.
    """

    def __init__(
        self,
        directory: Path,
        remembered: State,
        planned: Plan,
        *,
        user: User | None,
        patroni_program: Path,
        own: Mapping[str, Mapping[str, Any]],
        clock: Clock,
        tasks: asyncio.TaskGroup,
        say: Callable[[str], None],
    ) -> None:
        self.directory = directory
        self.state = remembered
        self.plan = planned
        self.user = user
        self.patroni_program = patroni_program
        self.own = own
        self.clock = clock
        self.say = say
        self.parts: dict[str, Part] = {}
        #: PostgreSQL servers, which their agents run: nodes by the server's name.
        self.servers = {node.server_name: node for shard in planned.shards for node in shard.nodes}
        #: Instances that are about to be stopped: nothing new is sent to them.
        self.leaving: set[str] = set()
        #: Who takes writes, by shard: an agent's name, as last seen.
        self.primaries: dict[str, str] = {}
        self.balancer = nginx.Balancer(host=remembered.host, port=remembered.port, status_port=planned.status_port)
        self.is_ready = False
        self._tasks = tasks
        self._keeping: dict[str, asyncio.Task[None]] = {}
        make_directory(state.log_directory(directory))

    def part(
        self,
        program: Program,
        *,
        role: str,
        port: int,
        is_ready: Callable[[], Awaitable[bool]],
        node: patroni.Node | None = None,
    ) -> Part:
        """A part of this cluster, not started yet.

        Args:
            node: whose PostgreSQL server ends with it.
        """

        async def fence() -> None:
            if node is not None:
                await self.fence(node)

        def dependants() -> Sequence[int]:
            return () if node is None else patroni.server_processes(patroni.data_directory(self.directory, node))

        part = Part(
            program,
            role=role,
            port=port,
            is_ready=is_ready,
            log_path=state.log_path(self.directory, program.name),
            mark=str(self.directory),
            clock=self.clock,
            on_death=fence,
            dependants=dependants,
        )
        self.parts[part.name] = part
        return part

    async def launch(self, part: Part, *, is_ready: Callable[[], Awaitable[bool]] | None = None) -> None:
        """Starts a part, waits until it serves, and keeps it running.

        Args:
            is_ready: what is waited for, where that is less than serving.

        Raises:
            BackendUnavailableError: it ended, or does not serve in time.
        """
        began = self.clock.monotonic()
        await part.start()
        await until_ready(
            part.name, is_ready or part.is_ready, clock=self.clock, seconds=READY_SECONDS, children=(part.child,)
        )
        self.keep(part)
        self.say(f"{part.name:<16} {self.clock.monotonic() - began:5.1f} s")

    def keep(self, part: Part) -> None:
        """Starts it again whenever it ends, from now on."""
        self._keeping[part.name] = self._tasks.create_task(part.run(), name=part.name)

    async def stop(self, names: Sequence[str]) -> None:
        """Stops parts in order, all at once; one that does not end holds up no other.

        Raises:
            BackendUnavailableError: one does not end even when it is killed.
        """
        parts = [self.parts[name] for name in names if name in self.parts]
        outcomes = await asyncio.gather(*(self._stop(part) for part in parts), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def forget(self, names: Sequence[str]) -> None:
        """Stops parts and keeps nothing of them.

        Raises:
            BackendUnavailableError: one does not end; it stays known.
        """
        try:
            await self.stop(names)
        finally:
            for name in names:
                if name in self.parts and self.parts[name].pid is None:
                    del self.parts[name]

    def let_go(self) -> None:
        """Keeps nothing running any more."""
        for task in self._keeping.values():
            task.cancel()
        self._keeping.clear()

    async def fence(self, node: patroni.Node) -> None:
        """Ends a node's PostgreSQL server, and returns when none of its processes is left."""
        pids = patroni.fence(patroni.data_directory(self.directory, node))
        await processes.until_gone(pids, clock=self.clock)

    async def run_to_end(self, program: Program, *, seconds: float) -> None:
        """Runs a program that ends by itself.

        Raises:
            BackendUnavailableError: it failed, or did not end in time.
        """
        began = self.clock.monotonic()
        child = Child(program, log_path=state.log_path(self.directory, program.name), mark=str(self.directory))
        await child.start()
        try:
            async with asyncio.timeout(seconds):
                code = await child.wait()
        except TimeoutError:
            raise BackendUnavailableError(f"{program.name} did not end within {seconds:g} s") from None
        finally:
            await child.kill()
        if code:
            raise BackendUnavailableError(f"{program.name} failed; {child.log_path} ends with:\n{child.last_words()}")
        self.say(f"{program.name:<16} {self.clock.monotonic() - began:5.1f} s")

    def find(self, name: str) -> Part:
        """A part by its name.

        Raises:
            ConfigError: there is none.
        """
        if name not in self.parts:
            known = ", ".join(sorted(self.parts))
            raise ConfigError(f"there is no part {name}; there are {known}")
        return self.parts[name]

    def own_children(self) -> Sequence[int]:
        """Processes that this one waits for."""
        return [part.pid for part in self.parts.values() if part.pid is not None]

    async def _stop(self, part: Part) -> None:
        try:
            await part.stop()
        finally:
            task = self._keeping.pop(part.name, None)
            if task is not None:
                task.cancel()
