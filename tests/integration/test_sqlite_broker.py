"""The SQLite broker when its disk is in the way: another writer's lock, too much in hand, many publishers at once."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fieldpost.backends.sqlite import broker as broker_module
from fieldpost.backends.sqlite import browsing
from fieldpost.backends.sqlite.broker import create_tables
from fieldpost.backends.sqlite.database import Database
from fieldpost.backends.sqlite.opening import open_database
from fieldpost.backends.sqlite.queue import Queue
from fieldpost.errors import BackendUnavailableError, OverloadedError
from fieldpost.ports.broker import Broker
from tests.support.consuming import receive


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fieldpost.db"


@pytest.fixture
async def broker(path: Path) -> AsyncIterator[Broker]:
    async with open_database(path) as engines:
        await engines.broker.declare("q", max_messages=10_000)
        yield engines.broker


@contextmanager
def _write_lock(path: Path) -> Iterator[None]:
    """Another connection writes, as a backup or an operator's shell may."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def _rows(path: Path) -> list[bytes]:
    with closing(sqlite3.connect(path)) as other:
        return [row[0] for row in other.execute("SELECT body FROM messages ORDER BY id")]


async def test_while_another_writes_a_publish_fails_and_once_that_is_over_it_works_again(
    path: Path, broker: Broker
) -> None:
    with _write_lock(path):
        for body in (b"1", b"2"):
            with pytest.raises(BackendUnavailableError):
                await broker.publish("q", [body])
        assert 0 == await broker.depth("q")

    await broker.publish("q", [b"3"])

    assert 1 == await broker.depth("q")
    async with broker.consume(["q"], prefetch=10) as consumer:
        assert [b"3"] == [delivery.body for delivery in await receive(consumer, 1)]


async def test_what_is_acknowledged_while_another_writes_goes_with_a_later_group(path: Path, broker: Broker) -> None:
    await broker.publish("q", [b"1", b"2"])
    async with broker.consume(["q"], prefetch=10) as consumer:
        with _write_lock(path):
            await consumer.ack((await receive(consumer, 2))[:1])
            with pytest.raises(BackendUnavailableError):
                await broker.publish("q", [b"3"])
        assert [b"1", b"2"] == _rows(path)

        await broker.publish("q", [b"4"])

    assert [b"2", b"4"] == _rows(path)
    assert 2 == await broker.depth("q")


async def test_a_row_that_is_read_before_its_confirmation_comes_once_and_hides_none_after_it(path: Path) -> None:
    database = Database(path)
    database.run_now(create_tables)
    database.open()
    insert = "INSERT INTO messages VALUES ('q', ?, x'')"
    await database.write(lambda connection: connection.exec_driver_sql(insert, (1,)))
    queue = Queue(database, "q", 100, 1, 1)

    await database.write(lambda connection: connection.exec_driver_sql(insert, (2,)))
    assert await queue.load()
    assert [1, 2] == [queue.take()[0] for _ in range(2)]
    assert not await queue.load()
    queue.confirm([(2, b"")])
    assert not queue.ready
    await database.write(lambda connection: connection.exec_driver_sql(insert, (3,)))
    queue.confirm([(3, b"")])

    assert (3, b"") == queue.take()
    assert not queue.has_unread
    await database.close()


async def test_what_waits_for_the_disk_is_bounded_in_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "MAX_WAITING_BYTES", 1000)
    async with open_database(tmp_path / "fieldpost.db") as engines:
        await engines.broker.declare("q", max_messages=100)
        outcomes = await asyncio.gather(
            *(engines.broker.publish("q", [b"x" * 600]) for _ in range(5)), return_exceptions=True
        )
        await engines.broker.publish("q", [b"later"])

        refused = [outcome for outcome in outcomes if outcome is not None]
        assert refused
        assert all(isinstance(outcome, OverloadedError) for outcome in refused)
        assert 5 - len(refused) + 1 == await engines.broker.depth("q")


async def test_many_publishers_and_a_consumer_lose_and_repeat_nothing(path: Path) -> None:
    async with open_database(path) as engines:
        await engines.broker.declare("q", max_messages=10_000)
        got: list[int] = []

        async def publish(first: int) -> None:
            for number in range(first, 2000, 20):
                await engines.broker.publish("q", [str(number).encode()])

        async def consume() -> None:
            async with engines.broker.consume(["q"], prefetch=50) as consumer:
                while len(got) < 2000:
                    deliveries = await consumer.receive(7)
                    got.extend(int(delivery.body) for delivery in deliveries)
                    await consumer.ack(deliveries)

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(consume())
            for first in range(20):
                tasks.create_task(publish(first))

        assert sorted(got) == list(range(2000))
        assert 0 == await engines.broker.depth("q")


async def test_a_queue_is_looked_through_in_pages_latest_first_and_nothing_is_taken(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browsing, "PAGE", 4)
    monkeypatch.setattr(browsing, "PAGE_BYTES", 250)
    async with open_database(path) as engines:
        for queue in ("q", "other"):
            await engines.broker.declare(queue, max_messages=100)
            await engines.broker.publish(queue, [queue.encode() + b"%d" % number for number in range(5)])
        await engines.broker.publish("q", [b"x" * 200, b"y" * 200, b"z" * 200])

        pages = [page async for page in engines.broker.browse("q")]

        assert 8 == await engines.broker.depth("q")
    assert [[b"z" * 200, b"y" * 200], [b"x" * 200, b"q4", b"q3", b"q2"], [b"q1", b"q0"]] == pages
