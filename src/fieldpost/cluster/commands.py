"""What an operator may do to a running cluster."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import msgspec

from fieldpost.cluster import processes, scaling, standing, topology
from fieldpost.cluster.cluster import READY_SECONDS, Cluster
from fieldpost.cluster.control import Command, Reply
from fieldpost.cluster.engines import patroni
from fieldpost.cluster.part import Part
from fieldpost.cluster.readiness import until_ready
from fieldpost.cluster.watching import Watches
from fieldpost.errors import ConfigError


class Commands:
    """Carries commands out, those that change what runs one after the other.

    Args:
        source: of ports for new instances.
        stop: has the whole cluster go down.
    """

    def __init__(
        self,
        cluster: Cluster,
        watches: Watches,
        *,
        choose_ports: Callable[..., Mapping[str, int]],
        stop: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._watches = watches
        self._choose_ports = choose_ports
        self._stop = stop
        self._changing = asyncio.Lock()
        self._verbs: Mapping[str, Callable[[Command], Awaitable[str]]] = {
            "status": self._status,
            "down": self._down,
            "kill": self._kill,
            "pause": self._pause,
            "resume": self._resume,
            "restart": self._restart,
            "scale": self._scale,
        }

    async def handle(self, command: Command) -> Reply:
        """Carries one out.

        Raises:
            ConfigError: it cannot be.
        """
        verb = self._verbs.get(command.verb)
        if verb is None:
            raise ConfigError(f"there is no command {command.verb}")
        message = await verb(command)
        cluster = self._cluster
        parts = await standing.all_of(cluster) if command.verb == "status" else ()
        return Reply(message=message, parts=parts, url=cluster.state.url, is_ready=cluster.is_ready)

    async def _status(self, _command: Command) -> str:
        return ""

    async def _down(self, _command: Command) -> str:
        self._stop()
        return "going down"

    async def _kill(self, command: Command) -> str:
        number = command.signal or signal.SIGKILL
        node = self._cluster.servers.get(command.part)
        if node is None:
            part = self._cluster.find(command.part)
            if part.pid is None:
                return f"{part.name} is down"
            part.kill(number, down_seconds=command.down_seconds)
        else:
            # The server alone: its sessions notice, and its agent starts it again.
            pids = patroni.server_processes(patroni.data_directory(self._cluster.directory, node))
            if not pids:
                return f"{node.server_name} is down"
            processes.send(pids[0], number)
        return f"sent {signal.Signals(number).name} to {command.part}"

    async def _pause(self, command: Command) -> str:
        self._freeze(command.part, signal.SIGSTOP)
        return f"{command.part} is frozen"

    async def _resume(self, command: Command) -> str:
        name = command.part
        self._freeze(name, signal.SIGCONT)
        node = self._cluster.servers.get(name)
        if node is not None:
            await self._until_ready(name, partial(patroni.is_serving, node))
            return f"{name} goes on and is ready"
        part = self._cluster.find(name)
        if part.pid is None:
            return f"{name} is down"
        # One that drains is not to be ready any more.
        if name in self._cluster.leaving:
            return f"{name} goes on"
        await self._until_serving(part)
        return f"{name} goes on and is ready"

    def _freeze(self, name: str, number: int) -> None:
        node = self._cluster.servers.get(name)
        if node is not None:
            for pid in patroni.server_processes(patroni.data_directory(self._cluster.directory, node)):
                processes.send(pid, number)
            return
        part = self._cluster.find(name)
        part.pause() if number == signal.SIGSTOP else part.resume()

    async def _restart(self, command: Command) -> str:
        if command.part in self._cluster.servers:
            node = self._cluster.servers[command.part]
            raise ConfigError(f"{command.part} is run by its agent: restart {node.name}")
        part = self._cluster.find(command.part)
        before = part.pid
        async with self._changing:
            self._cluster.leaving.add(part.name)
            try:
                await self._watches.balance()
                await part.restart()
            finally:
                self._cluster.leaving.discard(part.name)
        await self._until_serving(part, not_as=before)
        return f"{part.name} was started again and is ready"

    async def _scale(self, command: Command) -> str:
        cluster = self._cluster
        async with self._changing:
            wanted = topology.scale(cluster.state.topology, command.role, command.count)
            ports = self._choose_ports(wanted, cluster.state.ports, not_these=cluster.state.port, running=True)
            to = msgspec.structs.replace(cluster.state, topology=wanted, ports=ports)
            parts = await scaling.scale(cluster, self._watches, to, role=command.role)
        waits = await asyncio.gather(*(self._until_serving(part) for part in parts), return_exceptions=True)
        for error in waits:
            if error is not None:
                raise error
        await self._watches.balance()
        return f"{command.role} has {command.count}" + (", the new ones are ready" if parts else "")

    async def _until_serving(self, part: Part, *, not_as: int | None = None) -> None:
        """Returns when it serves, as another process than `not_as`.

        Raises:
            BackendUnavailableError: it does not in time; it is kept running all the same.
            ConfigError: another command has taken it away.
        """

        async def is_serving() -> bool:
            if self._cluster.parts.get(part.name) is not part:
                raise ConfigError(f"{part.name} was taken away meanwhile")
            return part.pid not in (None, not_as) and await part.is_ready()

        await self._until_ready(part.name, is_serving)

    async def _until_ready(self, name: str, ask: Callable[[], Awaitable[bool]]) -> None:
        await until_ready(name, ask, clock=self._cluster.clock, seconds=READY_SECONDS)
