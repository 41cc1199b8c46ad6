"""Puts a fleet together from its members. The same seed makes the same fleet ask the same questions."""

import random
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fieldpost.clock import Clock
from fieldpost.fleet.agenda import Agenda
from fieldpost.fleet.fleet import Device, Door, Fleet
from fieldpost.fleet.folder_door import FolderDoor
from fieldpost.fleet.http_door import PollingDoor, WaitingDoor
from fieldpost.fleet.journal import Journal
from fieldpost.fleet.line import Line
from fieldpost.fleet.pulse import Pulse
from fieldpost.fleet.roster import Member
from fieldpost.fleet.tray import Tray
from fieldpost.fleet.websocket_door import WebSocketDoor
from fieldpost.messages.requests import Channel


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is to be."""

    url: str
    #: How long questions are asked.
    seconds: float
    #: Of the whole fleet.
    requests_per_second: float
    #: How long open answers may take after that.
    settle_seconds: float
    #: A server that is away for longer does not come back.
    gone_seconds: float
    seed: int
    #: The folder door's root; only needed by members that use it.
    cloud: Path


def assemble(members: Sequence[Member], plan: Plan, *, clock: Clock) -> Fleet:
    """A fleet, ready to run."""
    journal = Journal(clock=clock)
    gap_seconds = len(members) / plan.requests_per_second
    devices = []
    for member in members:
        source = random.Random(f"{plan.seed}/{member.place.number}")  # noqa: S311 chooses questions and times
        agenda = Agenda(member, gap_seconds=gap_seconds, journal=journal, clock=clock, source=source)
        if member.place.door is Channel.FOLDER:
            tray = Tray(plan.cloud, member.device_id)
            folder = FolderDoor(member, tray, journal=journal, clock=clock, source=source)
            devices.append(Device(door=folder, agenda=agenda, source=source, clear=folder.clear))
        else:
            line = Line(plan.url, member, journal=journal, clock=clock, source=source)
            devices.append(Device(door=_network_door(line, source), agenda=agenda, source=source))
    return Fleet(
        devices,
        seconds=plan.seconds,
        settle_seconds=plan.settle_seconds,
        journal=journal,
        pulse=Pulse(plan.url, gone_seconds=plan.gone_seconds, clock=clock),
        clock=clock,
    )


def _network_door(line: Line, source: random.Random) -> Door:
    place = line.member.place
    if place.door is Channel.WEBSOCKET:
        return WebSocketDoor(line, source=source)
    return PollingDoor(line) if place.number % 4 == 0 else WaitingDoor(line)
