"""Sends what is published: queued at once, sent together in the next round trip, dropped and counted when over the bound."""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from fieldpost.backends.redis_cluster.client import Client
from fieldpost.backends.redis_cluster.link import Link
from fieldpost.backends.redis_cluster.spreading import spread
from fieldpost.backends.redis_cluster.streams import HEARTBEAT_SECONDS, Outgoing
from fieldpost.clock import Clock
from fieldpost.errors import BackendUnavailableError
from fieldpost.messages.events import Event
from fieldpost.observability import get_logger

#: Events waiting to be sent at most.
_MAX_QUEUED = 10_000
#: Events in one message, and messages in one round trip, at most.
_MESSAGE_EVENTS = 100
_BATCH_MESSAGES = 500
_TICK_SECONDS = HEARTBEAT_SECONDS[0] / 2

log = get_logger()


class Publisher:
    """One process's voice on the bus; `run` sends, one batch at a time, which keeps the order."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        #: By channel, in order.
        self._queued: defaultdict[str, list[Event]] = defaultdict(list)
        self._count = 0
        self._dropped = 0
        self._streams: dict[str, Outgoing] = {}
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._encoder = msgspec.msgpack.Encoder()

    def publish(self, channel: str, events: Sequence[Event]) -> None:
        """Queues events; where there is no room they go missing, and the hearers will notice."""
        if not events:
            return
        if self._count + len(events) > _MAX_QUEUED:
            self._dropped += len(events)
            self._stream(channel).skip(self._clock.monotonic())
            return
        self._queued[channel].extend(events)
        self._count += len(events)
        self._idle.clear()
        self._work.set()

    async def flush(self) -> None:
        """Returns when all that was published has been sent, or could not be."""
        await self._idle.wait()

    async def run(self) -> None:
        """Sends until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            while True:
                await self._work.wait()
                batch = self._take()
                if batch:
                    await self._send(batch)
                elif not self._queued:
                    self._work.clear()
                    self._idle.set()

    async def _beat(self) -> None:
        """Wakes the sender for heartbeats, so that only one batch is ever on its way."""
        while True:
            await self._clock.sleep(_TICK_SECONDS)
            self._work.set()
            if self._dropped:
                log.warning("bus.dropped", events=self._dropped)
                self._dropped = 0

    def _take(self) -> list[tuple[bytes, bytes]]:
        now = self._clock.monotonic()
        batch: list[tuple[bytes, bytes]] = []
        for channel in list(self._queued):
            if len(batch) >= _BATCH_MESSAGES:
                return batch
            events = self._queued[channel]
            taken = tuple(events[:_MESSAGE_EVENTS])
            del events[:_MESSAGE_EVENTS]
            self._count -= len(taken)
            # What is left goes to the end: a loud channel does not hold up the others.
            del self._queued[channel]
            if events:
                self._queued[channel] = events
            batch.append((channel.encode(), self._encoder.encode(self._stream(channel).message(taken, now))))
        for channel, stream in list(self._streams.items()):
            heartbeat = stream.heartbeat(now)
            if heartbeat is not None:
                batch.append((channel.encode(), self._encoder.encode(heartbeat)))
            elif stream.is_over:
                del self._streams[channel]
        return batch

    async def _send(self, batch: Sequence[tuple[bytes, bytes]]) -> None:
        try:
            await spread(self._link, batch, Client.publish)
        except BackendUnavailableError:
            now = self._clock.monotonic()
            for channel, _ in batch:
                self._stream(channel.decode()).failed(now)

    def _stream(self, channel: str) -> Outgoing:
        stream = self._streams.get(channel)
        if stream is None:
            stream = self._streams[channel] = Outgoing(secrets.token_bytes(8), self._clock.monotonic())
        return stream
