"""Everything that runs in one process, made from its backends: which parts there are, and who is given what.

Decides nothing and runs nothing; that is the supervisor's.
"""

import os
import random
import socket

import msgspec

from fieldpost.clock import Clock
from fieldpost.observability import Metrics
from fieldpost.ports.backends import Backends
from fieldpost.roles.gateway.gateway import Gateway
from fieldpost.roles.hub.hub import Hub
from fieldpost.roles.hub.limits import Limits
from fieldpost.roles.processor import Processor
from fieldpost.roles.watcher import Watcher
from fieldpost.roles.worker import Worker
from fieldpost.services.answers import Answers
from fieldpost.services.credentials import Credentials
from fieldpost.services.intake import Intake
from fieldpost.services.mailbox import Mailbox
from fieldpost.services.registration import Registration
from fieldpost.settings import Settings


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


def assemble(
    settings: Settings,
    backends: Backends,
    clock: Clock,
    *,
    source: random.Random | None = None,
    limits: Limits | None = None,
) -> House:
    """Makes the house; nothing in it runs yet.

    Args:
        source: of ids and jitter.
        limits: the hub's; its own when none are given.
    """
    # Nothing that must not be guessed hangs on it.
    source = source or random.Random()  # noqa: S311
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
            limits=limits,
        ),
        watcher=Watcher(settings=settings, backends=backends, clock=clock, intake=intake, credentials=credentials),
        processor=Processor(settings=settings, backends=backends, clock=clock, metrics=metrics, instance=instance),
        worker=Worker(settings=settings, backends=backends, clock=clock, metrics=metrics, instance=instance),
        credentials=credentials,
        registration=registration,
        mailbox=mailbox,
        intake=intake,
        answers=answers,
        metrics=metrics,
    )
