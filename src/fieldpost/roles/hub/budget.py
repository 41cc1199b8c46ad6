"""What may wait unsent in all sessions of a hub together, in bytes, and whose turn it is to read more from the ledger.

A bound for the process, whatever the number of sessions that read slowly or not at all: those that take nothing are closed
by their stall timeout, and what they held goes to the next in turn.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """Sessions count here what they have unsent; pages are read in turn, and only while there is room.

    Args:
        max_bytes: may be passed by as many pages as are read at once.
        readers: pages read at once.
    """

    def __init__(self, *, max_bytes: int, readers: int) -> None:
        self._max_bytes = max_bytes
        self._unsent_bytes = 0
        self._sessions = 0
        self._places = asyncio.Semaphore(readers)
        self._freed = asyncio.Event()

    @property
    def unsent_bytes(self) -> int:
        """What all sessions have unsent."""
        return self._unsent_bytes

    @property
    def has_room(self) -> bool:
        """Whether anything more may be put that could wait elsewhere."""
        return self._unsent_bytes < self._max_bytes

    @property
    def has_room_to_spare(self) -> bool:
        """Whether half of it is free."""
        return 2 * self._unsent_bytes < self._max_bytes

    @property
    def share_bytes(self) -> int:
        """What one session may have unsent, at least a byte."""
        return max(1, self._max_bytes // max(1, self._sessions))

    def join(self) -> None:
        """One session more."""
        self._sessions += 1

    def leave(self, unsent_bytes: int) -> None:
        """One session less, and what it had unsent."""
        self._sessions -= 1
        self.count(-unsent_bytes)

    def count(self, size_bytes: int) -> None:
        """So much more is unsent, or less."""
        self._unsent_bytes += size_bytes
        if size_bytes < 0 and self.has_room:
            self._freed.set()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits in line until there is room, then a page may be read and put while the context lasts. Cancel: safe."""
        async with self._places:
            while not self.has_room:
                self._freed.clear()
                await self._freed.wait()
            yield
