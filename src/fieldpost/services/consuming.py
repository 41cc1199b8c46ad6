"""The one consume loop: batches from a queue to a handler; acknowledged when handled, put back when it could not be."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import FieldpostError
from fieldpost.observability import get_logger
from fieldpost.ports.broker import Broker, Consumer, Delivery
from fieldpost.services.outcomes import Outcome, outcome_of
from fieldpost.services.troubles import Troubles

T = TypeVar("T")

#: Waits between tries while a batch cannot be handled: 0.1, 0.2 … 5 s.
_FIRST_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 5.0
#: Tries in a row that end in an error which is not ours, before it counts as a message's fault; about 20 s.
_MAX_UNKNOWN = 8

log = get_logger()

Handle = Callable[[Sequence[T]], Awaitable[None]]
Bury = Callable[[bytes, str], Awaitable[None]]


class BatchConsumer:
    """Consumes one queue until cancelled.

    A batch that fails for a passing reason is put back and tried again after a pause, while consuming stops. One that
    fails for good, or again and again for a reason nobody knows, is tried message by message, so that only the culprit
    goes to the dead letters. What was kept there is acknowledged at once, so that it is kept once.
    """

    def __init__(
        self, *, broker: Broker, clock: Clock, queue: str, batch: int, troubles: Troubles | None = None
    ) -> None:
        self._troubles = troubles
        self._broker = broker
        self._clock = clock
        self._queue = queue
        self._batch = batch

    async def run(self, message: type[T], handle: Handle[T], bury: Bury) -> None:
        """Decodes each body as `message` and hands over batches; `bury` keeps what cannot be read, with the reason."""
        decode = msgspec.msgpack.Decoder(message).decode
        pause_seconds = _FIRST_PAUSE_SECONDS
        unknown = 0
        async with self._broker.consume([self._queue], prefetch=2 * self._batch) as consumer:
            while True:
                hand = _Hand(consumer, await consumer.receive(self._batch), self._queue, bury)
                try:
                    await _work_off(hand, decode, handle, is_patient=unknown < _MAX_UNKNOWN)
                except Exception as error:  # noqa: BLE001 the one table decides
                    unknown = 0 if isinstance(error, FieldpostError) else unknown + 1
                    if self._troubles is not None:
                        self._troubles.note(self._queue, error)
                    log.warning(
                        "batch_put_back",
                        summed=self._queue,
                        queue=self._queue,
                        messages=len(hand.left),
                        error=repr(error),
                    )
                    await consumer.requeue(list(hand.left.values()))
                    await self._clock.sleep(pause_seconds)
                    pause_seconds = min(2 * pause_seconds, _MAX_PAUSE_SECONDS)
                else:
                    await consumer.ack(list(hand.left.values()))
                    pause_seconds, unknown = _FIRST_PAUSE_SECONDS, 0


class _Hand:
    """The deliveries of one batch that are neither acknowledged nor put back."""

    def __init__(self, consumer: Consumer, deliveries: Sequence[Delivery], queue: str, bury: Bury) -> None:
        self.left = {delivery.tag: delivery for delivery in deliveries}
        self._consumer = consumer
        self._queue = queue
        self._bury = bury

    async def ack(self, delivery: Delivery) -> None:
        await self._consumer.ack([delivery])
        del self.left[delivery.tag]

    async def bury(self, delivery: Delivery, error: Exception) -> None:
        log.error("message_buried", summed=self._queue, queue=self._queue, error=repr(error))
        await self._bury(delivery.body, f"{self._queue}: {error}")
        await self.ack(delivery)


async def _work_off(hand: _Hand, decode: Callable[[bytes], T], handle: Handle[T], *, is_patient: bool) -> None:
    messages: list[tuple[T, Delivery]] = []
    for delivery in list(hand.left.values()):
        try:
            messages.append((decode(delivery.body), delivery))
        except msgspec.MsgspecError as error:
            await hand.bury(delivery, error)
    if not messages:
        return
    try:
        await handle([message for message, _ in messages])
    except Exception as error:
        if _is_passing(error, is_patient=is_patient):
            raise
        await _one_by_one(hand, messages, handle, is_patient=is_patient)


async def _one_by_one(
    hand: _Hand, messages: Sequence[tuple[T, Delivery]], handle: Handle[T], *, is_patient: bool
) -> None:
    for message, delivery in messages:
        try:
            await handle([message])
        except Exception as error:
            if _is_passing(error, is_patient=is_patient):
                raise
            await hand.bury(delivery, error)
        else:
            await hand.ack(delivery)


def _is_passing(error: Exception, *, is_patient: bool) -> bool:
    if not isinstance(error, FieldpostError):
        return is_patient
    return outcome_of(error) is Outcome.REQUEUE
