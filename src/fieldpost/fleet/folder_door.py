"""Devices that have nothing but a folder: they drop files, and look whether the answers are there."""

import asyncio
import random
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import msgspec

from fieldpost.background import carried_through
from fieldpost.clock import Clock
from fieldpost.errors import CorruptDataError
from fieldpost.fleet.agenda import Agenda
from fieldpost.fleet.journal import Journal, Post
from fieldpost.fleet.roster import Member
from fieldpost.fleet.tray import Tray

P = ParamSpec("P")
T = TypeVar("T")

#: Between two looks.
_LOOK_SECONDS = 0.25


class FolderDoor:
    """While it is away nothing is synced: it neither drops nor looks."""

    def __init__(self, member: Member, tray: Tray, *, journal: Journal, clock: Clock, source: random.Random) -> None:
        self.member = member
        self._tray = tray
        self._journal = journal
        self._clock = clock
        self._source = source
        self._posts: dict[str, Post] = {}
        self._strange: set[str] = set()

    async def session(self, agenda: Agenda | None) -> None:
        """Drops and looks, until cancelled; without an agenda it only looks."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            while agenda is not None:
                await self._ask(*await agenda.next())

    async def look_again(self) -> None:
        """Reads every answer once more; what was dropped, not refused and never answered was promised all the same."""
        await self._look()
        for name, post in self._posts.items():
            if post.is_answered:
                self._journal.delivered(self.member, post.request, await self._read(self._tray.answer, name))
            elif not post.is_refused:
                self._journal.accepted(post)

    def clear(self) -> None:
        """Takes away what it left behind."""
        self._tray.clear(self._posts)

    async def _ask(self, name: str, question: str) -> None:
        file_name, content = self._file(name, question)
        request = self._request(file_name)
        post = self._journal.asked(self.member, request=request, name=file_name, question=question)
        self._posts[file_name] = post
        # It was written down as asked: nothing keeps it from being dropped, not even an end before a thread is free for it.
        await carried_through(self._drop(post, content))

    async def _drop(self, post: Post, content: bytes) -> None:
        try:
            await asyncio.to_thread(self._tray.drop, post.name, content)
        except OSError as error:
            self._journal.refused_for(post, f"The file cannot be written: {error.strerror}.")

    def _file(self, name: str, question: str) -> tuple[str, bytes]:
        """A plain prompt, or an envelope."""
        if self._source.random() < 0.5:
            return f"{name}.txt", question.encode()
        return f"{name}.json", msgspec.json.encode({"input": {"prompt": question}, "kind": "demo"})

    def _request(self, file_name: str) -> str:
        return f"{self.member.device_id}/{file_name}"

    async def _watch(self) -> None:
        while True:
            await self._look()
            await self._clock.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        """Writes down what has become of open files, and of files that this device never dropped."""
        answered = await self._read(self._tray.answered)
        refused = await self._read(self._tray.refused)
        taken = await self._read(self._tray.taken)
        for post in self._journal.open_posts(self.member):
            if post.name in answered:
                await self._take(post.name)
                self._journal.kept(post)
            elif post.name in refused:
                self._journal.refused_for(post, await self._read(self._tray.reason, post.name))
            elif post.name in taken:
                self._journal.accepted(post)
        for name in answered - self._posts.keys() - self._strange:
            self._strange.add(name)
            await self._take(name)

    async def _take(self, name: str) -> None:
        self._journal.delivered(self.member, self._request(name), await self._read(self._tray.answer, name))

    async def _read(self, reading: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        try:
            return await asyncio.to_thread(reading, *arguments, **named)
        except OSError as error:
            raise CorruptDataError(f"{error.filename} cannot be read: {error.strerror}") from error
