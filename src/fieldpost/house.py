"""Everything that runs in one process, made from its backends: which parts there are, and who is given what.

Decides nothing and runs nothing; that is the supervisor's.
"""

import os
import random
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime

import msgspec
from starlette.routing import BaseRoute

from fieldpost.clock import Clock
from fieldpost.messages.instances import Instance
from fieldpost.observability import Metrics
from fieldpost.ports.backends import Backends
from fieldpost.roles.gateway.gateway import Gateway
from fieldpost.roles.hub.hub import Hub
from fieldpost.roles.hub.limits import Limits
from fieldpost.roles.processor import Processor
from fieldpost.roles.watcher import Watcher
from fieldpost.roles.worker import Worker
from fieldpost.services.answers import Answers
from fieldpost.services.broadcasting import Broadcasting
from fieldpost.services.credentials import Credentials
from fieldpost.services.intake import Intake
from fieldpost.services.mailbox import Mailbox
from fieldpost.services.read_counts import ReadCounts
from fieldpost.services.registration import Registration
from fieldpost.services.troubles import Troubles
from fieldpost.settings import Settings

#: In the order of a request's way.
ROLES = ("gateway", "hub", "watcher", "processor", "worker")
#: What runs for each role.
_LOOPS: Mapping[str, Sequence[str]] = {
    "gateway": ("credentials", "mailbox"),
    "hub": ("credentials", "mailbox", "hub"),
    "watcher": ("credentials", "watcher"),
    "processor": ("processor",),
    "worker": ("worker",),
}


class House(msgspec.Struct, frozen=True, kw_only=True):
    """The roles, and what they share."""

    gateway: Gateway
    hub: Hub
    watcher: Watcher
    processor: Processor
    worker: Worker
    credentials: Credentials
    registration: Registration
    mailbox: Mailbox
    intake: Intake
    answers: Answers
    metrics: Metrics
    troubles: Troubles


def instance_name(roles: Collection[str]) -> str:
    """This process's name among others."""
    return f"{next(iter(roles)) if len(roles) == 1 else 'fieldpost'}-{socket.gethostname()}-{os.getpid()}"


def routes(house: House, roles: Collection[str]) -> Sequence[BaseRoute]:
    """What the doors among these roles answer."""
    doors = [door for door in (house.gateway, house.hub) if door.name in roles]
    return [route for door in doors for route in door.routes()]


def loops_of(house: House, roles: Collection[str]) -> Mapping[str, Callable[[], Awaitable[None]]]:
    """What runs for these roles, by name, each once."""
    every: Mapping[str, Callable[[], Awaitable[None]]] = {
        "credentials": house.credentials.run,
        "mailbox": house.mailbox.run,
        "hub": house.hub.run,
        "watcher": house.watcher.run,
        "processor": house.processor.run,
        "worker": house.worker.run,
    }
    wanted = {loop for role in roles for loop in _LOOPS[role]}
    return {name: loop for name, loop in every.items() if name in wanted}


def entries(roles: Collection[str], *, host: str, port: int, now: datetime) -> Sequence[Instance]:
    """What this process tells of itself in the registry: one entry a role."""
    name = instance_name(roles)
    return [
        Instance(
            id=name if len(roles) == 1 else f"{name}-{role}",
            role=role,
            host=host,
            port=port,
            started_at=now,
            pid=os.getpid(),
        )
        for role in roles
    ]


def assemble(
    settings: Settings,
    backends: Backends,
    clock: Clock,
    *,
    instance: str,
    source: random.Random | None = None,
    limits: Limits | None = None,
) -> House:
    """Makes the house; nothing in it runs yet.

    Args:
        instance: this process's name among others.
        source: of ids and jitter.
        limits: the hub's; its own when none are given.
    """
    # Nothing that must not be guessed hangs on it.
    source = source or random.Random()  # noqa: S311
    metrics = Metrics()
    metrics.registry.register(ReadCounts(backends.reads))
    troubles = Troubles(clock)
    mailbox = Mailbox(backends)
    credentials = Credentials(settings=settings, backends=backends, clock=clock, troubles=troubles)
    registration = Registration(backends=backends, clock=clock, credentials=credentials)
    intake = Intake(
        settings=settings, backends=backends, clock=clock, source=source, metrics=metrics, troubles=troubles
    )
    answers = Answers(backends=backends, clock=clock, intake=intake, mailbox=mailbox)
    return House(
        gateway=Gateway(
            settings=settings,
            backends=backends,
            clock=clock,
            credentials=credentials,
            registration=registration,
            broadcasting=Broadcasting(bus=backends.shared.bus, clock=clock, source=source),
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
            limits=limits,
        ),
        watcher=Watcher(
            settings=settings,
            backends=backends,
            clock=clock,
            intake=intake,
            credentials=credentials,
            instance=instance,
        ),
        processor=Processor(
            settings=settings,
            backends=backends,
            clock=clock,
            metrics=metrics,
            instance=instance,
            troubles=troubles,
        ),
        worker=Worker(settings=settings, backends=backends, clock=clock, metrics=metrics, instance=instance),
        credentials=credentials,
        registration=registration,
        mailbox=mailbox,
        intake=intake,
        answers=answers,
        metrics=metrics,
        troubles=troubles,
    )
