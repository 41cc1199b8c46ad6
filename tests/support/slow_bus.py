"""A bus whose following takes as long as a test wants, over the one in memory; it notes what is followed by then."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

from fieldpost.backends.memory import MemoryBus
from fieldpost.messages.events import Event
from fieldpost.ports.shared import Subscription


class SlowBus:
    """While `gate` is closed, `follow` and `unfollow` wait before they do anything; `subscribe` waits for `is_open`."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_open = asyncio.Event()
        self.is_open.set()
        #: What waits at the gate, or waited there: "follow devices.1".
        self.calls: list[str] = []
        self._bus = MemoryBus()

    @property
    def channels(self) -> set[str]:
        """The channels that somebody follows."""
        return set(self._bus.subscriptions)

    async def publish(self, channel: str, events: Sequence[Event]) -> None:
        await self._bus.publish(channel, events)

    @asynccontextmanager
    async def subscribe(self, channels: Collection[str]) -> AsyncIterator[Subscription]:
        await self.is_open.wait()
        async with self._bus.subscribe(channels) as subscription:
            yield _SlowSubscription(self, subscription)

    async def pass_gate(self, call: str) -> None:
        self.calls.append(call)
        await self.gate.wait()


class _SlowSubscription:
    def __init__(self, bus: SlowBus, subscription: Subscription) -> None:
        self._bus = bus
        self._subscription = subscription

    async def receive(self) -> Sequence[Event]:
        return await self._subscription.receive()

    async def follow(self, channels: Collection[str]) -> None:
        await self._bus.pass_gate(f"follow {' '.join(channels)}")
        await self._subscription.follow(channels)

    async def unfollow(self, channels: Collection[str]) -> None:
        await self._bus.pass_gate(f"unfollow {' '.join(channels)}")
        await self._subscription.unfollow(channels)
