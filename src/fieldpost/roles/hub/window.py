"""Which answers are on their way over one session: a pure record of what was sent, acknowledged and left behind.

Bus events, pages of the ledger and sweeps race; whatever their order, an answer is admitted once, and never after it was
settled. Does not send, and knows no time.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

#: Settled answers remembered. What is older than a reading of the ledger is recognised by counting, see `admit`.
MAX_SETTLED = 2048


class Window:
    """One session's window of at most `limit` answers that were sent and not yet acknowledged."""

    def __init__(self, *, limit: int, memory: int = MAX_SETTLED) -> None:
        self._limit = limit
        self._memory = memory
        # Both in order of insertion.
        self._on_their_way: dict[UUID, None] = {}
        self._settled: dict[UUID, None] = {}
        self._settled_ever = 0
        #: Whether the ledger has answers for this session that were passed over.
        self.is_behind = False

    @property
    def room(self) -> int:
        """How many more answers may be sent before one is acknowledged."""
        return self._limit - len(self._on_their_way)

    @property
    def wants_refill(self) -> bool:
        """Whether asking the ledger is worth it: half the window is free, so it is read for many answers, not for one."""
        return self.is_behind and 2 * self.room >= self._limit

    @property
    def on_their_way(self) -> Sequence[UUID]:
        """Answers sent and not settled, oldest first."""
        return tuple(self._on_their_way)

    def is_on_its_way(self, request_id: UUID) -> bool:
        """Whether the answer was admitted and is not settled."""
        return request_id in self._on_their_way

    def knows(self, request_id: UUID) -> bool:
        """Whether the answer was admitted or settled before."""
        return request_id in self._on_their_way or request_id in self._settled

    def mark(self) -> int:
        """Where the record stands now; taken before the ledger is read, and given to `admit` with what was read."""
        return self._settled_ever

    def admit(self, request_id: UUID, *, since: int | None = None) -> bool:
        """Whether this answer is to be sent now; if so it counts as sent.

        Args:
            since: the mark taken before the ledger was read; when more was settled since than is remembered, what was read
                is too old to tell and stays for the next reading.
        """
        if self.knows(request_id):
            return False
        is_too_old = since is not None and self._settled_ever - since > self._memory
        if is_too_old or self.room <= 0:
            self.is_behind = True
            return False
        self._on_their_way[request_id] = None
        return True

    def settle(self, request_ids: Iterable[UUID]) -> None:
        """The device has these answers, through whichever door."""
        for request_id in request_ids:
            self._on_their_way.pop(request_id, None)
            if request_id in self._settled:
                # Not moved to the end: then all that was settled since a mark would no longer be the last to go.
                continue
            self._settled_ever += 1
            self._settled[request_id] = None
            if len(self._settled) > self._memory:
                del self._settled[next(iter(self._settled))]
