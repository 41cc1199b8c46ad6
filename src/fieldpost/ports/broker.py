"""The broker: durable queues between roles.

Guarantees: at least once. A message is on disk when `publish` returns, and stays until acknowledged; one that was
delivered and not acknowledged comes again when its consumer closes or its process dies. Order is by publishing, except
for what comes again. Consumers are idempotent by request id.
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
    """Messages of some queues, at most `prefetch` of them unacknowledged."""

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Waits for at least one message, returns at most `limit`; queues named first go first.

        Cancel: safe, nothing received is lost.
        """
        ...

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Forgets these messages for good. Returns before that is on disk: after a crash they may come again."""
        ...

    async def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Puts these messages back, to be delivered again, to anyone."""
        ...


class Broker(Protocol):
    """See the module's guarantees."""

    async def declare(self, queue: str, *, max_messages: int) -> None:
        """Makes the queue if it is not there; `max_messages` bounds what is unacknowledged or waiting in it."""
        ...

    async def publish(self, queue: str, bodies: Sequence[bytes]) -> None:
        """Returns when every body is on disk; all or none of them are.

        Raises:
            QueueFullError: the queue would pass its bound; nothing was published.
            OverloadedError: too much waits to be written already; nothing was published.
            StorageFullError: the disk is full; nothing was published.
            BackendUnavailableError: the broker is away or the queue is not declared; nothing was published.
            BackendTimeoutError: not confirmed in time; the messages may or may not be in the queue.
        """
        ...

    def consume(self, queues: Sequence[str], *, prefetch: int) -> AbstractAsyncContextManager[Consumer]:
        """A consumer while the context lasts; leaving it puts back what was not acknowledged."""
        ...

    async def depth(self, queue: str) -> int:
        """Messages in the queue, waiting or delivered and not yet acknowledged."""
        ...
