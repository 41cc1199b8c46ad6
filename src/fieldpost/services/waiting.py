"""Waiting with a bound, and doing a thing again and again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fieldpost.clock import Clock
from fieldpost.errors import UnavailableError
from fieldpost.observability import get_logger
from fieldpost.services.troubles import Troubles

T = TypeVar("T")

#: Between the end of a loop whose engine is away and its next start.
_PAUSE_SECONDS = 1.0

log = get_logger()


async def within(awaitable: Awaitable[T], seconds: float) -> T | None:
    """The result, or None when it did not come in time (the awaitable is cancelled then)."""
    try:
        async with asyncio.timeout(seconds):
            return await awaitable
    except TimeoutError:
        return None


async def keep_going(
    run: Callable[[], Awaitable[None]], *, clock: Clock, loop: str, troubles: Troubles | None = None
) -> None:
    """Runs an endless loop, and again after a pause whenever what it needs is away; any other error ends it.

    Args:
        loop: its name in the log, and among the troubles.
    """
    while True:
        try:
            await run()
        except UnavailableError as error:
            if troubles is not None:
                troubles.note(loop, error)
            log.warning("loop_failed", summed=loop, loop=loop, error=repr(error), restart_seconds=_PAUSE_SECONDS)
        else:
            return
        await clock.sleep(_PAUSE_SECONDS)
