"""A running fleet at one moment, to be shown."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from fieldpost.fleet.fleet import Fleet
from fieldpost.fleet.journal import Exchange, Group
from fieldpost.messages.devices import DeviceKind
from fieldpost.messages.requests import Channel


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Devices of one kind at one door."""

    kind: DeviceKind
    door: Channel
    devices: int
    away: int
    sent: int
    answered: int
    refused: int

    @property
    def in_flight(self) -> int:
        """Sent, and neither answered nor refused yet."""
        return self.sent - self.answered - self.refused


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is shown while a fleet runs."""

    phase: str
    elapsed_seconds: float
    seconds: float
    server_is_up: bool
    reconnects: int
    rows: Sequence[Row]
    #: Oldest first.
    latest: Sequence[Exchange]

    def total(self, column: str) -> int:
        """A column's sum."""
        return sum(getattr(row, column) for row in self.rows)


def snapshot(fleet: Fleet) -> Snapshot:
    """The fleet as it is now."""
    journal = fleet.journal
    return Snapshot(
        phase=fleet.phase,
        elapsed_seconds=fleet.elapsed_seconds,
        seconds=fleet.seconds,
        server_is_up=fleet.pulse.is_up,
        reconnects=journal.reconnects,
        rows=_rows(fleet),
        latest=tuple(journal.latest),
    )


def _rows(fleet: Fleet) -> list[Row]:
    journal = fleet.journal
    devices: Counter[Group] = Counter()
    away: Counter[Group] = Counter()
    for member in fleet.members:
        group = (member.place.kind, member.place.door)
        devices[group] += 1
        away[group] += member.device_id in journal.away
    return [
        Row(
            kind=kind,
            door=door,
            devices=devices[kind, door],
            away=away[kind, door],
            sent=journal.sent[kind, door],
            answered=journal.answered[kind, door],
            refused=journal.refused[kind, door],
        )
        for kind in DeviceKind
        for door in Channel
        if devices[kind, door]
    ]
