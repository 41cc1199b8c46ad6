"""Which answers one session has sent: none twice, none after its acknowledgement, not too many at once. No I/O."""

from collections import OrderedDict
from collections.abc import Iterable
from uuid import UUID

#: Acknowledged ids remembered, so that news that is late does not bring them again.
MAX_SETTLED = 10_000


class Window:
    """Answers on their way on one session.

    Invariant: `len(unacknowledged) <= max_unacknowledged`, and an id is admitted at most once as long as it is remembered.
    """

    def __init__(self, max_unacknowledged: int) -> None:
        self._max_unacknowledged = max_unacknowledged
        self._unacknowledged: dict[UUID, None] = {}
        self._settled: OrderedDict[UUID, None] = OrderedDict()
        #: Something was turned away for want of room: the ledger has more.
        self.has_turned_away = False

    @property
    def is_full(self) -> bool:
        """Whether nothing more is admitted until something is acknowledged."""
        return len(self._unacknowledged) >= self._max_unacknowledged

    @property
    def unacknowledged(self) -> int:
        """How many answers were sent and not acknowledged."""
        return len(self._unacknowledged)

    def admit(self, request_id: UUID) -> bool:
        """Whether to send this answer now; if so, it counts as sent."""
        if request_id in self._unacknowledged or request_id in self._settled:
            return False
        if self.is_full:
            self.has_turned_away = True
            return False
        self._unacknowledged[request_id] = None
        return True

    def settle(self, request_ids: Iterable[UUID]) -> None:
        """These are acknowledged, on this session or another: never to be sent (again)."""
        for request_id in request_ids:
            self._unacknowledged.pop(request_id, None)
            self._settled[request_id] = None
            self._settled.move_to_end(request_id)
        while len(self._settled) > MAX_SETTLED:
            self._settled.popitem(last=False)
