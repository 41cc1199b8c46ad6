"""When files that could not be taken or moved are tried again."""

from collections.abc import Collection

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import UnavailableError
from fieldpost.observability import get_logger
from fieldpost.ports.folders import Drop

#: First wait before a file is tried again; doubles each time.
_FIRST_SECONDS = 1.0
_MAX_SECONDS = 60.0

log = get_logger()


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """When a file is tried again, on the monotonic clock."""

    at_seconds: float
    pause_seconds: float


class Retries:
    """Remembers some more than `max_kept` files."""

    def __init__(self, *, clock: Clock, max_kept: int) -> None:
        self._clock = clock
        self._max_kept = max_kept
        self._retries: dict[Drop, Retry] = {}

    def is_later(self, drop: Drop, now_seconds: float) -> bool:
        """Whether it is not yet this file's time."""
        retry = self._retries.get(drop)
        return retry is not None and now_seconds < retry.at_seconds

    def later(self, drop: Drop, error: Exception) -> None:
        """Puts a file off, told of once."""
        before = self._retries.get(drop)
        pause_seconds = _FIRST_SECONDS if before is None else min(2 * before.pause_seconds, _MAX_SECONDS)
        if isinstance(error, UnavailableError):
            pause_seconds = max(pause_seconds, error.retry_after_seconds)
        self._retries[drop] = Retry(at_seconds=self._clock.monotonic() + pause_seconds, pause_seconds=pause_seconds)
        if before is None:
            log.warning("drop_waits", summed=True, device_id=drop.device_id, file=ascii(drop.name), error=repr(error))

    def forget(self, drop: Drop) -> None:
        """It needs no further try."""
        self._retries.pop(drop, None)

    def keep_only(self, drops: Collection[Drop]) -> None:
        """Forgets, when there are many, the files that are gone."""
        if len(self._retries) > self._max_kept:
            seen = frozenset(drops)
            self._retries = {drop: retry for drop, retry in self._retries.items() if drop in seen}
