"""One device's line to the server over the SDK: what both of its network doors need."""

import random
from collections.abc import Awaitable, Sequence
from uuid import UUID

import msgspec

from fieldpost.client import AsyncClient
from fieldpost.client.address import find
from fieldpost.client.http import Http
from fieldpost.client.retrying import Retrying
from fieldpost.clock import Clock
from fieldpost.errors import (
    CorruptDataError,
    ForbiddenError,
    OutcomeUnknownError,
    RejectedError,
    UnauthenticatedError,
    UnavailableError,
)
from fieldpost.fleet.journal import Journal, Post
from fieldpost.fleet.roster import Member
from fieldpost.messages.identity import keyed_id
from fieldpost.messages.responses import Response

#: How long a call that the server cannot serve right now is repeated; longer than a restart takes.
PATIENCE_SECONDS = 60.0
#: Answers read at once.
_PAGE = 100


class _Page(msgspec.Struct):
    responses: list[Response]


class Line:
    """Makes a device's clients, and writes down what they are told."""

    def __init__(self, url: str, member: Member, *, journal: Journal, clock: Clock, source: random.Random) -> None:
        self.member = member
        self.journal = journal
        self.clock = clock
        self._url = url
        self._source = source
        self._retrying = Retrying(clock=clock, source=source)

    def client(self) -> AsyncClient:
        """A new one, as after a device was switched on."""
        return AsyncClient(
            self._url, self.member.key, give_up_seconds=PATIENCE_SECONDS, clock=self.clock, source=self._source
        )

    def ask(self, name: str, question: str) -> Post:
        """Writes down what is about to be asked; `name` is its idempotency key."""
        request = str(keyed_id(self.member.device_id, name))
        return self.journal.asked(self.member, request=request, name=name, question=question)

    async def offer(self, post: Post, sending: Awaitable[UUID]) -> None:
        """Writes down how sending ends; one whose outcome is unknown stays open, to be sent again.

        Raises:
            FieldpostError: the server does not know this device, or talks nonsense.
        """
        try:
            request_id = await sending
        except OutcomeUnknownError:
            return
        except (UnauthenticatedError, ForbiddenError):
            raise
        except (RejectedError, UnavailableError) as error:
            self.journal.refused_for(post, error.title)
            return
        if str(request_id) != post.request:
            raise CorruptDataError(f"request {post.request} was accepted under another id, {request_id}")
        self.journal.accepted(post)

    def take(self, response: Response) -> Post | None:
        """An answer is in hand."""
        return self.journal.delivered(self.member, str(response.request_id), response)

    async def confirm(self, client: AsyncClient, posts: Sequence[Post]) -> None:
        """Acknowledges answers in hand."""
        for post in posts:
            await client.acknowledge([post.id])
            self.journal.acked(post)

    async def poll(self, *, wait_seconds: int) -> list[Response]:
        """What the server holds for this device and has not been told of; the SDK has no long poll.

        Raises:
            FieldpostError: refused, or given up.
        """
        http = Http(find(self._url, self.member.key))
        path = f"/v1/responses?wait={wait_seconds}&limit={_PAGE}"
        try:
            content = await self._retrying.run(lambda: http.call("GET", path), give_up_seconds=PATIENCE_SECONDS)
        finally:
            await http.aclose()
        try:
            return msgspec.json.decode(content, type=_Page).responses
        except msgspec.MsgspecError as error:
            raise CorruptDataError(f"the server's reply cannot be read: {error}") from error

    async def look_again(self) -> None:
        """Writes down what the server still offers at the end: nothing that it was told the device has."""
        for response in await self.poll(wait_seconds=0):
            self.take(response)
