"""A listener that can also post: many requests in flight, answers as they come, over one connection that mends itself."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self
from uuid import UUID

from fieldpost.client.address import Address
from fieldpost.client.inbox import Inbox
from fieldpost.client.link import Link, OnBroadcast, OnChunk, OnTrouble
from fieldpost.client.posting import Question, post_safely, prepare
from fieldpost.client.retrying import Retrying
from fieldpost.errors import FieldpostError
from fieldpost.messages.responses import Response

#: Answers that the application has not taken; past that the socket is not read.
MAX_UNREAD = 256
#: Posts in flight; further ones wait their turn.
MAX_IN_FLIGHT = 64
#: How long leaving waits for the last `Acked`.
FAREWELL_SECONDS = 5.0


class Stream:
    """One device's open ear; made by `AsyncClient.connect`, and used as a context manager.

    Being offline is no error: answers come when there is a connection again, and posts wait for one. What is refused
    for good (a wrong key, a disabled device) is raised by whoever waits for answers or posts.

    Args:
        opened: holds this stream while it is open.
    """

    def __init__(
        self,
        address: Address,
        *,
        retrying: Retrying,
        give_up_seconds: float,
        on_trouble: OnTrouble | None,
        on_chunk: OnChunk | None,
        on_broadcast: OnBroadcast | None,
        opened: "set[Stream]",
    ) -> None:
        self._address = address
        self._retrying = retrying
        self._give_up_seconds = give_up_seconds
        self._turns = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._inbox = Inbox(MAX_UNREAD)
        self._link = Link(
            address,
            inbox=self._inbox,
            retrying=retrying,
            on_trouble=on_trouble,
            on_chunk=on_chunk,
            on_broadcast=on_broadcast,
        )
        self._opened = opened
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._keeping is not None:
            raise RuntimeError("the stream is open already")
        # A TaskGroup would wrap the errors of the caller's own block.
        self._keeping = asyncio.create_task(self._keep())  # noqa: TID251
        self._opened.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Waits a moment until what was acknowledged is recorded, then leaves. Safe to call again."""
        if self._keeping is None or self._keeping.done():
            self._opened.discard(self)
            return
        try:
            await self.acknowledged(timeout_seconds=FAREWELL_SECONDS)
        except (FieldpostError, TimeoutError):
            # It comes again with the next connection.
            pass
        finally:
            self._opened.discard(self)
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
            await self._link.end(RuntimeError("the stream is closed"))

    async def post(
        self,
        question: Question,
        *,
        model: str | None = None,
        kind: str | None = None,
        priority: str | None = None,
        deadline_seconds: float | None = None,
        idempotency_key: str | None = None,
        cache: bool | None = None,
        traceparent: str | None = None,
    ) -> UUID:
        """Posts a request over the connection; returns its id when it is safe on the server's disk.

        Raises:
            OutcomeUnknownError: given up after a try that may have been accepted; it names the id and the key.
            FieldpostError: refused, or given up; surely not accepted.
        """
        posting = prepare(
            self._address.device_id,
            question,
            model=model,
            kind=kind,
            priority=priority,
            deadline_seconds=deadline_seconds,
            idempotency_key=idempotency_key,
            cache=cache,
            traceparent=traceparent,
        )
        async with self._turns:
            return await post_safely(
                posting,
                lambda: self._link.request(posting.body, traceparent=posting.traceparent),
                retrying=self._retrying,
                give_up_seconds=self._give_up_seconds,
            )

    async def receive(self) -> Response:
        """The next answer, each once; acknowledge it when you are done with it, else it comes again another time.

        Raises:
            FieldpostError: the server refuses this device for good.
        """
        response = await self._inbox.take()
        self._link.wake()
        return response

    async def __aiter__(self) -> AsyncIterator[Response]:
        while True:
            yield await self.receive()

    def acknowledge(self, *answers: Response | UUID) -> None:
        """Tells the server, soon and as often as it takes, that the device has these; does not wait for it.

        What is not in hand (acknowledged before, or brought by another call) is left alone.
        """
        self._inbox.finish(answer.request_id if isinstance(answer, Response) else answer for answer in answers)
        self._link.wake()

    async def acknowledged(self, *, timeout_seconds: float = 30.0) -> None:
        """Returns when every acknowledgement is recorded: none of these answers comes again.

        Raises:
            TimeoutError: not yet; trying goes on.
        """
        async with asyncio.timeout(timeout_seconds):
            await self._inbox.settled()

    async def _keep(self) -> None:
        try:
            await self._link.run()
        except Exception as error:
            # A bug; nobody may wait for ever because of it.
            await self._link.end(error)
            raise
