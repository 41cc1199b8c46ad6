"""What one session is about to send: bounded, so that a peer that does not read costs little and is noticed."""

import asyncio
from collections import deque

#: Bytes that may wait for one peer; a single larger frame may wait alone.
MAX_WAITING_BYTES = 2**20


class Outbox:
    """Frames in order; a waiting `put` is the back-pressure on whoever asked."""

    def __init__(self) -> None:
        self._frames: deque[str] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Condition()

    async def put(self, frame: bytes) -> None:
        """Queues a frame, after waiting for room."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.has_room)
            self._append(frame)
            self._changed.notify_all()

    async def put_if_room(self, frame: bytes) -> bool:
        """Queues a frame that may be left out."""
        async with self._changed:
            if not self.has_room:
                return False
            self._append(frame)
            self._changed.notify_all()
            return True

    async def get(self) -> str:
        """The next frame, after waiting for one."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._frames))
            frame = self._frames.popleft()
            self._waiting_bytes -= len(frame)
            self._changed.notify_all()
            return frame

    async def flushed(self) -> None:
        """Returns once nothing waits."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._frames)

    @property
    def has_room(self) -> bool:
        """Whether a frame can be queued without waiting."""
        return self._waiting_bytes < MAX_WAITING_BYTES

    def _append(self, frame: bytes) -> None:
        text = frame.decode()
        self._frames.append(text)
        self._waiting_bytes += len(text)
