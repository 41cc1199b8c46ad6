"""Runs the fleet: devices ask, drop off and come back; then nothing is asked any more, and what is open has to come in."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Protocol

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import FieldpostError
from fieldpost.fleet.agenda import Agenda
from fieldpost.fleet.journal import Journal
from fieldpost.fleet.pulse import Pulse
from fieldpost.fleet.roster import Member
from fieldpost.fleet.summary import Summary, summarize

#: How long a device stays, and how long it is away, in parts of the run; at most so many seconds.
_ONLINE_FRACTIONS = (0.15, 0.7)
_AWAY_FRACTIONS = (0.05, 0.2)
_MAX_ONLINE_SECONDS = 60.0
_MAX_AWAY_SECONDS = 15.0
#: After the last answer: for acknowledgements to be recorded.
_ACKNOWLEDGE_SECONDS = 5.0
_LOOK_SECONDS = 0.1


Watch = Callable[[], Coroutine[None, None, None]]


class Door(Protocol):
    """A device at its door."""

    member: Member

    async def session(self, agenda: Agenda | None) -> None:
        """Is online until cancelled; asks when there is an agenda, and gets what it missed in any case."""
        ...

    async def look_again(self) -> None:
        """Writes down what the door still offers at the end."""
        ...


def _nothing() -> None:
    """What most devices leave behind."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A door, and how it is used."""

    door: Door
    agenda: Agenda
    #: Of the times at which it drops off and comes back.
    source: random.Random
    #: Takes away what the device leaves on this machine.
    clear: Callable[[], None] = _nothing


class Fleet:
    """One run.

    Args:
        settle_seconds: bound of the wait for what is open when the time is up.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        *,
        seconds: float,
        settle_seconds: float,
        journal: Journal,
        pulse: Pulse,
        clock: Clock,
    ) -> None:
        self.journal = journal
        self.pulse = pulse
        self.seconds = seconds
        self.phase = "asking"
        self.members = [device.door.member for device in devices]
        self._devices = devices
        self._settle_seconds = settle_seconds
        self._clock = clock
        self._started_at = clock.monotonic()

    @property
    def elapsed_seconds(self) -> float:
        """Since it was made."""
        return self._clock.monotonic() - self._started_at

    async def run(self, *, watch: Watch | None = None) -> None:
        """Returns when the fleet has settled, or had to stop waiting for that.

        Args:
            watch: runs beside it, and is cancelled at the end.

        Raises:
            FieldpostError: the server went away for good, does not know the devices any more, or talks nonsense.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [tasks.create_task(self.pulse.run())]
                if watch is not None:
                    beside.append(tasks.create_task(watch()))
                await self._ask()
                await self._settle()
                await self._look_again()
                for task in beside:
                    task.cancel()
        except BaseExceptionGroup as group:
            ours, others = group.split(FieldpostError)
            if ours is None or others is not None:
                raise
            raise _first(ours) from None

    def clear(self) -> None:
        """Takes away what the devices leave on this machine; when nothing runs any more."""
        for device in self._devices:
            device.clear()

    def summary(self) -> Summary:
        """What it has come to so far."""
        journal = self.journal
        return summarize(
            journal.history,
            devices=len(self._devices),
            seconds=self.elapsed_seconds,
            failed=journal.failed,
            refused=journal.reasons,
            late=journal.late,
            reconnects=journal.reconnects,
            latencies={door.value: seconds for door, seconds in journal.latencies.items()},
        )

    async def _ask(self) -> None:
        until = self._clock.monotonic() + self.seconds
        async with asyncio.TaskGroup() as tasks:
            for device in self._devices:
                tasks.create_task(self._live(device, until))

    async def _live(self, device: Device, until: float) -> None:
        member = device.door.member
        while True:
            await self._stay(device, min(self._some(device, _ONLINE_FRACTIONS, _MAX_ONLINE_SECONDS), self._left(until)))
            if not self._left(until):
                return
            self.journal.left(member)
            await self._clock.sleep(min(self._some(device, _AWAY_FRACTIONS, _MAX_AWAY_SECONDS), self._left(until)))
            self.journal.returned(member)

    async def _stay(self, device: Device, seconds: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            session = tasks.create_task(device.door.session(device.agenda))
            await self._clock.sleep(seconds)
            session.cancel()

    async def _settle(self) -> None:
        """Every device comes back, asks nothing, and takes what is there."""
        self.phase = "settling"
        until = self._clock.monotonic() + self._settle_seconds
        async with asyncio.TaskGroup() as tasks:
            sessions = [tasks.create_task(device.door.session(None)) for device in self._devices]
            while not self.journal.is_answered and self._left(until):
                await self._clock.sleep(_LOOK_SECONDS)
            until = self._clock.monotonic() + _ACKNOWLEDGE_SECONDS
            while not self.journal.is_acknowledged and self._left(until):
                await self._clock.sleep(_LOOK_SECONDS)
            for session in sessions:
                session.cancel()

    async def _look_again(self) -> None:
        self.phase = "looking again"
        async with asyncio.TaskGroup() as tasks:
            for device in self._devices:
                tasks.create_task(device.door.look_again())

    def _left(self, until: float) -> float:
        return max(0.0, until - self._clock.monotonic())

    def _some(self, device: Device, fractions: tuple[float, float], most_seconds: float) -> float:
        return min(most_seconds, self.seconds * device.source.uniform(*fractions))


def _first(group: BaseExceptionGroup[FieldpostError]) -> FieldpostError:
    """What went wrong first; the rest was cancelled because of it, or says the same."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
