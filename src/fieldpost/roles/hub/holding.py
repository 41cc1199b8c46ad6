"""What the frames in hand take of memory: one bound for the hub and one for each device, past which nothing more is read.

A device at its bound is in nobody else's way; the hub's bound protects the process from many of them.
"""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary


class Bound:
    """Bytes counted against a bound. Who found room may pass it by what it then counts."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._freed = asyncio.Event()
        self.held_bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether one more may be taken in hand."""
        return self.held_bytes < self._max_bytes

    def count(self, size_bytes: int) -> None:
        """So much more is in hand, or less."""
        self.held_bytes += size_bytes
        if self.has_room:
            self._freed.set()

    async def room(self) -> None:
        """Returns when there is room. Nobody is promised it. Cancel: safe."""
        while not self.has_room:
            self._freed.clear()
            await self._freed.wait()


class Holding:
    """What one session has in hand, while the context lasts; what is left at its end is given back."""

    def __init__(self, bounds: Sequence[Bound]) -> None:
        self._bounds = bounds
        self._held_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.count(-self._held_bytes)

    def count(self, size_bytes: int) -> None:
        """So much more is in hand, or less."""
        self._held_bytes += size_bytes
        for bound in self._bounds:
            bound.count(size_bytes)

    async def room(self) -> None:
        """Returns when all bounds leave room. Cancel: safe."""
        while not all(bound.has_room for bound in self._bounds):
            for bound in self._bounds:
                await bound.room()


class Holdings:
    """All sessions' of a hub."""

    def __init__(self, *, max_bytes: int, max_bytes_per_device: int) -> None:
        self._max_bytes_per_device = max_bytes_per_device
        self.together = Bound(max_bytes)
        #: Of devices that have sessions.
        self._by_device: WeakValueDictionary[int, Bound] = WeakValueDictionary()

    def of(self, device_id: int) -> Holding:
        """One more session's."""
        bound = self._by_device.get(device_id)
        if bound is None:
            bound = self._by_device[device_id] = Bound(self._max_bytes_per_device)
        return Holding((bound, self.together))
