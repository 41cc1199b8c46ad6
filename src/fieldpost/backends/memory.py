"""Shared state inside one process: the embedded default. Forgets everything when the process ends."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from itertools import islice

import msgspec

from fieldpost.clock import Clock
from fieldpost.messages.events import Event
from fieldpost.messages.instances import Instance
from fieldpost.ports.instances import Instances
from fieldpost.ports.shared import MAX_UNREAD, Bus, Leases, SharedValues, Subscription

#: Values kept at most; more than a full queue of requests.
MAX_VALUES = 250_000


class MemorySubscription:
    """One subscriber's bounded buffer."""

    def __init__(self, bus: "MemoryBus") -> None:
        self._bus = bus
        self._events: deque[Event] = deque()
        self._lost = False
        self._ready = asyncio.Event()

    async def receive(self) -> Sequence[Event]:
        """Waits for events; empty when some were lost."""
        await self._ready.wait()
        self._ready.clear()
        if self._lost:
            self._lost = False
            return ()
        events = tuple(self._events)
        self._events.clear()
        return events

    async def follow(self, channels: Collection[str]) -> None:
        """Hears these channels too."""
        for channel in channels:
            self._bus.subscriptions[channel].add(self)

    async def unfollow(self, channels: Collection[str]) -> None:
        """Hears these channels no more."""
        for channel in channels:
            self._bus.forget(channel, self)

    def put(self, events: Sequence[Event]) -> None:
        """Buffers events, or notes that they are lost."""
        if len(self._events) + len(events) > MAX_UNREAD:
            self._events.clear()
            self._lost = True
        elif not self._lost:
            self._events.extend(events)
        self._ready.set()


class MemoryBus:
    """Publish and subscribe among the tasks of one event loop; nothing is lost but by overflow."""

    def __init__(self) -> None:
        self.subscriptions: defaultdict[str, set[MemorySubscription]] = defaultdict(set)

    async def publish(self, channel: str, events: Sequence[Event]) -> None:
        """Hands events to everyone who follows the channel."""
        for subscription in self.subscriptions.get(channel, ()):
            subscription.put(events)

    @asynccontextmanager
    async def subscribe(self, channels: Collection[str]) -> AsyncIterator[Subscription]:
        """A subscription while the context lasts."""
        subscription = MemorySubscription(self)
        await subscription.follow(channels)
        try:
            yield subscription
        finally:
            await subscription.unfollow(tuple(self.subscriptions))

    def forget(self, channel: str, subscription: MemorySubscription) -> None:
        """Ends a subscription to one channel."""
        followers = self.subscriptions.get(channel)
        if followers is not None:
            followers.discard(subscription)
            if not followers:
                del self.subscriptions[channel]


class MemoryValues:
    """Values with a time to live, the oldest dropped first when there are too many."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # In order of their setting, so that the oldest are found without looking.
        self._values: dict[str, tuple[float, bytes]] = {}

    async def put(self, values: Sequence[tuple[str, bytes]], *, ttl_seconds: float) -> None:
        """Sets values."""
        now = self._clock.monotonic()
        for key, value in values:
            self._values.pop(key, None)
            self._values[key] = (now + ttl_seconds, value)
        self._forget(now, at_most=2 * len(values))

    async def get(self, key: str) -> bytes | None:
        """The value, while it lives."""
        found = self._values.get(key)
        return found[1] if found is not None and found[0] > self._clock.monotonic() else None

    def _forget(self, now: float, *, at_most: int) -> None:
        """Drops the oldest that are over or too many; twice as many as came, so that it keeps up."""
        for key, (expires, _) in list(islice(self._values.items(), at_most)):
            if expires > now and len(self._values) <= MAX_VALUES:
                return
            del self._values[key]


class MemoryLeases:
    """Leases among the tasks of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._holders: dict[str, tuple[str, float]] = {}

    async def acquire(self, name: str, *, holder: str, ttl_seconds: float) -> bool:
        """Takes or renews the lease."""
        now = self._clock.monotonic()
        current, expires = self._holders.get(name, (holder, 0.0))
        if current != holder and expires > now:
            return False
        self._holders[name] = (holder, now + ttl_seconds)
        return True

    async def release(self, name: str, *, holder: str) -> None:
        """Gives the lease up, if this holder has it."""
        if self._holders.get(name, ("", 0.0))[0] == holder:
            del self._holders[name]


class MemoryInstances:
    """The registry among the roles of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._instances: dict[str, tuple[float, Instance]] = {}

    async def announce(self, instance: Instance, *, ttl_seconds: float) -> None:
        """Writes it down, and drops those that are gone."""
        now = self._clock.monotonic()
        present = {name: entry for name, entry in self._instances.items() if entry[0] > now}
        self._instances = {**present, instance.id: (now + ttl_seconds, instance)}

    async def withdraw(self, instance_id: str) -> None:
        """Takes it off."""
        self._instances.pop(instance_id, None)

    async def list(self, role: str | None = None) -> Sequence[Instance]:
        """Those that are there."""
        now = self._clock.monotonic()
        found = [instance for expires, instance in self._instances.values() if expires > now]
        return sorted((one for one in found if role in (None, one.role)), key=lambda one: one.id)


class MemoryShared(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    bus: Bus
    values: SharedValues
    leases: Leases
    instances: Instances


def memory_shared(clock: Clock) -> MemoryShared:
    """Fresh shared state."""
    return MemoryShared(
        bus=MemoryBus(), values=MemoryValues(clock), leases=MemoryLeases(clock), instances=MemoryInstances(clock)
    )
