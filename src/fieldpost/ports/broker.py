"""The broker: durable queues between roles.

Guarantees: at least once. A message is on disk (of a majority, where there are several nodes) when `publish` returns, and
stays until acknowledged; one that was delivered and not acknowledged comes again when its consumer closes, its process
dies or its connection breaks. Order is by publishing, except for what comes again and for what a broker's failover made
`publish` send a second time. Consumers are idempotent by request id.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One message in a consumer's hand; `tag` means something to that consumer only."""

    tag: int
    queue: str
    body: bytes


class Consumer(Protocol):
    """Messages of some queues, at most `prefetch` of them unacknowledged.

    It outlives the broker's failures: `receive` goes on waiting, and what came over a lost connection comes again,
    whatever is still acknowledged of it. What waits for a consumer that receives nothing goes to others.
    """

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Waits for at least one message, returns at most `limit`; of those at hand, queues named first go first.

        Cancel: safe, nothing received is lost.
        """
        ...

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Forgets these messages for good. Returns before that is on disk: after a crash they may come again."""
        ...

    async def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Puts these messages back in front, to be delivered again: here if this one receives first, or to anyone."""
        ...


class Broker(Protocol):
    """See the module's guarantees."""

    async def declare(self, queue: str, *, max_messages: int) -> None:
        """Makes the queue if it is not there; `max_messages` bounds what waits in it.

        What is unacknowledged counts in some brokers. When many publish at once a few more may get in. A queue that is
        there already may keep the bound that it was made with.

        Raises:
            BackendUnavailableError: the broker is away.
        """
        ...

    async def publish(self, queue: str, bodies: Sequence[bytes]) -> None:
        """Returns when every body is on disk; always within seconds.

        A single body was not published when an error says so. Of several, some may be in the queue whatever the error:
        only some brokers take all or none.

        Cancel: the messages may or may not be in the queue.

        Raises:
            QueueFullError: the queue would pass its bound; not published.
            OverloadedError: too much waits to be written already; not published.
            StorageFullError: the disk is full; not published.
            BackendUnavailableError: the broker is away or the queue is not declared; not published.
            BackendTimeoutError: not confirmed in time; the messages may or may not be in the queue.
        """
        ...

    def consume(self, queues: Sequence[str], *, prefetch: int) -> AbstractAsyncContextManager[Consumer]:
        """A consumer while the context lasts; leaving it puts back what was not acknowledged."""
        ...

    async def depth(self, queue: str) -> int:
        """Messages that wait in the queue; in some brokers also those delivered and not yet acknowledged.

        Raises:
            BackendUnavailableError: the broker is away or the queue is not declared.
        """
        ...
