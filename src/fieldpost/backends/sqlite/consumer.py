"""One consumer of durable queues: what it has in hand is known in memory, what it acknowledges is deleted.

Whoever makes it says how messages are deleted.
"""

import asyncio
from collections.abc import Callable, Sequence

from fieldpost.backends.sqlite.queue import Queue
from fieldpost.ports.broker import Delivery

#: Bytes of messages handed out in one `receive`, but always one message.
MAX_RECEIVE_BYTES = 16 * 2**20


class SqliteConsumer:
    """See `ports.broker.Consumer`."""

    def __init__(
        self, queues: Sequence[Queue], *, prefetch: int, delete: Callable[[Queue, Sequence[int]], None]
    ) -> None:
        self._delete = delete
        self._queues = {queue.name: queue for queue in queues}
        self._prefetch = prefetch
        self._in_hand: dict[int, tuple[Queue, bytes]] = {}
        self._wake = asyncio.Event()
        for queue in queues:
            queue.wakes.add(self._wake)

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Waits for messages and for room."""
        while True:
            self._wake.clear()
            room = min(limit, self._prefetch - len(self._in_hand))
            if room > 0:
                taken = self._take(room)
                if taken:
                    return taken
                if await self._load():
                    continue
            await self._wake.wait()

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Forgets messages."""
        ids: dict[str, list[int]] = {}
        for delivery in deliveries:
            if self._in_hand.pop(delivery.tag, None) is not None:
                ids.setdefault(delivery.queue, []).append(delivery.tag)
        for name, tags in ids.items():
            self._delete(self._queues[name], tags)
        self._wake.set()

    async def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Puts messages back in front."""
        for delivery in reversed(deliveries):
            held = self._in_hand.pop(delivery.tag, None)
            if held is not None:
                held[0].put_back((delivery.tag, held[1]))
        self._wake.set()

    def close(self) -> None:
        """Puts everything in hand back."""
        for queue in self._queues.values():
            queue.wakes.discard(self._wake)
        for tag, (queue, body) in sorted(self._in_hand.items(), reverse=True):
            queue.put_back((tag, body))
        self._in_hand.clear()

    def _take(self, room: int) -> Sequence[Delivery]:
        taken: list[Delivery] = []
        size_bytes = 0
        for queue in self._queues.values():
            while queue.ready and len(taken) < room and size_bytes < MAX_RECEIVE_BYTES:
                message_id, body = queue.take()
                size_bytes += len(body)
                self._in_hand[message_id] = (queue, body)
                taken.append(Delivery(tag=message_id, queue=queue.name, body=body))
        return taken

    async def _load(self) -> bool:
        for queue in self._queues.values():
            if queue.has_unread and await queue.load():
                return True
        return False
