"""Ends waits whose time is over: one timer for thousands of them, because each is nearly always over sooner."""

import asyncio
from collections import deque


class OverdueError(Exception):
    """The wait's time is over."""


class Deadlines:
    """Watches futures whose deadlines come in about the order in which they are handed in."""

    def __init__(self) -> None:
        self._waits: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._is_timer_set = False

    def watch(self, future: "asyncio.Future[None]", deadline: float) -> None:
        """Ends the future with OverdueError at the loop's time `deadline`, unless it is done."""
        waits = self._waits
        while waits and waits[0][1].done():
            waits.popleft()
        if waits and waits[-1][0] > deadline:
            # A second try, with less time left: rare, so it has a timer of its own.
            asyncio.get_running_loop().call_at(deadline, _end, future)
            return
        waits.append((deadline, future))
        if not self._is_timer_set:
            self._is_timer_set = True
            asyncio.get_running_loop().call_at(deadline, self._end_due)

    def _end_due(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waits and (self._waits[0][1].done() or self._waits[0][0] <= loop.time()):
            _end(self._waits.popleft()[1])
        self._is_timer_set = bool(self._waits)
        if self._is_timer_set:
            loop.call_at(self._waits[0][0], self._end_due)


def _end(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_exception(OverdueError())
