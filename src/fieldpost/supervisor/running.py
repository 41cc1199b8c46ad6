"""Runs roles in one process, all of them or one: opens their backends, opens the doors, drains on SIGTERM.

The port answers before there is anything behind it, so that whoever looks after processes lets one wait for its engines.

Stopping goes in order: doors refuse, watchers stop taking, workers finish or hand back, then everything else ends.
"""

import asyncio
import signal
import socket
from collections.abc import Callable, Collection, Sequence

from fieldpost.clock import Clock, SystemClock
from fieldpost.errors import ConfigError
from fieldpost.house import ROLES, House, assemble, entries, instance_name, loops_of, routes
from fieldpost.observability import get_logger
from fieldpost.ports.backends import Backends
from fieldpost.services.checks import Checks
from fieldpost.services.presence import Presence
from fieldpost.settings import Settings
from fieldpost.supervisor.collecting import seldom
from fieldpost.supervisor.keeping import Keeping
from fieldpost.supervisor.starting import Starting, StoppedError
from fieldpost.web.application import Application, build
from fieldpost.web.entrance import Entrance
from fieldpost.web.server import reserve, serve
from fieldpost.wiring.engines import are_shareable

log = get_logger()


async def run(
    settings: Settings,
    *,
    clock: Clock | None = None,
    on_listening: Callable[[int], None] = lambda _port: None,
    stop: asyncio.Event | None = None,
    roles: Collection[str] = ROLES,
) -> None:
    """Runs roles until `stop` is set or SIGTERM or SIGINT comes, then drains.

    Args:
        on_listening: told the port once the doors are open; until then it answers that the process starts.
        roles: what is meant for others waits.

    Raises:
        ConfigError: the settings cannot be used, or name no engines over which one role alone could work.
        PortInUseError: another process has the port.
        DataDirectoryInUseError: another process holds the data directory.
    """
    if len(roles) == 1 and not are_shareable(settings):
        raise ConfigError(
            "one role alone works over engines that processes share: set broker.url, database.shards and shared.url"
        )
    the_clock = clock or SystemClock()
    stopping = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        # The port first: where it cannot be had, nothing is made, opened or taken.
        with reserve(settings.server.host, settings.server.port) as listener:
            await _live(settings, the_clock, listener, on_listening, stopping, roles)
    except ExceptionGroup as group:
        raise _only_one(group) from None
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _live(
    settings: Settings,
    clock: Clock,
    listener: socket.socket,
    on_listening: Callable[[int], None],
    stopping: asyncio.Event,
    roles: Collection[str],
) -> None:
    starting = Starting(settings, clock, stopping)
    entrance = Entrance(starting.reasons)
    is_answering = asyncio.Event()
    host, port = listener.getsockname()[:2]
    async with asyncio.TaskGroup() as tasks:
        server = tasks.create_task(serve(entrance, listener, on_listening=lambda _port: is_answering.set()))
        try:
            await is_answering.wait()
            async with starting.backends(roles) as backends:
                house = assemble(settings, backends, clock, instance=instance_name(roles))
                await starting.load(backends, house, roles)
                process = _Process(settings, clock, backends, house, stopping, roles)
                await starting.unless_stopped(process.look)
                entrance.open(process.application())
                on_listening(port)
                with seldom():
                    await process.live(server, host=host, port=port)
        except StoppedError:
            log.info("stopped")
        finally:
            server.cancel()


class _Process:
    """The roles of this process while they live."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        backends: Backends,
        house: House,
        stopping: asyncio.Event,
        roles: Collection[str],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._backends = backends
        self._house = house
        self._stopping = stopping
        self._roles = roles
        self._keeping = Keeping(clock, house.metrics)
        self._checks = Checks(backends=backends, clock=clock, roles=roles)

    async def look(self) -> None:
        """Finds out for the first time whether it can serve."""
        await self._checks.look()

    def application(self) -> Application:
        """What its doors answer."""
        return build(
            routes(self._house, self._roles),
            metrics=self._house.metrics,
            ready=self._reasons,
            degraded=self._degraded,
            settings=self._settings.server,
        )

    async def live(self, server: asyncio.Task[None], *, host: str, port: int) -> None:
        """Works until told to stop, then drains; the server ends before what its replies need."""
        presence = Presence(
            instances=self._backends.shared.instances,
            clock=self._clock,
            entries=entries(self._roles, host=host, port=port, now=self._clock.now()),
            ready=self._reasons,
        )
        loops = {**loops_of(self._house, self._roles), "checks": self._checks.run, "presence": presence.run}
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self._keeping.run(name, loop), name=name) for name, loop in loops.items()]
                stopped = tasks.create_task(self._stopping.wait())
                await asyncio.wait([server, stopped], return_when=asyncio.FIRST_COMPLETED)
                stopped.cancel()
                if not server.done():
                    await self._drain()
                for task in running:
                    task.cancel()
        finally:
            server.cancel()
            await asyncio.wait([server])
        await presence.withdraw()
        log.info("stopped")

    def _reasons(self) -> Sequence[str]:
        draining = ["draining"] if self._stopping.is_set() else []
        return [*draining, *self._checks.reasons()]

    def _degraded(self) -> Sequence[str]:
        missing = self._house.processor.degraded() if "processor" in self._roles else ()
        return [*self._keeping.failing(), *missing, *self._checks.degraded(), *self._house.troubles.current()]

    async def _drain(self) -> None:
        seconds = self._settings.server.drain_seconds
        log.info("draining", seconds=seconds)
        self._house.intake.drain()
        self._house.answers.drain()
        draining: dict[str, asyncio.Task[None]] = {}
        # Workers bound themselves; this bounds whatever else hangs.
        try:
            async with asyncio.timeout(2 * seconds), asyncio.TaskGroup() as tasks:
                for role in (self._house.watcher, self._house.hub, self._house.worker):
                    if role.name in self._roles:
                        draining[role.name] = tasks.create_task(role.drain())
        except TimeoutError:
            log.warning("drain_cut_short", roles=[name for name, task in draining.items() if task.cancelled()])


def _only_one(group: ExceptionGroup[Exception]) -> Exception:
    """The error itself where a task group wrapped a single one, so that whoever starts a process can name it."""
    error: Exception = group
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
