"""The sessions of this hub: how many there may be, and whose they are."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fieldpost.errors import DrainingError, OverloadedError
from fieldpost.observability import Metrics
from fieldpost.roles.hub.session import Session

#: A refused device comes back after this long.
_RETRY_SECONDS = 5.0


class Sessions:
    """Places for sessions."""

    def __init__(self, *, limit: int, limit_per_device: int, metrics: Metrics) -> None:
        self._limit = limit
        self._limit_per_device = limit_per_device
        self._gauge = metrics.sessions
        self._by_device: defaultdict[int, set[Session]] = defaultdict(set)
        self._count = 0
        self.is_draining = False

    def __iter__(self) -> Iterator[Session]:
        """All sessions there are now."""
        return iter([session for sessions in self._by_device.values() for session in sessions])

    def __len__(self) -> int:
        return self._count

    @property
    def device_ids(self) -> Sequence[int]:
        """The devices that are here."""
        return tuple(self._by_device)

    def of(self, device_id: int) -> Sequence[Session]:
        """The device's sessions."""
        return tuple(self._by_device.get(device_id, ()))

    def check(self, device_id: int) -> None:
        """Whether one more session of this device may begin.

        Raises:
            DrainingError: none may.
            OverloadedError: all places, or all of this device's, are taken.
        """
        if self.is_draining:
            raise DrainingError(retry_after_seconds=1.0)
        if self._count >= self._limit:
            raise OverloadedError(f"{self._limit} sessions are open", retry_after_seconds=_RETRY_SECONDS)
        if len(self._by_device.get(device_id, ())) >= self._limit_per_device:
            raise OverloadedError(
                f"this device has {self._limit_per_device} sessions open", retry_after_seconds=_RETRY_SECONDS
            )

    @contextmanager
    def place(self, session: Session) -> Iterator[None]:
        """Takes a place while the context lasts; raises as `check` does."""
        self.check(session.device_id)
        sessions = self._by_device[session.device_id]
        sessions.add(session)
        self._count += 1
        self._gauge.inc()
        try:
            yield
        finally:
            self._gauge.dec()
            self._count -= 1
            sessions.discard(session)
            if not sessions:
                self._by_device.pop(session.device_id, None)
