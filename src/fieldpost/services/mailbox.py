"""What this process hears about the devices it serves: one bus subscription, handed on to listeners by device.

Hints only: a listener that missed something is told so, and asks the ledger.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fieldpost.messages.events import Event, device_channel
from fieldpost.ports.backends import Backends
from fieldpost.ports.shared import Subscription

#: Events one listener may have unread; past that they are dropped and the loss is told.
MAX_UNREAD = 1000


class Listener:
    """The events of one device, for one session or waiting call."""

    def __init__(self, device_id: int) -> None:
        self.device_id = device_id
        self._events: deque[Event] = deque()
        self._lost = False
        self._ready = asyncio.Event()

    async def receive(self) -> Sequence[Event]:
        """Waits for events; an empty sequence says that some were lost."""
        await self._ready.wait()
        self._ready.clear()
        if self._lost:
            self._lost = False
            self._events.clear()
            return ()
        events = tuple(self._events)
        self._events.clear()
        return events

    def put(self, event: Event) -> None:
        """Hands an event to the listener."""
        if len(self._events) >= MAX_UNREAD:
            self.lose()
        else:
            self._events.append(event)
            self._ready.set()

    def lose(self) -> None:
        """Tells the listener that it missed something."""
        self._lost = True
        self._events.clear()
        self._ready.set()


class Mailbox:
    """Listeners by device; `run` moves events from the bus to them."""

    def __init__(self, backends: Backends) -> None:
        self._bus = backends.shared.bus
        self._listeners: defaultdict[int, set[Listener]] = defaultdict(set)
        self._followers: defaultdict[str, int] = defaultdict(int)
        self._subscription: Subscription | None = None

    @property
    def device_ids(self) -> Sequence[int]:
        """The devices that are listened for now."""
        return tuple(self._listeners)

    @asynccontextmanager
    async def listen(self, device_id: int) -> AsyncIterator[Listener]:
        """Hears of one device; what is published after entering is heard."""
        listener = Listener(device_id)
        self._listeners[device_id].add(listener)
        channel = device_channel(device_id)
        self._followers[channel] += 1
        try:
            if self._followers[channel] == 1 and self._subscription is not None:
                await self._subscription.follow([channel])
            yield listener
        finally:
            self._drop(listener)
            self._followers[channel] -= 1
            if not self._followers[channel]:
                del self._followers[channel]
                if self._subscription is not None:
                    await self._subscription.unfollow([channel])

    async def run(self) -> None:
        """Hands events on until cancelled; started again, it tells all listeners that they missed something."""
        async with self._bus.subscribe(tuple(self._followers)) as subscription:
            self._subscription = subscription
            try:
                self._lose_all()
                while True:
                    events = await subscription.receive()
                    if not events:
                        self._lose_all()
                    for event in events:
                        for listener in self._listeners.get(event.device_id, ()):
                            listener.put(event)
            finally:
                self._subscription = None

    def _drop(self, listener: Listener) -> None:
        listeners = self._listeners[listener.device_id]
        listeners.discard(listener)
        if not listeners:
            del self._listeners[listener.device_id]

    def _lose_all(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.lose()
