"""The bus over Redis's publish and subscribe, sharded where it is a cluster."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import msgspec

from fieldpost.backends.redis_cluster.address import Address
from fieldpost.backends.redis_cluster.client import CALL_SECONDS
from fieldpost.backends.redis_cluster.link import Link
from fieldpost.backends.redis_cluster.publisher import Publisher
from fieldpost.backends.redis_cluster.streams import Incoming, Message
from fieldpost.clock import Clock
from fieldpost.messages.events import Event
from fieldpost.observability import get_logger
from fieldpost.ports.shared import MAX_UNREAD, Subscription

_PREFIX = "fieldpost:bus:"

log = get_logger()


class RedisSubscription:
    """One subscriber's bounded buffer."""

    def __init__(self, bus: "RedisBus") -> None:
        self._bus = bus
        self.channels: set[str] = set()
        self._events: deque[Event] = deque()
        self._lost = False
        self._ready = asyncio.Event()

    async def receive(self) -> Sequence[Event]:
        """Waits for events; empty when some were lost."""
        await self._ready.wait()
        if self._lost:
            self._lost = False
            if not self._events:
                self._ready.clear()
            return ()
        self._ready.clear()
        events = tuple(self._events)
        self._events.clear()
        return events

    async def follow(self, channels: Collection[str]) -> None:
        """Hears these channels too."""
        self.channels |= set(channels)
        await self._bus.follow(self, channels)

    async def unfollow(self, channels: Collection[str]) -> None:
        """Hears these channels no more."""
        self.channels -= set(channels)
        await self._bus.unfollow(self, channels)

    def put(self, events: Sequence[Event]) -> None:
        """Buffers events, or tells that they are lost."""
        if len(self._events) + len(events) > MAX_UNREAD:
            self.lose()
        elif events:
            self._events.extend(events)
            self._ready.set()

    def lose(self) -> None:
        """Empties the buffer, and says so before anything that comes later."""
        self._events.clear()
        self._lost = True
        self._ready.set()


class RedisBus:
    """Hands what comes from Redis to this process's subscriptions; the engine is asked for each channel once."""

    def __init__(self, address: Address, *, clock: Clock, name: str) -> None:
        self._clock = clock
        self.link = Link(address, clock=clock, name=name, heard=self._hear, lost=self._lose_all)
        self._publisher = Publisher(self.link, clock)
        self._followers: dict[str, set[RedisSubscription]] = {}
        self._incoming: dict[str, Incoming] = {}
        self._decoder = msgspec.msgpack.Decoder(Message)

    async def run(self) -> None:
        """Connects, and sends what is published, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.link.run())
            group.create_task(self._publisher.run())

    async def publish(self, channel: str, events: Sequence[Event]) -> None:
        """Queues events for the next round trip."""
        self._publisher.publish(_PREFIX + channel, events)

    @asynccontextmanager
    async def subscribe(self, channels: Collection[str]) -> AsyncIterator[Subscription]:
        """A subscription while the context lasts."""
        subscription = RedisSubscription(self)
        try:
            await subscription.follow(channels)
            yield subscription
        finally:
            await subscription.unfollow(tuple(subscription.channels))

    async def follow(self, subscription: RedisSubscription, channels: Collection[str]) -> None:
        """Adds a follower; who is the first of its channel waits for the engine."""
        names = [_PREFIX + channel for channel in channels]
        fresh = [name for name in names if name not in self._followers]
        for name in names:
            self._followers.setdefault(name, set()).add(subscription)
        await self._flush()
        # Another one's first call may still be under way: this asks again, which costs little.
        await self.link.follow(names)
        now = self._clock.monotonic()
        for name in fresh:
            self._incoming.setdefault(name, Incoming(now))

    async def unfollow(self, subscription: RedisSubscription, channels: Collection[str]) -> None:
        """Takes a follower away; the engine is told when it was the last."""
        left = []
        for name in (_PREFIX + channel for channel in channels):
            followers = self._followers.get(name)
            if followers is None:
                continue
            followers.discard(subscription)
            if not followers:
                del self._followers[name]
                self._incoming.pop(name, None)
                left.append(name)
        if left:
            await self.link.unfollow(left)

    async def _flush(self) -> None:
        """What this process said before it listens is not for it."""
        try:
            async with asyncio.timeout(CALL_SECONDS / 2):
                await self._publisher.flush()
        except TimeoutError:
            pass

    def _hear(self, name: str, body: bytes) -> None:
        followers = self._followers.get(name)
        if not followers:
            return
        now = self._clock.monotonic()
        incoming = self._incoming.setdefault(name, Incoming(now))
        try:
            events, is_missing = incoming.hear(self._decoder.decode(body), now)
        except msgspec.DecodeError as error:
            # Of another version, perhaps: what it says is lost on us.
            log.warning("bus.unreadable", channel=name, error=str(error))
            events, is_missing = (), True
        for follower in followers:
            if is_missing:
                follower.lose()
            follower.put(events)

    def _lose_all(self) -> None:
        for follower in {follower for followers in self._followers.values() for follower in followers}:
            follower.lose()
