"""Waiting with a bound, and doing a thing again and again."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(awaitable: Awaitable[T], seconds: float) -> T | None:
    """The result, or None when it did not come in time (the awaitable is cancelled then)."""
    try:
        async with asyncio.timeout(seconds):
            return await awaitable
    except TimeoutError:
        return None
