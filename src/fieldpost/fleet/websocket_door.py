"""Devices that hold a WebSocket: many questions in flight, answers as they come, some left unacknowledged on purpose."""

import asyncio
import contextlib
import random

from fieldpost.client import Stream
from fieldpost.errors import FieldpostError
from fieldpost.fleet.agenda import Agenda
from fieldpost.fleet.journal import Post
from fieldpost.fleet.line import Line

#: Of the answers, so many are acknowledged when they come; the others have to come again after the next connection.
ACKNOWLEDGED_FRACTION = 0.9
#: Posts in flight on one connection; further questions wait.
_MAX_IN_FLIGHT = 16
#: How long one look waits for what was acknowledged to be recorded.
_CONFIRM_SECONDS = 5.0


class WebSocketDoor:
    """Asks without waiting for anything but room."""

    def __init__(self, line: Line, *, source: random.Random) -> None:
        self._line = line
        self._source = source
        self._turns = asyncio.Semaphore(_MAX_IN_FLIGHT)
        self.member = line.member

    async def session(self, agenda: Agenda | None) -> None:
        """Asks and listens, until cancelled; without an agenda it only listens, and acknowledges everything."""
        told = _Told()
        async with self._line.client() as client, client.connect() as stream:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._hear(stream, told, 1.0 if agenda is None else ACKNOWLEDGED_FRACTION))
                    tasks.create_task(self._confirm(stream, told))
                    tasks.create_task(self._ask(stream, agenda, tasks))
            finally:
                # What is not recorded by then comes again.
                with contextlib.suppress(FieldpostError):
                    await self._note(stream, told)

    async def look_again(self) -> None:
        """See `Line.look_again`."""
        await self._line.look_again()

    async def _ask(self, stream: Stream, agenda: Agenda | None, tasks: asyncio.TaskGroup) -> None:
        for post in self._line.journal.open_posts(self.member):
            if not post.is_known:
                await self._turns.acquire()
                tasks.create_task(self._offer(stream, post))
        while agenda is not None:
            name, question = await agenda.next()
            await self._turns.acquire()
            tasks.create_task(self._offer(stream, self._line.ask(name, question)))

    async def _offer(self, stream: Stream, post: Post) -> None:
        try:
            await self._line.offer(post, stream.post(post.question, idempotency_key=post.name))
        finally:
            self._turns.release()

    async def _hear(self, stream: Stream, told: "_Told", acknowledged_fraction: float) -> None:
        while True:
            response = await stream.receive()
            post = self._line.take(response)
            if self._source.random() < acknowledged_fraction:
                stream.acknowledge(response)
                told.add(post)

    async def _confirm(self, stream: Stream, told: "_Told") -> None:
        while True:
            await told.changed.wait()
            told.changed.clear()
            await self._note(stream, told)

    async def _note(self, stream: Stream, told: "_Told") -> None:
        """Writes down the acknowledgements that are recorded."""
        posts = tuple(told.posts)
        try:
            await stream.acknowledged(timeout_seconds=_CONFIRM_SECONDS)
        except TimeoutError:
            told.changed.set()
            return
        for post in posts:
            self._line.journal.acked(post)
            told.posts.discard(post)


class _Told:
    """Answers that were acknowledged, as long as nobody said that this is recorded."""

    def __init__(self) -> None:
        self.posts: set[Post] = set()
        self.changed = asyncio.Event()

    def add(self, post: Post | None) -> None:
        """None is an answer that nobody asked for."""
        if post is not None:
            self.posts.add(post)
            self.changed.set()
