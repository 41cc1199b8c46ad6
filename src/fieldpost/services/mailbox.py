"""What this process hears about the devices it serves: one bus subscription, handed on to listeners by device or request.

Hints only: a listener that missed something is told so, and asks the ledger.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

from fieldpost.messages.events import Broadcast, Event, ResponseChunk, ResponseReady, StateChanged, device_channel
from fieldpost.ports.backends import Backends
from fieldpost.ports.shared import Subscription

#: Events one listener may have unread; past that they are dropped and the loss is told.
MAX_UNREAD = 1000


class Listener:
    """The events of one device, or of one of its requests, for one session or waiting call.

    Args:
        device_id: 0 for none in particular.
    """

    def __init__(self, device_id: int, request_id: UUID | None) -> None:
        self.device_id = device_id
        #: The one request it hears of; None for all that happens to the device.
        self.request_id = request_id
        self._events: deque[Event] = deque()
        self._lost = False
        self._ready = asyncio.Event()

    async def receive(self) -> Sequence[Event]:
        """Waits for events; an empty sequence says that some were lost. Cancel: safe, nothing is lost."""
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

    def keep_only(self, request_id: UUID) -> None:
        """Throws away what it has not read of other requests."""
        self._events = deque(event for event in self._events if _request_of(event) == request_id)
        if not self._events and not self._lost:
            self._ready.clear()

    def lose(self) -> None:
        """Tells the listener that it missed something."""
        self._lost = True
        self._events.clear()
        self._ready.set()


class Mailbox:
    """Listeners by what they hear of; `run` moves events from the bus to them.

    A channel is followed while there is a listener for it. Following and unfollowing may take their time: one of them at
    once for a channel, and each looks first at what is wanted by then.
    """

    def __init__(self, backends: Backends) -> None:
        self._bus = backends.shared.bus
        self._listeners: defaultdict[tuple[int, UUID | None], set[Listener]] = defaultdict(set)
        #: They hear broadcasts. These are not handed on here, for one may be meant for thousands.
        self._for_broadcasts: set[Listener] = set()
        #: How many listeners each channel has, and the channels that the subscription follows.
        self._wanted: Counter[str] = Counter()
        self._followed: set[str] = set()
        #: There are few channels, so that they stay.
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._subscription: Subscription | None = None

    @property
    def device_ids(self) -> Sequence[int]:
        """The devices that are listened for now."""
        return tuple({device_id for device_id, _ in self._listeners})

    @asynccontextmanager
    async def listen(self, device_id: int, request_id: UUID | None = None) -> AsyncIterator[Listener]:
        """Hears of one device, or of one of its requests; what is published after entering is heard."""
        listener = Listener(device_id, request_id)
        channel = device_channel(device_id)
        self._add(listener)
        self._wanted[channel] += 1
        try:
            await self._follow_as_wanted(channel)
            yield listener
        finally:
            self._drop(listener)
            self._wanted[channel] -= 1
            if not self._wanted[channel]:
                del self._wanted[channel]
                await self._follow_as_wanted(channel)

    @contextmanager
    def hear_broadcasts(self) -> Iterator[Listener]:
        """Hears the broadcasts to devices that are listened for, and perhaps to others; without those to all or a kind."""
        listener = Listener(0, None)
        self._for_broadcasts.add(listener)
        try:
            yield listener
        finally:
            self._for_broadcasts.discard(listener)

    def narrow(self, listener: Listener, request_id: UUID) -> None:
        """Lets a listener for a whole device hear of one request only from now on; what it has of others is thrown away."""
        self._drop(listener)
        listener.request_id = request_id
        listener.keep_only(request_id)
        self._add(listener)

    async def run(self) -> None:
        """Hands events on until cancelled; started again, it tells all listeners that they missed something."""
        followed = set(self._wanted)
        async with self._bus.subscribe(tuple(followed)) as subscription:
            self._subscription, self._followed = subscription, followed
            try:
                # Listeners came and went while it was made.
                for channel in set(self._wanted) ^ followed:
                    await self._follow_as_wanted(channel)
                self._lose_all()
                while True:
                    events = await subscription.receive()
                    if not events:
                        self._lose_all()
                    for event in events:
                        self._hand_on(event)
            finally:
                self._subscription, self._followed = None, set()

    async def _follow_as_wanted(self, channel: str) -> None:
        async with self._changing[channel]:
            subscription, followed = self._subscription, self._followed
            if subscription is None:
                return
            if channel in self._wanted and channel not in followed:
                await subscription.follow([channel])
                followed.add(channel)
            elif channel not in self._wanted and channel in followed:
                # Before it is: should this be cancelled, the next listener follows anew.
                followed.discard(channel)
                await subscription.unfollow([channel])

    def _hand_on(self, event: Event) -> None:
        if isinstance(event, Broadcast):
            for listener in self._for_broadcasts:
                listener.put(event)
            return
        for listener in self._listeners.get((event.device_id, None), ()):
            listener.put(event)
        request_id = _request_of(event)
        if request_id is not None:
            for listener in self._listeners.get((event.device_id, request_id), ()):
                listener.put(event)

    def _add(self, listener: Listener) -> None:
        self._listeners[listener.device_id, listener.request_id].add(listener)

    def _drop(self, listener: Listener) -> None:
        key = listener.device_id, listener.request_id
        self._listeners[key].discard(listener)
        if not self._listeners[key]:
            del self._listeners[key]

    def _lose_all(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.lose()


def _request_of(event: Event) -> UUID | None:
    """The one request that an event is about."""
    return event.request_id if isinstance(event, StateChanged | ResponseChunk | ResponseReady) else None
