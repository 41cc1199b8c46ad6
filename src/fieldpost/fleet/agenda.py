"""When a device asks next, and what; nothing once the fleet has asked as much as it may remember."""

import asyncio
import random

from fieldpost.clock import Clock
from fieldpost.fleet.journal import Journal
from fieldpost.fleet.questions import pick
from fieldpost.fleet.roster import Member


class Agenda:
    """One device's; the times between its questions are random with a fixed mean, as independent askers' are."""

    def __init__(
        self, member: Member, *, gap_seconds: float, journal: Journal, clock: Clock, source: random.Random
    ) -> None:
        self._member = member
        self._gap_seconds = gap_seconds
        self._journal = journal
        self._clock = clock
        self._source = source
        self._asked = 0

    async def next(self) -> tuple[str, str]:
        """Returns a name that this device has not used before, and a question, when it is time to ask it."""
        await self._clock.sleep(self._source.expovariate(1 / self._gap_seconds))
        if self._journal.is_full:
            await asyncio.Event().wait()
        self._asked += 1
        return f"question-{self._asked}", pick(self._member.place.kind, self._source)
