"""Runs roles in one process: wires them to backends and each other, restarts what fails, drains on SIGTERM.

A role that fails is started again alone, with back-off: a broken watcher never stops intake. Stopping goes in order:
doors refuse, watchers stop taking, workers finish or hand back, then everything else ends.
"""

import asyncio
import os
import random
import signal
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence

import msgspec

from fieldpost.clock import Clock, SystemClock
from fieldpost.observability import Metrics, get_logger
from fieldpost.ports.backends import Backends
from fieldpost.roles.gateway.gateway import Gateway
from fieldpost.roles.hub.hub import Hub
from fieldpost.roles.processor import Processor
from fieldpost.roles.watcher import Watcher
from fieldpost.roles.worker import Worker
from fieldpost.services.answers import Answers
from fieldpost.services.credentials import Credentials
from fieldpost.services.intake import Intake
from fieldpost.services.mailbox import Mailbox
from fieldpost.services.registration import Registration
from fieldpost.settings import Settings
from fieldpost.web.application import build
from fieldpost.web.server import serve
from fieldpost.wiring import open_backends

#: Waits before a failed role starts again: 0.2, 0.4 … 10 s; back to the first after a minute without failure.
_FIRST_PAUSE_SECONDS = 0.2
_MAX_PAUSE_SECONDS = 10.0
_HEALTHY_SECONDS = 60.0

log = get_logger()


class House(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that runs in this process."""

    gateway: Gateway
    hub: Hub
    watcher: Watcher
    processor: Processor
    worker: Worker
    credentials: Credentials
    mailbox: Mailbox
    intake: Intake
    answers: Answers
    metrics: Metrics


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
        ConfigError: the settings or the port cannot be used.
        DataDirectoryInUseError: another process holds the data directory.
    """
    the_clock = clock or SystemClock()
    stopping = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        async with open_backends(settings, the_clock) as backends:
            house = _build(settings, backends, the_clock)
            await _live(settings, the_clock, house, on_listening, stopping, without)
    except ExceptionGroup as group:
        raise _only_one(group) from None
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _live(
    settings: Settings,
    clock: Clock,
    house: House,
    on_listening: Callable[[int], None],
    stopping: asyncio.Event,
    without: Collection[str],
) -> None:
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
        # Before the roles, so that they have taken nothing yet when the port cannot be had.
        server = tasks.create_task(
            serve(application, host=settings.server.host, port=settings.server.port, on_listening=on_listening)
        )
        running = [
            tasks.create_task(_keep_running(name, role, clock, house.metrics), name=name)
            for name, role in roles
            if name not in without
        ]
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
    # Workers bound themselves; this bounds whatever else hangs.
    try:
        async with asyncio.timeout(2 * drain_seconds), asyncio.TaskGroup() as tasks:
            for role in (house.watcher, house.hub, house.worker):
                tasks.create_task(role.drain())
    except TimeoutError:
        log.warning("drain_cut_short")


async def _keep_running(name: str, role: Callable[[], Awaitable[None]], clock: Clock, metrics: Metrics) -> None:
    pause_seconds = _FIRST_PAUSE_SECONDS
    while True:
        started = clock.monotonic()
        try:
            await role()
        except Exception:
            log.exception("role_failed", role=name, restart_seconds=pause_seconds)
            metrics.role_restarts.labels(name).inc()
        if clock.monotonic() - started > _HEALTHY_SECONDS:
            pause_seconds = _FIRST_PAUSE_SECONDS
        await clock.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, _MAX_PAUSE_SECONDS)


def _build(settings: Settings, backends: Backends, clock: Clock) -> House:
    # Ids and jitter: nothing that must not be guessed hangs on it.
    source = random.Random()  # noqa: S311
    metrics = Metrics()
    instance = f"{socket.gethostname()}-{os.getpid()}"
    mailbox = Mailbox(backends)
    credentials = Credentials(settings=settings, backends=backends, clock=clock)
    registration = Registration(backends=backends, clock=clock, credentials=credentials)
    intake = Intake(settings=settings, backends=backends, clock=clock, source=source, metrics=metrics)
    answers = Answers(backends=backends, clock=clock, intake=intake, mailbox=mailbox)
    return House(
        gateway=Gateway(
            settings=settings,
            backends=backends,
            clock=clock,
            credentials=credentials,
            registration=registration,
            intake=intake,
            answers=answers,
            mailbox=mailbox,
        ),
        hub=Hub(
            settings=settings,
            backends=backends,
            clock=clock,
            credentials=credentials,
            intake=intake,
            answers=answers,
            mailbox=mailbox,
            metrics=metrics,
            source=source,
        ),
        watcher=Watcher(settings=settings, backends=backends, clock=clock, intake=intake, credentials=credentials),
        processor=Processor(settings=settings, backends=backends, clock=clock, metrics=metrics, instance=instance),
        worker=Worker(settings=settings, backends=backends, clock=clock, metrics=metrics, instance=instance),
        credentials=credentials,
        mailbox=mailbox,
        intake=intake,
        answers=answers,
        metrics=metrics,
    )
