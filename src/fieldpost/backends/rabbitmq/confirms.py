"""A channel in confirm mode for the messages of one queue: many publishes on their way at once, each told how it went."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import pamqp.frame
from pamqp import commands

from fieldpost.backends.rabbitmq import frames
from fieldpost.backends.rabbitmq.channel import Channel, LostError
from fieldpost.backends.rabbitmq.wire import Wire
from fieldpost.observability import handled_traceparent


class Batch:
    """Bodies that were published together."""

    __slots__ = ("bodies", "channel", "done", "first", "left", "lost", "refused", "unroutable")

    def __init__(self, channel: Channel, bodies: Sequence[bytes], first: int, done: "asyncio.Future[None]") -> None:
        self.channel = channel
        self.bodies = bodies
        self.first = first
        #: Not heard of yet.
        self.left = len(bodies)
        #: What the queue did not take.
        self.refused: list[bytes] = []
        self.unroutable = False
        #: What nobody knows about: the channel ended before its confirm.
        self.lost: list[bytes] = []
        #: Set when every body's outcome is known; whoever waits may give up.
        self.done = done

    @property
    def failed(self) -> list[bytes]:
        """What is not in the queue for certain, in no order."""
        return [*self.refused, *self.lost]


class Confirms:
    """Owns its channel's publishing side."""

    def __init__(self, wire: Wire, channel: Channel, queue: str) -> None:
        self.wire = wire
        self.channel = channel
        self._number = 0
        self._open: OrderedDict[int, Batch] = OrderedDict()
        publish = commands.Basic.Publish(exchange="", routing_key=queue, mandatory=True)
        self._publish = pamqp.frame.marshal(publish, channel.number)
        channel.on_confirm = self._on_confirm
        channel.on_return = self._on_return
        channel.on_lost = self._on_lost

    @property
    def is_open(self) -> bool:
        """Whether it can be published on."""
        return self.channel.is_open

    def publish(self, bodies: Sequence[bytes]) -> Batch:
        """Sends the bodies, in order; one alone with the trace of the request that is handled."""
        batch = Batch(self.channel, bodies, self._number + 1, asyncio.get_running_loop().create_future())
        parts: list[bytes] = []
        channel = self.channel
        # Several together are of several requests, and each body says which.
        traceparent = handled_traceparent() if len(bodies) == 1 else ""
        for body in bodies:
            self._number += 1
            self._open[self._number] = batch
            parts.append(self._publish)
            parts += frames.content(channel.number, self._number, body, channel.connection.max_frame, traceparent)
        channel.send(b"".join(parts))
        return batch

    def _on_confirm(self, number: int, multiple: bool, is_taken: bool) -> None:
        if not multiple:
            batch = self._open.pop(number, None)
            if batch is not None:
                _settle(batch, number, is_taken=is_taken)
            return
        while self._open and next(iter(self._open)) <= number:
            _settle(self._open[next(iter(self._open))], self._open.popitem(last=False)[0], is_taken=is_taken)

    def _on_return(self, number: int) -> None:
        # Its Ack still comes, and says only that nothing more will happen to it.
        batch = self._open.pop(number, None)
        if batch is not None:
            batch.unroutable = True
            _settle(batch, number, is_taken=False)

    def _on_lost(self, _error: LostError) -> None:
        for number, batch in self._open.items():
            batch.lost.append(batch.bodies[number - batch.first])
            _count(batch)
        self._open.clear()


async def open_confirms(wire: Wire, queue: str) -> Confirms:
    """A new channel that publishes to a queue.

    Raises:
        LostError: there is none.
    """
    channel = await wire.open_channel()
    await channel.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
    return Confirms(wire, channel, queue)


def _settle(batch: Batch, number: int, *, is_taken: bool) -> None:
    if not is_taken:
        batch.refused.append(batch.bodies[number - batch.first])
    _count(batch)


def _count(batch: Batch) -> None:
    batch.left -= 1
    if batch.left == 0 and not batch.done.done():
        batch.done.set_result(None)
