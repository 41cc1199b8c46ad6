"""Endless loops beside a body of code, and work that goes on to its end."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


@asynccontextmanager
async def running(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs the loops while the context lasts; an error of the body comes out as it is, not in a group."""
    error: BaseException | None = None
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(loop) for loop in loops]
        try:
            yield
        except BaseException as raised:  # noqa: BLE001 raised again when the loops have ended
            error = raised
        for task in started:
            task.cancel()
    if error is not None:
        raise error


async def carried_through(work: Coroutine[Any, Any, T]) -> T:
    """What the work brings. A caller who is cancelled meanwhile ends when the work has ended, and not before."""
    task = asyncio.ensure_future(work)  # noqa: TID251 it ends in here, whatever happens
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
