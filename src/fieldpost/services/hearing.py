"""Waiting for what is heard, and asking the ledger now and then whatever is heard: hints may be lost one by one."""

import math
from collections.abc import Sequence

import msgspec

from fieldpost.clock import Clock
from fieldpost.messages.events import Event, ResponseReady, StateChanged
from fieldpost.services.mailbox import Listener
from fieldpost.services.waiting import within

#: How often a waiting call asks the ledger although nothing told it to.
RECHECK_SECONDS = 2.0


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one wait."""

    events: Sequence[Event] = ()
    #: Some events were lost.
    is_loss: bool = False
    #: It is time to ask the ledger: some were lost, or it was not asked for long.
    is_due: bool = False

    @property
    def may_end(self) -> bool:
        """Whether the ledger may have a final answer now."""
        return self.is_due or any(map(may_end, self.events))


class Hearing:
    """Waits for a listener's events; the time of the next question to the ledger does not move with what is heard."""

    def __init__(self, listener: Listener, clock: Clock) -> None:
        self._listener = listener
        self._clock = clock
        self._asked_at = clock.monotonic()

    async def hear(self, *, every_seconds: float = RECHECK_SECONDS, at_most_seconds: float = math.inf) -> Heard:
        """Waits for events, or until the ledger is to be asked, which is expected to happen then.

        Args:
            every_seconds: from one question to the next.
        """
        left_seconds = max(0.0, self._asked_at + every_seconds - self._clock.monotonic())
        events = await within(self._listener.receive(), min(left_seconds, at_most_seconds))
        is_loss = events is not None and not events
        is_waited_out = events is None and left_seconds <= at_most_seconds
        is_due = is_loss or is_waited_out or self._clock.monotonic() >= self._asked_at + every_seconds
        if is_due:
            self._asked_at = self._clock.monotonic()
        return Heard(events=events or (), is_loss=is_loss, is_due=is_due)


def may_end(event: Event) -> bool:
    """Whether after this event there may be a final answer to ask for."""
    return isinstance(event, ResponseReady) or (isinstance(event, StateChanged) and event.status.is_final)
