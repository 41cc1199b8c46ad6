"""Publishing with confirms: pipelined, bounded, and with an honest end in bounded time whatever the broker does.

What the broker does, and what follows: a Nack of a full queue is a refusal; any other Nack (its leader was killed, and the
channel may go on with Nacks for ever) and a lost channel mean a new channel, then another node, within the call's time.
What was published twice that way is the same message: consumers are idempotent by request id.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from typing import Final

from fieldpost.backends.rabbitmq.channel import LostError
from fieldpost.backends.rabbitmq.confirms import Batch, Confirms, open_confirms
from fieldpost.backends.rabbitmq.deadlines import Deadlines, OverdueError
from fieldpost.backends.rabbitmq.link import Link
from fieldpost.backends.rabbitmq.queues import WAIT_SECONDS, Queues
from fieldpost.clock import Clock
from fieldpost.errors import (
    BackendTimeoutError,
    BackendUnavailableError,
    OverloadedError,
    QueueFullError,
    StorageFullError,
    UnavailableError,
)
from fieldpost.observability import get_logger

#: A publish has ended by then, one way or the other.
CONFIRM_SECONDS: Final = 5.0
#: What may be on its way at once.
MAX_UNCONFIRMED: Final = 20_000
MAX_UNCONFIRMED_BYTES: Final = 64 * 2**20
#: Pauses before a new channel, a new channel, another node, and so on; an election takes about 0.4 s.
_PAUSES_SECONDS: Final = (0.05, 0.2, 0.3)
#: A connection is left for another node at most this often: a queue without a majority is away on every node.
_NODE_SECONDS: Final = 2.0
#: A connection on which a confirm is overdue and nothing else came for so long is given up; longer than the pause between
#: two of the broker's heartbeats, or one that is only blocked would be given up before it is told why.
_SILENT_SECONDS: Final = 4.0
#: How long RabbitMQ may take to have deleted a queue that is not to be found any more.
_DELETION_SECONDS: Final = 0.5
#: What was found of a queue is believed for so long, so that not every refused message asks again; that it has room only
#: until before a node would be left for what a queue that has filled meanwhile refuses.
_FULL_SECONDS: Final = 0.5
_ROOM_SECONDS: Final = 0.1
#: A full quorum queue takes messages again only below four fifths of its bound.
_FULL_FRACTION: Final = 0.8

log = get_logger()


class _Lane:
    """The way to one queue."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.confirms: Confirms | None = None
        self.opening = asyncio.Lock()
        self.judging = asyncio.Lock()
        self.is_full = False
        #: Until when this is believed, on the clock.
        self.judged_until = float("-inf")


class Publisher:
    """Publishes to any queue over one link."""

    def __init__(self, link: Link, queues: Queues, clock: Clock) -> None:
        self._link = link
        self._queues = queues
        self._clock = clock
        self._lanes: dict[str, _Lane] = {}
        self._on_way = 0
        self._on_way_bytes = 0
        self._deadlines = Deadlines()
        self._node_left_at = float("-inf")

    async def publish(self, queue: str, bodies: Sequence[bytes]) -> None:
        """See the port."""
        if not bodies:
            return
        size_bytes = sum(map(len, bodies))
        if self._on_way >= MAX_UNCONFIRMED or self._on_way_bytes >= MAX_UNCONFIRMED_BYTES:
            raise OverloadedError("too many messages wait for the broker's confirm")
        self._on_way += len(bodies)
        self._on_way_bytes += size_bytes
        try:
            lane = self._lanes.get(queue) or self._lanes.setdefault(queue, _Lane(queue))
            deadline = asyncio.get_running_loop().time() + CONFIRM_SECONDS
            batch = await self._send(lane, bodies, deadline)
            if batch.refused or batch.lost:
                await self._insist(lane, batch, deadline)
        finally:
            self._on_way -= len(bodies)
            self._on_way_bytes -= size_bytes

    async def _send(self, lane: _Lane, bodies: Sequence[bytes], deadline: float) -> Batch:
        """Publishes once, and returns when it is known what became of it.

        Raises:
            BackendTimeoutError: nothing was heard of it in time.
            UnavailableError: it could not even be sent.
        """
        confirms = lane.confirms
        if confirms is None or not confirms.is_open:
            confirms = await self._open(lane, deadline)
        wire = confirms.wire
        if wire.blocked:
            raise _blocked(wire.blocked)
        if wire.unsent_bytes >= MAX_UNCONFIRMED_BYTES:
            raise OverloadedError("too many bytes wait for the network")
        batch = confirms.publish(bodies)
        self._deadlines.watch(batch.done, deadline)
        try:
            await batch.done
        except OverdueError:
            self._doubt(confirms)
            raise BackendTimeoutError(f"the broker did not confirm within {CONFIRM_SECONDS:.0f} s") from None
        return batch

    async def _open(self, lane: _Lane, deadline: float) -> Confirms:
        try:
            async with asyncio.timeout_at(deadline), lane.opening:
                if lane.confirms is None or not lane.confirms.is_open:
                    wire = await self._link.within(WAIT_SECONDS)
                    if wire.blocked:
                        raise _blocked(wire.blocked)
                    await self._queues.settled()
                    lane.confirms = await open_confirms(wire, lane.queue)
                return lane.confirms
        except LostError as error:
            raise BackendUnavailableError(f"the broker went away: {error}") from error
        except TimeoutError:
            raise BackendUnavailableError("the broker opens no channel") from None

    async def _insist(self, lane: _Lane, batch: Batch, deadline: float) -> None:
        """Publishes what was not taken again, until it is, or until the deadline.

        Raises:
            BackendTimeoutError: some of it may be in the queue.
            UnavailableError: none of it is.
        """
        failed, is_unknown = batch.failed, bool(batch.lost)
        try:
            for pause_seconds in itertools.cycle(_PAUSES_SECONDS):
                await self._find_reason(lane, batch, deadline)
                self._give_up(batch, is_node_bad=pause_seconds == _PAUSES_SECONDS[-1])
                if asyncio.get_running_loop().time() + pause_seconds >= deadline:
                    raise BackendUnavailableError(f"the broker does not take messages for {lane.queue}")
                await self._clock.sleep(pause_seconds)
                try:
                    batch = await self._send(lane, failed, deadline)
                except BackendUnavailableError as error:
                    log.warning("publish_failed", queue=lane.queue, error=repr(error))
                    continue
                failed, is_unknown = batch.failed, is_unknown or bool(batch.lost)
                if not failed:
                    return
        except BackendTimeoutError:
            raise
        except UnavailableError as error:
            if is_unknown:
                raise BackendTimeoutError(f"the broker went away before it confirmed; then: {error}") from error
            raise

    async def _find_reason(self, lane: _Lane, batch: Batch, deadline: float) -> None:
        """Returns where trying again may help."""
        try:
            async with asyncio.timeout_at(deadline):
                if batch.unroutable:
                    await self._make_anew(lane)
                elif batch.refused:
                    await self._refuse_if_full(lane)
        except TimeoutError:
            raise BackendUnavailableError(f"the broker does not take messages for {lane.queue}") from None

    async def _make_anew(self, lane: _Lane) -> None:
        if self._queues.bound(lane.queue) is None:
            raise BackendUnavailableError(f"queue {lane.queue!r} is not declared")
        log.error("queue_gone", queue=lane.queue)
        # Made again while it is still being deleted, it would take messages with it.
        await self._clock.sleep(_DELETION_SECONDS)
        try:
            await self._queues.ensure(lane.queue)
        except LostError as error:
            raise BackendUnavailableError(f"queue {lane.queue!r} cannot be made: {error}") from error

    async def _refuse_if_full(self, lane: _Lane) -> None:
        """The broker gives no reason for a Nack: a queue that is not full has lost its leader."""
        bound = self._queues.bound(lane.queue)
        if bound is None:
            return
        async with lane.judging:
            if self._clock.monotonic() >= lane.judged_until:
                with contextlib.suppress(BackendUnavailableError):
                    lane.is_full = await self._queues.ready(lane.queue) >= int(bound * _FULL_FRACTION)
                    believed = _FULL_SECONDS if lane.is_full else _ROOM_SECONDS
                    lane.judged_until = self._clock.monotonic() + believed
        if lane.is_full and self._clock.monotonic() < lane.judged_until:
            raise QueueFullError(f"{lane.queue} is full", queue=lane.queue)

    def _give_up(self, batch: Batch, *, is_node_bad: bool) -> None:
        """Makes the next try use a new channel, or another node; what others made anew meanwhile is left alone."""
        if not batch.channel.is_open:
            return
        batch.channel.close("its publishes are refused")
        now = self._clock.monotonic()
        wire = self._link.wire
        if is_node_bad and wire is batch.channel.connection and now - self._node_left_at >= _NODE_SECONDS:
            self._node_left_at = now
            wire.abort("publishes are refused again and again")

    def _doubt(self, confirms: Confirms) -> None:
        """A confirm is overdue: the node is frozen, or the queue has no majority."""
        wire = confirms.wire
        if wire.silent_seconds >= _SILENT_SECONDS:
            wire.abort(f"no confirm and nothing else for {wire.silent_seconds:.1f} s")
        else:
            confirms.channel.close("a confirm is overdue")


def _blocked(reason: str) -> UnavailableError:
    if "disk" in reason:
        return StorageFullError(f"the broker takes nothing now: {reason}")
    return BackendUnavailableError(f"the broker takes nothing now: {reason}")
