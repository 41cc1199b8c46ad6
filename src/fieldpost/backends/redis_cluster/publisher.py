"""Sends what is published: queued at once, sent together in the next round trip, dropped and counted when over the bound."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

import msgspec

from fieldpost.backends.redis_cluster.client import Client
from fieldpost.backends.redis_cluster.heartbeats import Heartbeats
from fieldpost.backends.redis_cluster.link import Link
from fieldpost.backends.redis_cluster.spreading import spread
from fieldpost.backends.redis_cluster.streams import HEARTBEAT_SECONDS, Message
from fieldpost.clock import Clock
from fieldpost.errors import BackendUnavailableError
from fieldpost.messages.events import Event
from fieldpost.observability import get_logger

#: Events waiting to be sent at most.
_MAX_QUEUED = 10_000
#: Events in one message, and messages and heartbeats in one round trip, at most.
_MESSAGE_EVENTS = 100
_BATCH_MESSAGES = 500
_BATCH_HEARTBEATS = 250
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
        self._heartbeats = Heartbeats()
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
            self._heartbeats.skip(channel, self._clock.monotonic())
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
        messages: list[tuple[str, Message]] = []
        for channel in list(islice(self._queued, _BATCH_MESSAGES)):
            events = self._queued.pop(channel)
            taken = tuple(events[:_MESSAGE_EVENTS])
            self._count -= len(taken)
            messages.append((channel, self._heartbeats.message(channel, taken, now)))
            # What is left goes to the end: a loud channel does not hold up the others.
            if len(taken) < len(events):
                self._queued[channel] = events[_MESSAGE_EVENTS:]
        messages += self._heartbeats.due(now, _BATCH_HEARTBEATS)
        return [(channel.encode(), self._encoder.encode(message)) for channel, message in messages]

    async def _send(self, batch: Sequence[tuple[bytes, bytes]]) -> None:
        try:
            await spread(self._link, batch, Client.publish)
        except BackendUnavailableError:
            now = self._clock.monotonic()
            for channel, _ in batch:
                self._heartbeats.failed(channel.decode(), now)
