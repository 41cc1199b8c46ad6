"""A clock on which every wait is over at once, and which remembers what was waited for."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta


class HastyClock:
    """Its time passes only by being slept through.

    Args:
        on_sleep: is done during every wait: what happens in the world meanwhile.
    """

    def __init__(self, on_sleep: Callable[[], Awaitable[None]] | None = None) -> None:
        self.waits: list[float] = []
        self._on_sleep = on_sleep
        self._start = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._start + timedelta(seconds=sum(self.waits))

    def monotonic(self) -> float:
        return 1000.0 + sum(self.waits)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await (self._on_sleep() if self._on_sleep else asyncio.sleep(0))
