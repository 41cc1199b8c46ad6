"""How queues are made and looked at, on a channel of their own: a refused declaration ends its channel."""

import asyncio
from typing import Final

from pamqp import commands

from fieldpost.backends.rabbitmq.channel import Channel, LostError, RefusedError
from fieldpost.backends.rabbitmq.link import Link
from fieldpost.clock import Clock
from fieldpost.errors import BackendUnavailableError
from fieldpost.observability import get_logger

#: How long a call waits for a connection, beyond which the broker counts as away.
WAIT_SECONDS: Final = 1.0
#: The same at start, when the connection is just being made.
_DECLARE_WAIT_SECONDS: Final = 10.0
_NOT_FOUND, _PRECONDITION_FAILED = 404, 406
#: Attempts are counted in the ledger: redeliveries alone never drop a message. A limit there must be, or RabbitMQ 4 sets
#: 20, and RabbitMQ 3 puts what comes again behind everything else.
_DELIVERY_LIMIT: Final = 1_000_000_000

#: A node that is killed so soon after a queue was made has forgotten it, with its messages: RabbitMQ 3.10 writes the names
#: of its queues down half a second late. Until then nothing is published to it.
SETTLE_SECONDS: Final = 1.0

log = get_logger()


class Queues:
    """The queues that this process has declared, and the depth of any."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        #: When the last new queue is safe, on the clock.
        self._settled_at = float("-inf")
        self._bounds: dict[str, int] = {}
        self._channel: Channel | None = None
        self._using = asyncio.Lock()

    def bound(self, queue: str) -> int | None:
        """How many messages it may hold, if it was declared here."""
        return self._bounds.get(queue)

    async def declare(self, queue: str, *, max_messages: int) -> None:
        """Makes the queue, durable and replicated; one that is there stays as it is.

        Raises:
            BackendUnavailableError: no broker, or none that could make it.
        """
        self._bounds[queue] = max_messages
        await self._link.within(_DECLARE_WAIT_SECONDS)
        try:
            await self._try_declare(queue)
        except LostError as error:
            raise BackendUnavailableError(f"queue {queue!r} cannot be made: {error}") from error

    async def ensure(self, queue: str) -> None:
        """Makes a queue of ours anew if it is gone.

        Raises:
            LostError: that was not possible.
        """
        if queue in self._bounds:
            await self._try_declare(queue)

    async def settled(self) -> None:
        """Returns when queues that were just made outlive their node's death."""
        while (seconds := self._settled_at - self._clock.monotonic()) > 0:
            await self._clock.sleep(seconds)

    async def ready(self, queue: str) -> int:
        """Messages that wait in the queue.

        Raises:
            BackendUnavailableError: no broker that tells, or no such queue.
        """
        question = commands.Queue.Declare(queue=queue, passive=True)
        try:
            return (await self._ask(question)).message_count or 0
        except RefusedError as error:
            if error.code == _NOT_FOUND:
                raise BackendUnavailableError(f"queue {queue!r} is not declared") from error
            raise BackendUnavailableError(f"queue {queue!r} cannot be looked at: {error}") from error
        except LostError as error:
            raise BackendUnavailableError(f"queue {queue!r} cannot be looked at: {error}") from error

    async def _try_declare(self, queue: str) -> None:
        question = commands.Queue.Declare(
            queue=queue,
            durable=True,
            arguments={
                "x-queue-type": "quorum",
                # It refuses once it is past this.
                "x-max-length": max(self._bounds[queue] - 1, 1),
                "x-overflow": "reject-publish",
                "x-delivery-limit": _DELIVERY_LIMIT,
            },
        )
        is_new = not await self._is_there(queue)
        try:
            await self._ask(question)
            if is_new:
                self._settled_at = self._clock.monotonic() + SETTLE_SECONDS
        except RefusedError as error:
            if error.code != _PRECONDITION_FAILED:
                raise
            # Its properties are fixed for its life; it serves, with the bound it was made with.
            log.warning("queue_differs", queue=queue, max_messages=self._bounds[queue], error=str(error))

    async def _is_there(self, queue: str) -> bool:
        try:
            await self._ask(commands.Queue.Declare(queue=queue, passive=True))
        except RefusedError as error:
            if error.code != _NOT_FOUND:
                raise
            return False
        return True

    async def _ask(self, question: commands.Queue.Declare) -> commands.Queue.DeclareOk:
        async with self._using:
            if self._channel is None or not self._channel.is_open:
                wire = await self._link.within(WAIT_SECONDS)
                self._channel = await wire.open_channel()
            return await self._channel.call(question, commands.Queue.DeclareOk)
