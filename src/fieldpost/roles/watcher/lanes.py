"""Many files at once, but not all of them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from fieldpost.ports.folders import Drop

#: Files on their way at once: enough to share the broker's flushes to the disk.
_LANES = 32


async def in_lanes(drops: Sequence[Drop], step: Callable[[Drop], Awaitable[None]]) -> None:
    """Takes this step with every file, in their order, with a few at a time."""
    left = iter(drops)

    async def lane() -> None:
        for drop in left:
            await step(drop)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(_LANES, len(drops))):
            tasks.create_task(lane())
