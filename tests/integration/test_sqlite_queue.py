"""One queue between disk and memory, against the simplest model of it: a list, under whatever happens in whatever order."""

import asyncio
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fieldpost.backends.sqlite import queue as module
from fieldpost.backends.sqlite.broker import create_tables
from fieldpost.backends.sqlite.database import Database
from fieldpost.backends.sqlite.queue import Item, Queue

_INSERT = "INSERT INTO messages (queue, id, body) VALUES (?, ?, ?)"
_DELETE = "DELETE FROM messages WHERE queue = ? AND id = ?"
#: So small that a few messages of a few bytes meet every bound.
_MAX_READY_BYTES = 4
_MAX_LOAD = 3
_MAX_BODY_BYTES = 8

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.lists(st.integers(0, _MAX_BODY_BYTES), min_size=1, max_size=5)),
        st.tuples(st.just("confirm"), st.just([])),
        st.tuples(st.just("receive"), st.lists(st.just(0), min_size=1, max_size=4)),
        st.tuples(st.just("ack"), st.lists(st.integers(0, 9), max_size=3)),
        st.tuples(st.just("requeue"), st.lists(st.integers(0, 9), max_size=3)),
        st.tuples(st.just("confirm while loading"), st.just([])),
    ),
    max_size=30,
)

#: The last message is read from disk together with one that is known, and confirmed after that.
_READ_BEFORE_ITS_CONFIRMATION: list[tuple[str, list[int]]] = [
    ("commit", [_MAX_BODY_BYTES]),
    ("confirm", []),
    ("commit", [1]),
    ("confirm", []),
    ("commit", [1]),
    ("receive", [0]),
    ("receive", [0, 0]),
    ("confirm", []),
]


class _Driven:
    """The queue, and beside it the model: which messages there are, who has which, what is known of the rest."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self.queue = Queue(database, name, max_messages=1_000, depth=0)
        self._last_id = 0
        #: On disk, and the queue has not heard of it.
        self._unconfirmed: deque[list[Item]] = deque()
        self._bodies: dict[int, bytes] = {}
        self._in_hand: list[Item] = []
        #: Put back, and so to come before all others, in this order.
        self._front: deque[int] = deque()
        self._seen: list[int] = []
        self._acked: set[int] = set()

    async def step(self, verb: str, numbers: list[int]) -> None:
        match verb:
            case "commit":
                await self._commit(numbers)
            case "confirm":
                self._confirm()
            case "receive":
                await self._receive(len(numbers))
            case "ack":
                await self._ack(numbers)
            case "requeue":
                self._requeue(numbers)
            case "confirm while loading":
                loading = asyncio.ensure_future(self.queue.load())
                await asyncio.sleep(0)
                self._confirm()
                await loading
        self._check()

    async def _commit(self, sizes: list[int]) -> None:
        items = [(self._last_id + number, bytes(size)) for number, size in enumerate(sizes, 1)]
        await self._run(_INSERT, *((self.queue.name, *item) for item in items))
        self._last_id += len(items)
        self._bodies.update(items)
        self._unconfirmed.append(items)

    async def _run(self, statement: str, *rows: tuple[object, ...]) -> None:
        await self._database.write(lambda connection: connection.exec_driver_sql(statement, list(rows)))

    def _confirm(self) -> None:
        if self._unconfirmed:
            self.queue.confirm(self._unconfirmed.popleft())

    async def _receive(self, limit: int) -> int:
        if not self.queue.ready and self.queue.has_unread:
            await self.queue.load()
        taken = [self.queue.take() for _ in range(min(limit, len(self.queue.ready)))]
        for message_id, body in taken:
            assert self._bodies[message_id] == body
            assert message_id not in self._acked
            assert not self._front or self._front.popleft() == message_id, "not the one that was put back"
            assert message_id not in {item[0] for item in self._in_hand}, "delivered twice"
            self._in_hand.append((message_id, body))
            if message_id not in self._seen:
                self._seen.append(message_id)
        return len(taken)

    async def _ack(self, places: list[int]) -> None:
        for item in self._picked(places):
            self._in_hand.remove(item)
            self._acked.add(item[0])
            await self._run(_DELETE, (self.queue.name, item[0]))

    def _requeue(self, places: list[int]) -> None:
        for item in reversed(self._picked(places)):
            self._in_hand.remove(item)
            self.queue.put_back(item)
            self._front.appendleft(item[0])

    def _picked(self, places: list[int]) -> list[Item]:
        return [item for place, item in enumerate(sorted(self._in_hand)) if place in places]

    def _check(self) -> None:
        ready_bytes = sum(len(body) for _, body in self.queue.ready)
        assert self.queue._ready_bytes == ready_bytes
        # One message may pass the bound; what comes back from a consumer's hand stands on top.
        fresh_bytes = sum(len(body) for message_id, body in self.queue.ready if message_id not in self._seen)
        assert fresh_bytes < _MAX_READY_BYTES + _MAX_BODY_BYTES

    async def drain(self) -> None:
        """Everything that was committed comes, each once, the first time in order."""
        while self._unconfirmed:
            self._confirm()
        while await self._receive(5):
            self._check()
        assert self._seen == sorted(self._bodies), "lost, or out of order"
        assert {item[0] for item in self._in_hand} == set(self._bodies) - self._acked
        assert not self.queue.has_unread


@pytest.fixture(scope="module")
def small_bounds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_READY_BYTES", _MAX_READY_BYTES)
        patch.setattr(module, "MAX_LOAD", _MAX_LOAD)
        yield


def test_every_message_comes_in_order_and_none_twice_whatever_happens(small_bounds: None) -> None:
    queues = 0

    with tempfile.TemporaryDirectory() as directory, asyncio.Runner() as runner:
        database = Database(Path(directory) / "fieldpost.db")
        database.run_now(create_tables)
        database.open()

        @settings(max_examples=300, deadline=None)
        @given(_STEPS)
        @example(_READ_BEFORE_ITS_CONFIRMATION)
        def follow(steps: list[tuple[str, list[int]]]) -> None:
            nonlocal queues
            queues += 1
            runner.run(_follow(_Driven(database, f"queue {queues}"), steps))

        try:
            follow()
        finally:
            runner.run(database.close())


async def _follow(driven: _Driven, steps: list[tuple[str, list[int]]]) -> None:
    for verb, numbers in steps:
        await driven.step(verb, numbers)
    await driven.drain()
