"""Waiting for conditions, with a deadline; never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

#: Long enough for a busy machine; only ever waited out by a test that fails.
DEADLINE_SECONDS = 30.0


async def eventually(condition: Callable[[], Awaitable[bool] | bool], *, seconds: float = DEADLINE_SECONDS) -> None:
    """Returns once the condition holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        outcome = condition()
        if outcome if isinstance(outcome, bool) else await outcome:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {condition}")
        await asyncio.sleep(0.01)


def eventually_now(condition: Callable[[], bool], *, seconds: float = DEADLINE_SECONDS) -> None:
    """The same, for tests without an event loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {condition}")
        time.sleep(0.02)
