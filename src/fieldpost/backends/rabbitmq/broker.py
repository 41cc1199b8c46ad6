"""The broker over RabbitMQ: one connection for what is published, one for what is consumed.

Apart, because a broker short of memory stops reading from whoever publishes, and acknowledgements must go on.
"""

import contextlib
import random
from collections.abc import AsyncIterator, Sequence

from fieldpost.backends.rabbitmq.consuming import RabbitConsumer
from fieldpost.backends.rabbitmq.link import Link
from fieldpost.backends.rabbitmq.publishing import Publisher
from fieldpost.backends.rabbitmq.queues import Queues
from fieldpost.backends.rabbitmq.session import Session
from fieldpost.background import running
from fieldpost.clock import Clock
from fieldpost.ports.broker import Consumer


class RabbitBroker:
    """See `ports.broker.Broker`."""

    def __init__(self, *, publishing: Link, consuming: Link, clock: Clock, source: random.Random) -> None:
        self._consuming = consuming
        self._queues = Queues(publishing, clock)
        self._publisher = Publisher(publishing, self._queues, clock)
        self._clock = clock
        self._source = source

    async def declare(self, queue: str, *, max_messages: int) -> None:
        """Makes a quorum queue; one that is there keeps its bound."""
        await self._queues.declare(queue, max_messages=max_messages)

    async def publish(self, queue: str, bodies: Sequence[bytes]) -> None:
        """Returns when a majority of the queue's nodes has every body."""
        await self._publisher.publish(queue, bodies)

    @contextlib.asynccontextmanager
    async def consume(self, queues: Sequence[str], *, prefetch: int) -> AsyncIterator[Consumer]:
        """A consumer that outlives connections."""
        consumer = RabbitConsumer(queues, prefetch=prefetch)
        session = Session(consumer, link=self._consuming, queues=self._queues, clock=self._clock, source=self._source)
        try:
            async with running(session.run()):
                yield consumer
        finally:
            await session.leave()

    async def depth(self, queue: str) -> int:
        """Messages that wait."""
        return await self._queues.ready(queue)
