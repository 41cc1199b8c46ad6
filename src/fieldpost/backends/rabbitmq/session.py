"""Keeps a consumer's channel alive: opens it, finds out when it has ended or gone deaf, opens it again.

A consumer that is busy is taken out of the broker's turn: with nobody waiting in `receive` what would come to it waits for
nothing, while others are idle.
"""

import asyncio
import contextlib
import random
from typing import Final

from pamqp import base, commands

from fieldpost.backends.rabbitmq.channel import Channel, LostError, RefusedError
from fieldpost.backends.rabbitmq.consuming import RabbitConsumer
from fieldpost.backends.rabbitmq.hearing import Hearing
from fieldpost.backends.rabbitmq.link import Link
from fieldpost.backends.rabbitmq.queues import Queues
from fieldpost.backends.rabbitmq.wire import Wire
from fieldpost.clock import Clock
from fieldpost.errors import UnavailableError
from fieldpost.observability import get_logger
from fieldpost.policy.backoff import delay_seconds

#: A busy consumer leaves the turn after so long; one that takes many at once works its messages off soon anyway.
PATIENCE_SECONDS: Final = 0.2
LONG_PATIENCE_SECONDS: Final = 5.0
_MANY: Final = 64
#: A channel that stands aside for so long is closed once nothing of it is in hand: what was lost on it comes back.
ASIDE_SECONDS: Final = 30.0
_FIRST_PAUSE_SECONDS: Final = 0.1
_MAX_PAUSE_SECONDS: Final = 3.0
#: How long leaving waits for the broker to have everything back.
_LEAVE_SECONDS: Final = 1.0
_NOT_FOUND: Final = 404

log = get_logger()


class Session:
    """One consumer's channel, and the next one, and the next."""

    def __init__(
        self, consumer: RabbitConsumer, *, link: Link, queues: Queues, clock: Clock, source: random.Random
    ) -> None:
        self._consumer = consumer
        self._link = link
        self._queues = queues
        self._clock = clock
        self._source = source
        self._channel: Channel | None = None
        #: Of the broker's consumers that are ours now, one for each queue.
        self._tags: list[str] = []
        self._patience_seconds = PATIENCE_SECONDS if consumer.prefetch < _MANY else LONG_PATIENCE_SECONDS
        #: Why the channel is of no more use: it has ended, or the broker has ended a consumer.
        self._reason: LostError | None = None

    async def run(self) -> None:
        """Keeps the consumer going until cancelled."""
        failures = 0
        while True:
            opened = False
            try:
                await self._open(await self._link.connected())
                opened = True
                await self._watch()
                log.debug("consumer_reopened", queues=self._consumer.queues)
                self._close()
                await self._consumer.wanted.wait()
                continue
            except (LostError, UnavailableError) as error:
                log.warning("consumer_lost", queues=self._consumer.queues, reason=str(error))
            except Exception:
                # A consumer that stays away is worse than one that comes back.
                log.exception("consumer_failed", queues=self._consumer.queues)
            self._close()
            failures = 1 if opened else failures + 1
            await self._clock.sleep(
                delay_seconds(
                    failures,
                    source=self._source,
                    first_seconds=_FIRST_PAUSE_SECONDS,
                    cap_seconds=_MAX_PAUSE_SECONDS,
                )
            )

    async def leave(self) -> None:
        """Gives back what is not acknowledged, after `run` was cancelled; waits little for the broker."""
        channel = self._channel
        if channel is not None and channel.is_open:
            with contextlib.suppress(LostError, TimeoutError):
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await self._stop()
                    self._consumer.put_back(everything=True)
                    channel.close()
                    await channel.gone.wait()
        self._close()

    async def _open(self, wire: Wire) -> None:
        self._reason = None
        channel = self._channel = await wire.open_channel()
        channel.on_lost = self._end
        channel.on_cancel = lambda tag: self._end(LostError(f"the broker ended consumer {tag}"))
        self._consumer.begin(channel)
        await self._start()

    async def _start(self) -> None:
        # For each of its queues: quorum queues know no common bound, `RabbitConsumer` keeps that.
        await self._call(commands.Basic.Qos(prefetch_count=self._consumer.window.messages), commands.Basic.QosOk)
        for queue in self._consumer.queues:
            tag = self._consumer.new_tag(queue)
            self._tags.append(tag)
            try:
                await self._call(commands.Basic.Consume(queue=queue, consumer_tag=tag), commands.Basic.ConsumeOk)
            except RefusedError as error:
                if error.code == _NOT_FOUND:
                    await self._queues.ensure(queue)
                raise

    async def _stop(self) -> None:
        tags, self._tags = self._tags, []
        for tag in tags:
            await self._call(commands.Basic.Cancel(consumer_tag=tag), commands.Basic.CancelOk)

    async def _call(self, question: base.Frame, answer: type[base.Frame]) -> None:
        if self._channel is None:
            raise LostError("ended")
        await self._channel.call(question, answer)

    def _close(self) -> None:
        self._consumer.end()
        self._tags = []
        if self._channel is not None:
            # Nobody needs to hear of what is meant.
            self._channel.on_lost = _ignore
            self._channel.close()
        self._channel = None

    def _end(self, error: LostError) -> None:
        self._reason = error
        self._consumer.alarm.set()
        self._consumer.wanted.set()

    async def _watch(self) -> None:
        """Returns when the channel is to be opened anew, raises when it is of no more use."""
        consumer = self._consumer
        received = -1
        hearing = Hearing(consumer, self._clock)
        while True:
            is_patience_over = await self._pause()
            await self._keep_bound()
            if not is_patience_over:
                continue
            if consumer.waiting or consumer.received != received:
                received = consumer.received
                if self._tags and consumer.wants_wider():
                    await self._stop()
                    await self._start()
            else:
                if not await self._stand_aside():
                    return
                hearing.begin_again()
            if not self._tags:
                hearing.begin_again()
            if hearing.is_doubtful() and not await self._has_ready():
                hearing.forgive()
            if hearing.is_deaf:
                self._complain()
            if hearing.is_stale():
                return

    async def _pause(self) -> bool:
        """Waits for patience to be over, or for an alarm; whether it is over."""
        alarm = self._consumer.alarm
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience_seconds):
                await alarm.wait()
        self._check()
        is_over = not alarm.is_set()
        alarm.clear()
        return is_over

    def _check(self) -> None:
        if self._reason is not None:
            raise self._reason

    async def _keep_bound(self) -> None:
        """Takes the consumer out of the broker's turn while too much waits here."""
        consumer = self._consumer
        if consumer.is_full:
            await self._stop()
            consumer.put_back_excess()
        elif not self._tags and consumer.has_room:
            await self._start()

    async def _stand_aside(self) -> bool:
        """Lets others have what comes, until somebody waits here again; whether this channel is good for that."""
        self._check()
        self._consumer.wanted.clear()
        await self._stop()
        self._consumer.stand_aside()
        while not await self._is_wanted():
            if self._consumer.is_empty:
                return False
        self._check()
        self._consumer.step_in()
        await self._start()
        return True

    async def _is_wanted(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASIDE_SECONDS):
                await self._consumer.wanted.wait()
        return self._consumer.wanted.is_set()

    async def _has_ready(self) -> bool:
        for queue in self._consumer.queues:
            try:
                if self._consumer.has_none_of(queue) and await self._queues.ready(queue):
                    return True
            except UnavailableError:
                # Who cannot be asked proves nothing; a dead connection is found by its own means.
                continue
        return False

    def _complain(self) -> None:
        log.error("consumer_deaf", queues=self._consumer.queues)
        if self._channel is not None and self._link.wire is self._channel.connection:
            self._link.wire.abort("a consumer on it was deaf")
        raise LostError("deaf: messages wait and do not come")


def _ignore(_error: LostError) -> None:
    return
