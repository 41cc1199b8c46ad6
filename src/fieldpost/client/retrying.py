"""The one retry helper: the same call again, after a wait, until it succeeds, is refused or has taken too long."""

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fieldpost.clock import Clock
from fieldpost.errors import FieldpostError, UnavailableError
from fieldpost.policy.backoff import delay_seconds

T = TypeVar("T")


class Retrying:
    """Knows the time and how to spread waits; holds nothing between calls."""

    def __init__(self, *, clock: Clock, source: random.Random) -> None:
        self.clock = clock
        self._source = source

    async def run(self, call: Callable[[], Awaitable[T]], *, give_up_seconds: float) -> T:
        """The call's result.

        Args:
            give_up_seconds: no try begins later than this after the first; the last one may still take its time.

        Raises:
            FieldpostError: at once when it is not retryable, else the last one.
        """
        last_start = self.clock.monotonic() + give_up_seconds
        failures = 0
        while True:
            try:
                return await call()
            except FieldpostError as error:
                failures += 1
                delay = self.delay_after(error, failures)
                if not error.retryable or self.clock.monotonic() + delay > last_start:
                    raise
            await self.clock.sleep(delay)

    def delay_after(self, error: FieldpostError, failures: int) -> float:
        """Seconds to wait after so many failures in a row, the last of which was `error`."""
        asked = error.retry_after_seconds if isinstance(error, UnavailableError) else 0.0
        return delay_seconds(failures, source=self._source, retry_after_seconds=asked)
