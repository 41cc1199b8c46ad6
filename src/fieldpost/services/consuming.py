"""The one consume loop: batches from a queue to a handler; acknowledged when handled, put back when it could not be."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from fieldpost.clock import Clock
from fieldpost.observability import get_logger
from fieldpost.ports.broker import Broker, Delivery
from fieldpost.services.outcomes import Outcome, outcome_of

T = TypeVar("T")

#: Waits between tries while a batch cannot be handled: 0.1, 0.2 … 5 s.
_FIRST_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 5.0

log = get_logger()

Handle = Callable[[Sequence[T]], Awaitable[None]]
Bury = Callable[[bytes, str], Awaitable[None]]


class BatchConsumer:
    """Consumes one queue until cancelled.

    A batch that fails for a passing reason is put back and tried again after a pause, while consuming stops. One that
    fails for good is tried message by message, so that only the culprit goes to the dead letters.
    """

    def __init__(self, *, broker: Broker, clock: Clock, queue: str, batch: int) -> None:
        self._broker = broker
        self._clock = clock
        self._queue = queue
        self._batch = batch

    async def run(self, message: type[T], handle: Handle[T], bury: Bury) -> None:
        """Decodes each body as `message` and hands over batches; `bury` keeps what cannot be read, with the reason."""
        decode = msgspec.msgpack.Decoder(message).decode
        pause_seconds = _FIRST_PAUSE_SECONDS
        async with self._broker.consume([self._queue], prefetch=2 * self._batch) as consumer:
            while True:
                deliveries = await consumer.receive(self._batch)
                try:
                    await self._handle(deliveries, decode, handle, bury)
                except Exception as error:  # noqa: BLE001 the one table decides
                    log.warning("batch_put_back", queue=self._queue, messages=len(deliveries), error=repr(error))
                    await consumer.requeue(deliveries)
                    await self._clock.sleep(pause_seconds)
                    pause_seconds = min(2 * pause_seconds, _MAX_PAUSE_SECONDS)
                else:
                    await consumer.ack(deliveries)
                    pause_seconds = _FIRST_PAUSE_SECONDS

    async def _handle(
        self, deliveries: Sequence[Delivery], decode: Callable[[bytes], T], handle: Handle[T], bury: Bury
    ) -> None:
        messages: list[tuple[T, bytes]] = []
        for delivery in deliveries:
            try:
                messages.append((decode(delivery.body), delivery.body))
            except msgspec.MsgspecError as error:
                log.error("message_unreadable", queue=self._queue, error=str(error))
                await bury(delivery.body, f"{self._queue}: {error}")
        try:
            await handle([message for message, _ in messages])
        except Exception as error:
            if outcome_of(error) is Outcome.REQUEUE:
                raise
            await self._one_by_one(messages, handle, bury)

    async def _one_by_one(self, messages: Sequence[tuple[T, bytes]], handle: Handle[T], bury: Bury) -> None:
        for message, body in messages:
            try:
                await handle([message])
            except Exception as error:
                if outcome_of(error) is Outcome.REQUEUE:
                    raise
                log.error("message_buried", queue=self._queue, error=repr(error))
                await bury(body, f"{self._queue}: {error}")
