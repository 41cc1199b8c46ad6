"""What waits to be sent over one session, in order, bounded in frames and bytes; one writer takes, many put.

While it is open, everything in it counts against the hub's budget, what the writer has in hand too.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self
from uuid import UUID

import msgspec

from fieldpost.roles.hub.budget import Budget
from fieldpost.services.waiting import within


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One frame or event; `answer_to` when it carries a final answer, so that it can be left out once acknowledged.

    `word` makes the payload when it is sent, for a frame whose content may change until then.
    """

    payload: bytes = b""
    answer_to: UUID | None = None
    word: Callable[[], bytes] | None = None
    size_bytes: int


class Outbox:
    """Callers wait for room before they put; what they then put may pass the bound in bytes by its own size."""

    def __init__(self, *, max_items: int, max_bytes: int, budget: Budget) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._budget = budget
        self._items: deque[Item] = deque()
        self._size_bytes = 0
        #: What the writer took last, until it comes back.
        self._in_hand_bytes = 0
        self._is_open = False
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()
        self._idle = asyncio.Event()

    def __enter__(self) -> Self:
        self._is_open = True
        self._budget.join()
        self._budget.count(self._unsent_bytes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        self._budget.leave(self._unsent_bytes)

    @property
    def has_room(self) -> bool:
        """Whether one more may be put."""
        is_below_share = self._unsent_bytes < self._budget.share_bytes
        return len(self._items) < self._max_items and self._size_bytes < self._max_bytes and is_below_share

    @property
    def has_room_for_answers(self) -> bool:
        """Whether one more may be put that could also wait in the ledger."""
        return self.has_room and self._budget.has_room

    @property
    def has_room_to_spare(self) -> bool:
        """Whether half of all bounds is free: what is not kept anywhere takes no more, so that answers have the rest."""
        is_short = 2 * len(self._items) < self._max_items and 2 * self._size_bytes < self._max_bytes
        return is_short and 2 * self._unsent_bytes < self._budget.share_bytes and self._budget.has_room_to_spare

    @property
    def _unsent_bytes(self) -> int:
        return self._size_bytes + self._in_hand_bytes

    def put(self, payload: bytes, *, answer_to: UUID | None = None) -> None:
        """Puts at the end, whether there is room or not."""
        self._put(Item(payload=payload, answer_to=answer_to, size_bytes=len(payload)))

    def put_to_word(self, word: Callable[[], bytes], *, size_bytes: int) -> None:
        """Puts what is worded when it is taken, whether there is room or not; it is expected to be of this size."""
        self._put(Item(word=word, size_bytes=size_bytes))

    def wake(self) -> None:
        """Whoever waits to take something comes back with nothing, and looks again."""
        self.put(b"")

    def _put(self, item: Item) -> None:
        self._items.append(item)
        self._size_bytes += item.size_bytes
        self._count(item.size_bytes)
        self._idle.clear()
        self._filled.set()

    async def put_in_turn(self, payload: bytes) -> None:
        """Waits for room, then puts."""
        await self.room()
        self.put(payload)

    async def room(self) -> None:
        """Returns when there is room. Nobody is promised it: whoever goes on first has it."""
        while not self.has_room:
            self._taken.clear()
            await self._taken.wait()

    async def take(self) -> Item:
        """Waits for the next. Cancel: safe, nothing is lost."""
        while (item := self.take_now()) is None:
            self._filled.clear()
            await self._filled.wait()
        return item

    async def take_within(self, seconds: float) -> Item | None:
        """The next; None when nothing was there for so long, nor is now."""
        item = await within(self.take(), seconds)
        # What was put just when the time was over is not passed over.
        return self.take_now() if item is None else item

    def take_now(self) -> Item | None:
        """The next, if there is one; whoever asks has sent the one before."""
        if self._in_hand_bytes:
            self._count(-self._in_hand_bytes)
            self._in_hand_bytes = 0
            self._taken.set()
        if not self._items:
            self._idle.set()
            return None
        item = self._items.popleft()
        self._size_bytes -= item.size_bytes
        self._in_hand_bytes = item.size_bytes
        self._taken.set()
        return item

    def _count(self, size_bytes: int) -> None:
        if self._is_open:
            self._budget.count(size_bytes)

    async def emptied(self) -> None:
        """Returns when everything was taken and the writer came back for more: then the last was sent."""
        await self._idle.wait()
