"""What one consumer holds of the messages that came, whichever connection they came on.

An acknowledgement goes to the channel that delivered, or nowhere: a message of a lost channel comes again by itself.
Deliberately not here: channels and how they come back (`session`).
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence

from fieldpost.backends.rabbitmq import frames
from fieldpost.backends.rabbitmq.channel import Channel
from fieldpost.backends.rabbitmq.window import Window
from fieldpost.ports.broker import Delivery

#: Bytes of messages handed out in one `receive`, but always one message.
MAX_RECEIVE_BYTES = 16 * 2**20
#: Bytes that wait here, for one `receive` and the next; but always one message. When more come, the broker gets what is
#: too much back, and sends nothing until half of the rest is taken.
MAX_BUFFERED_BYTES = 2 * MAX_RECEIVE_BYTES


class RabbitConsumer:
    """See `ports.broker.Consumer`. Tags count on over all channels, so none means two messages."""

    def __init__(self, queues: Sequence[str], *, prefetch: int) -> None:
        self.queues = queues
        self.prefetch = prefetch
        self.window = Window(prefetch)
        #: Calls of `receive` that wait now, and that were made ever.
        self.waiting = 0
        self.received = 0
        #: Set when somebody begins to wait.
        self.wanted = asyncio.Event()
        #: Set when more has come than is kept (`is_full`), and when there is room again (`has_room`).
        self.alarm = asyncio.Event()
        self._channel: Channel | None = None
        #: By the tag of the broker's consumer.
        self._queue_of: dict[str, str] = {}
        self._tags_given = 0
        self._first_tag = 0
        self._last_tag = 0
        self._buffers: dict[str, deque[Delivery]] = {queue: deque() for queue in queues}
        #: Tags that the channel's broker waits for, oldest first.
        self._open: OrderedDict[int, None] = OrderedDict()
        self._in_hand: dict[int, str] = {}
        self._buffered_bytes = 0
        #: Tags of what came and is not kept.
        self._excess: list[int] = []
        self._newest_start = 0
        self._is_aside = False
        self._wake = asyncio.Event()

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Waits for messages and for room."""
        self.received += 1
        self.waiting += 1
        try:
            while True:
                self._wake.clear()
                taken = self._take(min(limit, self.prefetch - len(self._in_hand)))
                if taken:
                    return taken
                self.wanted.set()
                await self._wake.wait()
        finally:
            self.waiting -= 1

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Forgets messages."""
        tags = [delivery.tag for delivery in deliveries if self._in_hand.pop(delivery.tag, None) is not None]
        self._settle(tags, frames.ack)
        self._wake.set()

    async def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Puts messages in front again; when nobody here takes them, they go back to the broker."""
        held = [delivery for delivery in deliveries if self._in_hand.pop(delivery.tag, None) is not None]
        if self._is_aside:
            # Nobody waits here, and `stand_aside` has already given back what it found.
            self._settle([delivery.tag for delivery in held], frames.requeue)
        else:
            for delivery in reversed(held):
                self._buffers[delivery.queue].appendleft(delivery)
                self._buffered_bytes += len(delivery.body)
        self._wake.set()

    def begin(self, channel: Channel) -> None:
        """Messages come on this channel from now on."""
        self._is_aside = False
        self._first_tag = self._last_tag
        self._channel = channel
        channel.on_delivery = self._on_delivery

    def end(self) -> None:
        """Nothing comes any more, and all that came is forgotten: the broker puts it back by itself."""
        if self._channel is not None:
            self._channel.on_delivery = _ignore
        self._channel = None
        self._empty()
        self._excess = []
        self._open.clear()
        self._in_hand.clear()
        self._wake.set()

    def new_tag(self, queue: str) -> str:
        """A name for the broker's next consumer of the queue, never used before.

        Under a name that it had, RabbitMQ 3.10 looks for what that consumer missed; where something of it is still
        unacknowledged, that ends the whole connection with an internal error.
        """
        self._newest_start = self._last_tag
        self._tags_given += 1
        tag = str(self._tags_given)
        # Of a consumer that has ended nothing comes any more.
        self._queue_of = {old: of for old, of in self._queue_of.items() if of != queue}
        self._queue_of[tag] = queue
        return tag

    def put_back(self, *, everything: bool = False) -> None:
        """Gives the broker what nobody has received, or also what is in somebody's hand."""
        tags = [delivery.tag for buffer in self._buffers.values() for delivery in buffer]
        tags += self._excess
        self._excess = []
        if everything:
            tags += self._in_hand
            self._in_hand.clear()
        self._empty()
        self._settle(tags, frames.requeue)

    def put_back_excess(self) -> None:
        """Gives the broker what was not kept, and makes the window fit; for when the broker sends nothing more."""
        excess, self._excess = self._excess, []
        self._settle(excess, frames.requeue)
        self.window.narrow(MAX_BUFFERED_BYTES)

    @property
    def is_full(self) -> bool:
        """Whether more has come than is kept."""
        return bool(self._excess)

    @property
    def has_room(self) -> bool:
        """Whether half of what may be kept is free again."""
        return self._buffered_bytes <= MAX_BUFFERED_BYTES // 2

    def wants_wider(self) -> bool:
        """Whether the broker should be asked for more at once: messages are smaller now, or all that it sends is in hand.

        That stands still where the window is less than `prefetch` and is all in the hands of somebody who waits for more.
        """
        if self.window.widen(MAX_BUFFERED_BYTES):
            return True
        is_starved = self.waiting > 0 and not any(self._buffers.values()) and len(self._in_hand) < self.prefetch
        return is_starved and sum(tag > self._newest_start for tag in self._in_hand) >= self.window.messages

    def stand_aside(self) -> None:
        """Gives the broker what nobody has received, now and until `step_in`."""
        self._is_aside = True
        self.put_back()

    def step_in(self) -> None:
        """Ends standing aside."""
        self._is_aside = False

    def has_none_of(self, queue: str) -> bool:
        """Whether no message of the queue is here, neither waiting nor in hand."""
        return not self._buffers[queue] and queue not in self._in_hand.values()

    @property
    def is_empty(self) -> bool:
        """Whether the broker waits for nothing that came here."""
        return not self._open

    @property
    def last_tag(self) -> int:
        """Grows with every delivery."""
        return self._last_tag

    def _on_delivery(self, consumer_tag: str, tag: int, body: bytes) -> None:
        if tag != self._last_tag - self._first_tag + 1:
            # The broker counts them without a gap. What is missing comes again when the channel ends.
            assert self._channel is not None
            self._channel.close("a delivery was lost on its way")
            return
        self._last_tag += 1
        self._open[self._last_tag] = None
        self.window.note(len(body))
        if self._excess or (self._buffered_bytes and self._buffered_bytes + len(body) > MAX_BUFFERED_BYTES):
            # Put back now it would come again at once.
            self._excess.append(self._last_tag)
            self.alarm.set()
            return
        queue = self._queue_of[consumer_tag]
        self._buffered_bytes += len(body)
        self._buffers[queue].append(Delivery(tag=self._last_tag, queue=queue, body=body))
        self._wake.set()

    def _empty(self) -> None:
        for buffer in self._buffers.values():
            buffer.clear()
        self._buffered_bytes = 0

    def _take(self, room: int) -> Sequence[Delivery]:
        taken: list[Delivery] = []
        size_bytes = 0
        for queue, buffer in self._buffers.items():
            while buffer and len(taken) < room and size_bytes < MAX_RECEIVE_BYTES:
                delivery = buffer.popleft()
                size_bytes += len(delivery.body)
                self._in_hand[delivery.tag] = queue
                taken.append(delivery)
        had_room = self.has_room
        self._buffered_bytes -= size_bytes
        if self.has_room and not had_room:
            self.alarm.set()
        return taken

    def _settle(self, tags: Iterable[int], frame: Callable[..., bytes]) -> None:
        """Tells the broker of these tags: in one frame as many as lead all that it waits for, the rest one by one."""
        left = {tag for tag in tags if tag in self._open}
        if not left or self._channel is None:
            return
        number, first = self._channel.number, self._first_tag
        leading = 0
        while left and next(iter(self._open)) in left:
            leading = self._open.popitem(last=False)[0]
            left.discard(leading)
        parts = [frame(number, leading - first, multiple=True)] if leading else []
        for tag in sorted(left):
            del self._open[tag]
            parts.append(frame(number, tag - first, multiple=False))
        self._channel.send(b"".join(parts))


def _ignore(*_: object) -> None:
    return
