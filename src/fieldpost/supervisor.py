"""Runs all roles in one process: opens their backends, restarts what fails, drains on SIGTERM.

A role that fails is started again alone, with back-off: a broken watcher never stops intake. Stopping goes in order:
doors refuse, watchers stop taking, workers finish or hand back, then everything else ends.
"""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence

from fieldpost.clock import Clock, SystemClock
from fieldpost.house import House, assemble
from fieldpost.observability import Metrics, get_logger
from fieldpost.settings import Settings
from fieldpost.web.application import build
from fieldpost.web.server import reserve, serve
from fieldpost.wiring.opening import open_backends

#: Waits before a failed role starts again: 0.2, 0.4 … 10 s; back to the first after a minute without failure.
_FIRST_PAUSE_SECONDS = 0.2
_MAX_PAUSE_SECONDS = 10.0
_HEALTHY_SECONDS = 60.0

log = get_logger()


async def run(
    settings: Settings,
    *,
    clock: Clock | None = None,
    on_listening: Callable[[int], None] = lambda _port: None,
    stop: asyncio.Event | None = None,
    without: Collection[str] = (),
) -> None:
    """Runs all roles over the embedded engines until `stop` is set or SIGTERM or SIGINT comes, then drains.

    Args:
        on_listening: told the port once the doors are open.
        without: roles that are left out; what is meant for them waits.

    Raises:
        ConfigError: the settings cannot be used.
        PortInUseError: another process has the port.
        DataDirectoryInUseError: another process holds the data directory.
    """
    the_clock = clock or SystemClock()
    stopping = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        # The port first: where it cannot be had, nothing is made, opened or taken.
        with reserve(settings.server.host, settings.server.port) as listener:
            async with open_backends(settings, the_clock) as backends:
                house = assemble(settings, backends, the_clock)
                await _live(settings, the_clock, house, listener, on_listening, stopping, without)
    except ExceptionGroup as group:
        raise _only_one(group) from None
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _live(
    settings: Settings,
    clock: Clock,
    house: House,
    listener: socket.socket,
    on_listening: Callable[[int], None],
    stopping: asyncio.Event,
    without: Collection[str],
) -> None:
    keeping = Keeping(clock, house.metrics)
    await house.credentials.load()
    application = build(
        [*house.gateway.routes(), *house.hub.routes()],
        metrics=house.metrics,
        ready=lambda: ["draining"] if stopping.is_set() else [],
    )
    roles: Sequence[tuple[str, Callable[[], Awaitable[None]]]] = (
        ("credentials", house.credentials.run),
        ("mailbox", house.mailbox.run),
        ("hub", house.hub.run),
        ("watcher", house.watcher.run),
        ("processor", house.processor.run),
        ("worker", house.worker.run),
    )
    async with asyncio.TaskGroup() as tasks:
        server = tasks.create_task(serve(application, listener, on_listening=on_listening))
        running = [tasks.create_task(keeping.run(name, role), name=name) for name, role in roles if name not in without]
        stopped = tasks.create_task(stopping.wait())
        await asyncio.wait([server, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not server.done():
            await _drain(house, settings.server.drain_seconds)
        for task in (server, *running):
            task.cancel()
    log.info("stopped")


def _only_one(group: ExceptionGroup[Exception]) -> Exception:
    """The error itself where a task group wrapped a single one, so that whoever starts a process can name it."""
    error: Exception = group
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _drain(house: House, drain_seconds: float) -> None:
    log.info("draining", seconds=drain_seconds)
    house.intake.drain()
    house.answers.drain()
    draining: dict[str, asyncio.Task[None]] = {}
    # Workers bound themselves; this bounds whatever else hangs.
    try:
        async with asyncio.timeout(2 * drain_seconds), asyncio.TaskGroup() as tasks:
            for role in (house.watcher, house.hub, house.worker):
                draining[role.name] = tasks.create_task(role.drain())
    except TimeoutError:
        log.warning("drain_cut_short", roles=[name for name, task in draining.items() if task.cancelled()])


class Keeping:
    """Runs roles without end, each started again alone when it fails; knows which of them fail."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._failed_at: dict[str, float] = {}

    def failing(self) -> Sequence[str]:
        """Roles that failed within the last minute, or wait to be started again."""
        since = self._clock.monotonic() - _HEALTHY_SECONDS
        return [f"role {name} keeps failing" for name, failed_at in self._failed_at.items() if failed_at >= since]

    async def run(self, name: str, role: Callable[[], Awaitable[None]]) -> None:
        """Runs a role until cancelled."""
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            started = self._clock.monotonic()
            try:
                await role()
            except Exception:
                log.exception("role_failed", role=name, restart_seconds=pause_seconds)
                self._metrics.role_restarts.labels(name).inc()
                self._failed_at[name] = self._clock.monotonic()
            if self._clock.monotonic() - started > _HEALTHY_SECONDS:
                pause_seconds = _FIRST_PAUSE_SECONDS
            await self._clock.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _MAX_PAUSE_SECONDS)
