"""Devices that use HTTP: one asks and waits, another asks on and polls for whatever is there."""

import asyncio

from fieldpost.client import AsyncClient
from fieldpost.errors import NoAnswerYetError, NotFoundError
from fieldpost.fleet.agenda import Agenda
from fieldpost.fleet.journal import Post
from fieldpost.fleet.line import Line

#: Of one call that waits; the next one follows at once.
_WAIT_SECONDS = 20
#: Between two polls that found nothing.
_PAUSE_SECONDS = 0.2


class WaitingDoor:
    """Asks one thing at a time, and waits for its answer."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.member = line.member

    async def session(self, agenda: Agenda | None) -> None:
        """Fetches what was missed, then asks, until cancelled; without an agenda it only fetches."""
        async with self._line.client() as client:
            for post in self._line.journal.open_posts(self.member):
                await self._finish(client, post)
            while agenda is not None:
                await self._finish(client, self._line.ask(*await agenda.next()))
            await asyncio.Event().wait()

    async def look_again(self) -> None:
        """See `Line.look_again`."""
        await self._line.look_again()

    async def _finish(self, client: AsyncClient, post: Post) -> None:
        if not post.is_known:
            await self._line.offer(post, client.post(post.question, idempotency_key=post.name))
        if post.is_known and not post.is_answered:
            await self._wait(client, post)
        if post.is_answered:
            # `wait` has acknowledged it, but may not know whether that was recorded.
            await self._line.confirm(client, [post])

    async def _wait(self, client: AsyncClient, post: Post) -> None:
        while not post.is_answered:
            try:
                self._line.take(await client.wait(post.id, timeout_seconds=_WAIT_SECONDS))
            except NoAnswerYetError:
                continue
            except NotFoundError:
                # Accepted, and gone: the verdict will tell.
                return


class PollingDoor:
    """Asks without waiting, and polls for answers."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.member = line.member

    async def session(self, agenda: Agenda | None) -> None:
        """Asks and polls, until cancelled; without an agenda it only polls."""
        async with self._line.client() as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._collect(client))
            tasks.create_task(self._ask(client, agenda))

    async def look_again(self) -> None:
        """See `Line.look_again`."""
        await self._line.look_again()

    async def _ask(self, client: AsyncClient, agenda: Agenda | None) -> None:
        for post in self._line.journal.open_posts(self.member):
            if not post.is_known:
                await self._offer(client, post)
        while agenda is not None:
            await self._offer(client, self._line.ask(*await agenda.next()))

    async def _offer(self, client: AsyncClient, post: Post) -> None:
        await self._line.offer(post, client.post(post.question, idempotency_key=post.name))

    async def _collect(self, client: AsyncClient) -> None:
        in_hand = [post for post in self._line.journal.open_posts(self.member) if post.is_answered]
        await self._line.confirm(client, in_hand)
        while True:
            responses = await self._line.poll(wait_seconds=_WAIT_SECONDS)
            posts = [self._line.take(response) for response in responses]
            await self._line.confirm(client, [post for post in posts if post is not None])
            if not responses:
                await self._line.clock.sleep(_PAUSE_SECONDS)
