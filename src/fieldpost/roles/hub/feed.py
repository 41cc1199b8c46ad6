"""Brings a device's answers to one session: from the bus as they come, from the ledger when something was missed.

Decides with the `Window` and puts into the `Outbox`; knows nothing of WebSocket or server-sent events beyond the `Voice`
that words an answer.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import UnavailableError
from fieldpost.messages.events import Acknowledged, Broadcast, Event, ResponseChunk, ResponseReady, StateChanged
from fieldpost.messages.responses import StoredResponse
from fieldpost.observability import Metrics, get_logger
from fieldpost.roles.hub.budget import Budget
from fieldpost.roles.hub.outbox import Outbox
from fieldpost.roles.hub.window import Window
from fieldpost.services.answers import Answers
from fieldpost.services.hearing import Hearing
from fieldpost.services.mailbox import Listener

log = get_logger()


class Voice(Protocol):
    """How a kind of session words what it brings."""

    def answer(self, request_id: UUID, body: bytes) -> bytes:
        """A final answer; `body` is the encoded Response."""
        ...

    def chunk(self, chunk: ResponseChunk) -> bytes | None:
        """A piece of an answer in the making; None when this kind of session leaves them out."""
        ...

    def broadcast(self, broadcast: Broadcast) -> bytes:
        """What an operator tells."""
        ...

    def leaving(self, reconnect_seconds: float) -> bytes:
        """This hub leaves; come back after that time."""
        ...


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Answers admitted to the window, oldest completion first; `last` is where the next page begins, None at the end."""

    answers: Sequence[StoredResponse]
    last: tuple[datetime, UUID] | None


class Feed:
    """One session's answers.

    Args:
        budget: bounds what the whole hub holds in memory.
        retry_seconds: wait before the ledger is asked again while it is away.
        recheck_seconds: how often it is asked although nothing told to, however much is heard.
    """

    def __init__(
        self,
        *,
        answers: Answers,
        listener: Listener,
        window: Window,
        outbox: Outbox,
        voice: Voice,
        budget: Budget,
        clock: Clock,
        retry_seconds: float,
        recheck_seconds: float,
        metrics: Metrics,
    ) -> None:
        self._device_id = listener.device_id
        self._answers = answers
        self._listener = listener
        self._hearing = Hearing(listener, clock)
        self._budget = budget
        self._retry_seconds = retry_seconds
        self._recheck_seconds = recheck_seconds
        self._metrics = metrics
        self.window = window
        self.outbox = outbox
        self.voice = voice
        #: Whether it is time to ask the ledger although less than half the window is free.
        self._is_overdue = False
        #: Whether the last page ended although there was more.
        self._is_page_open = False
        #: Whether the ledger was away when it was last asked: it is left alone until it is time again.
        self._is_ledger_away = False
        #: One page at a time: each begins with room in the outbox.
        self._paging = asyncio.Lock()
        #: Something was heard since it was last looked whether there is anything to catch up with.
        self._news = asyncio.Event()
        #: It is time to ask the ledger what was acknowledged elsewhere.
        self._due = asyncio.Event()

    def hint(self, request_id: UUID) -> None:
        """This answer is in the ledger; it is sent unless it was before. Never waits."""
        if not self.window.knows(request_id):
            self._listener.put(ResponseReady(request_id=request_id, device_id=self._device_id))

    def tell(self, broadcast: Broadcast) -> None:
        """Brings it after what was heard before, and after the greeting; without room it is left out. Never waits."""
        self._listener.put(broadcast)

    def settle(self, request_ids: Sequence[UUID]) -> None:
        """The device has these answers; what waited for their places follows."""
        self._settled(request_ids)
        if self.window.is_behind:
            self._nudge()

    def _nudge(self) -> None:
        """Whoever hears looks again: when it is behind, the ledger is asked earlier."""
        self._listener.put(Acknowledged(device_id=self._device_id, request_ids=()))

    def _settled(self, request_ids: Collection[UUID]) -> None:
        self.window.settle(request_ids)
        if self._is_page_open and request_ids:
            # What the device has not asked for follows its acknowledgements.
            self._is_page_open = False
            self.window.is_behind = True

    async def put_page(self, after: tuple[datetime, UUID] | None, *, limit: int, word: Callable[[Page], bytes]) -> None:
        """Puts a page once there is room for it, to be worded when it is sent."""
        async with self._paging:
            await self.outbox.room()
            async with self._budget.turn():
                page = await self.page(after, limit=limit)
                size_bytes = sum(len(answer.body) for answer in page.answers)
                self.outbox.put_to_word(lambda: word(page), size_bytes=size_bytes)

    async def page(self, after: tuple[datetime, UUID] | None, *, limit: int) -> Page:
        """Answers not acknowledged and not sent here yet, as many as there is room for and as fit one frame."""
        mark = self.window.mark()
        found = await self._answers.undelivered(self._device_id, after=after, limit=limit)
        admitted: list[StoredResponse] = []
        for answer in found.answers:
            if self.window.admit(answer.request_id, since=mark):
                admitted.append(answer)
            elif not self.window.knows(answer.request_id):
                # No room: the rest follows the acknowledgements by itself.
                return Page(answers=admitted, last=None)
        self._is_page_open = found.is_more
        last = found.answers[-1] if found.is_more else None
        return Page(answers=admitted, last=None if last is None else (last.completed_at, last.request_id))

    async def follow(self) -> None:
        """Brings what is heard, and what was missed, until cancelled; somebody else takes from the outbox meanwhile.

        Hears although there is no room, and while the ledger is asked: what is acknowledged meanwhile is not sent again.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_up())
            tasks.create_task(self._recover())
            while True:
                await self._hear()
                self._news.set()

    async def _keep_up(self) -> None:
        while True:
            # Before it is looked: what is heard from here on is looked at once more.
            self._news.clear()
            await self.outbox.room()
            if not await self._catch_up():
                await self._news.wait()

    async def _catch_up(self) -> bool:
        """Puts a page of what was passed over; whether there is another one, and room for it."""
        is_worth_it = self.window.wants_refill or (self._is_overdue and self.window.room > 0)
        self._is_overdue = False
        if not self.window.is_behind or not is_worth_it or self._is_ledger_away:
            return False
        try:
            return await self._refill()
        except UnavailableError as error:
            self.window.is_behind = True
            self._is_ledger_away = True
            self._nudge()
            log.info("session_refill_postponed", summed=True, device_id=self._device_id, error=repr(error))
            return False

    async def _hear(self) -> None:
        """Waits for news and puts it; what there is no room for is caught up with later."""
        every_seconds = self._retry_seconds if self.window.is_behind else self._recheck_seconds
        heard = await self._hearing.hear(every_seconds=every_seconds)
        if heard.is_due:
            self._is_ledger_away = False
            self.window.is_behind = self.window.is_behind or heard.is_loss
            self._due.set()
        for event in heard.events:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case ResponseReady(to_folder=False):
                if event.body and self.outbox.has_room_for_answers:
                    self._offer(event.request_id, event.body)
                elif not self.window.knows(event.request_id):
                    self.window.is_behind = True
            case ResponseChunk():
                payload = None if self.window.knows(event.request_id) else self.voice.chunk(event)
                if payload is not None and self.outbox.has_room_for_answers:
                    self.outbox.put(payload)
            case Acknowledged():
                self._settled(event.request_ids)
            case Broadcast():
                self._offer_broadcast(event)
            case StateChanged(status=status) if status.is_final:
                self.window.is_behind = True

    def _offer(self, request_id: UUID, body: bytes, *, since: int | None = None) -> None:
        """Sends the answer unless it was sent or settled before; without a place it stays behind, in the ledger."""
        if self.window.admit(request_id, since=since):
            self.outbox.put(self.voice.answer(request_id, body), answer_to=request_id)

    def _offer_broadcast(self, broadcast: Broadcast) -> None:
        has_room = self.outbox.has_room_to_spare
        if has_room:
            self.outbox.put(self.voice.broadcast(broadcast))
        self._metrics.broadcasts.labels("sent" if has_room else "left_out").inc()

    async def _recover(self) -> None:
        """After a loss, and now and then: finds out what was acknowledged elsewhere, and has what was missed looked for."""
        while True:
            await self._due.wait()
            self._due.clear()
            waiting = self.window.on_their_way
            try:
                still = set(await self._answers.unacknowledged(self._device_id, waiting))
                self.window.settle(request_id for request_id in waiting if request_id not in still)
            except UnavailableError as error:
                log.info("session_recovery_postponed", summed=True, device_id=self._device_id, error=repr(error))
            # Something may be there that nothing told of; with no room it is looked for after the next acknowledgement.
            self.window.is_behind = self.window.is_behind or self.window.room > 0
            self._is_overdue = True
            self._news.set()

    async def _refill(self) -> bool:
        window = self.window
        async with self._paging, self._budget.turn():
            window.is_behind = False
            mark = window.mark()
            page = await self._answers.undelivered(
                self._device_id, leaving_out=window.on_their_way, limit=max(1, window.room)
            )
            for answer in page.answers:
                self._offer(answer.request_id, answer.body, since=mark)
        window.is_behind = window.is_behind or page.is_more
        if window.is_behind:
            self._nudge()
        return page.is_more and window.room > 0
