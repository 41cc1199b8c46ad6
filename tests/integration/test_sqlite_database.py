"""The database file itself: one failure in a group, bounds, closing, and how large the files may grow."""

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from fieldpost.backends.sqlite import database as module
from fieldpost.backends.sqlite.broker import SqliteBroker, create_tables
from fieldpost.backends.sqlite.database import Database
from fieldpost.backends.sqlite.opening import open_database
from fieldpost.errors import (
    BackendTimeoutError,
    BackendUnavailableError,
    CorruptDataError,
    DataDirectoryInUseError,
    FieldpostError,
    OverloadedError,
)
from fieldpost.messages.devices import DeviceKind
from tests.support.messages import at
from tests.support.waiting import eventually


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    opened = Database(path)
    opened.run_now(lambda connection: connection.exec_driver_sql("CREATE TABLE t (v INTEGER UNIQUE, b BLOB)"))
    opened.open()
    yield opened
    await opened.close()


def _insert(value: int, body: bytes = b"") -> Any:
    return lambda connection: connection.exec_driver_sql("INSERT INTO t VALUES (?, ?)", (value, body)).rowcount


def _values(connection: Connection) -> list[int]:
    return list(connection.exec_driver_sql("SELECT v FROM t ORDER BY v").scalars())


class _Gate:
    """A write that keeps the writer busy until it is let go, so that others meet in one group behind it."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._open = threading.Event()

    def __call__(self, _connection: Connection) -> None:
        self._entered.set()
        self._open.wait(30)

    async def entered(self) -> None:
        await eventually(self._entered.is_set)

    def open(self) -> None:
        self._open.set()


async def test_a_write_that_fails_takes_nobody_of_its_group_with_it(database: Database) -> None:
    gate = _Gate()
    first = database.submit(gate)
    await gate.entered()
    # given a group of writes of which two fail, each in its own way
    group = [database.submit(_insert(value)) for value in (1, 2, 1, 3)]
    group.append(database.submit(lambda connection: connection.exec_driver_sql("SELECT nothing FROM nowhere")))
    group.append(database.submit(lambda _connection: 1 // 0))

    gate.open()
    await first
    outcomes = await asyncio.gather(*group, return_exceptions=True)

    assert [1, 1, 1] == [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert [BackendUnavailableError, BackendUnavailableError, CorruptDataError] == [
        type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)
    ]
    assert [1, 2, 3] == await database.read(_values)


async def test_a_caller_who_leaves_leaves_his_write_behind(database: Database) -> None:
    gate = _Gate()
    first = database.submit(gate)
    await gate.entered()
    writing = asyncio.create_task(database.write(_insert(1)))
    await asyncio.sleep(0)
    writing.cancel()
    gate.open()
    await first

    assert 1 == await database.write(_insert(2))
    assert [1, 2] == await database.read(_values)


async def test_too_many_writes_are_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    gate = _Gate()
    first = database.submit(gate)
    await gate.entered()
    waiting = [database.submit(_insert(value)) for value in (1, 2)]

    with pytest.raises(OverloadedError):
        await database.write(_insert(3))

    gate.open()
    await asyncio.gather(first, *waiting)
    assert [1, 2] == await database.read(_values)


async def test_too_many_reads_are_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_READS", 2)
    gate = _Gate()
    reading = [asyncio.create_task(database.read(gate)) for _ in range(2)]
    await gate.entered()

    with pytest.raises(OverloadedError):
        await database.read(_values)

    gate.open()
    await asyncio.gather(*reading)
    assert [] == await database.read(_values)


async def test_a_disk_that_does_not_answer_leaves_the_outcome_open(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.01)
    gate = _Gate()
    first = database.submit(gate)
    await gate.entered()

    with pytest.raises(BackendTimeoutError):
        await database.write(_insert(1))

    gate.open()
    await first
    await eventually(lambda: _has(database, [1]))


async def _has(database: Database, values: list[int]) -> bool:
    try:
        return await database.read(_values) == values
    except BackendTimeoutError:
        return False


async def test_closing_waits_for_what_was_handed_in_and_refuses_what_comes_after(path: Path) -> None:
    database = Database(path)
    database.run_now(lambda connection: connection.exec_driver_sql("CREATE TABLE t (v INTEGER UNIQUE, b BLOB)"))
    database.open()
    gate = _Gate()
    first = database.submit(gate)
    await gate.entered()
    handed_in = [database.submit(_insert(value)) for value in range(5)]
    closing = asyncio.create_task(database.close())
    await asyncio.sleep(0)

    for call in (database.write(_insert(9)), database.read(_values)):
        with pytest.raises(BackendUnavailableError):
            await call
    gate.open()
    await closing
    await database.close()

    assert [1] * 5 == await asyncio.gather(*handed_in)
    assert first.done()
    reopened = Database(path)
    assert [0, 1, 2, 3, 4] == reopened.run_now(_values)


async def test_the_log_does_not_grow_for_ever_under_constant_reading(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given readers that follow each other so closely that there is always one in the log
    limit_bytes = 8 * 2**20
    monkeypatch.setattr(module, "MAX_LOG_BYTES", limit_bytes)
    monkeypatch.setattr(module, "_GROUPS_BETWEEN_LOOKS", 1)
    monkeypatch.setattr(database, "_max_log_bytes", limit_bytes)
    log = path.with_name("x.db-wal")
    written = largest_bytes = shortened = 0
    entered = 0
    is_over = False
    changed = threading.Condition()

    def dwell(connection: Connection) -> None:
        nonlocal entered
        connection.exec_driver_sql("SELECT count(*) FROM t").all()
        with changed:
            entered += 1
            mine = entered
            changed.notify_all()
            changed.wait_for(lambda: entered > mine or is_over, timeout=30)

    async def read() -> None:
        while not is_over:
            await database.read(dwell)

    reading = [asyncio.create_task(read()) for _ in range(3)]
    await eventually(lambda: entered > 0)
    before_bytes = 0
    while written < 10 * limit_bytes:
        bodies = [os.urandom(2**16) for _ in range(8)]
        await database.write(
            lambda connection, bodies=bodies: [  # type: ignore[misc]
                connection.exec_driver_sql("INSERT INTO t (b) VALUES (?)", (body,)) for body in bodies
            ]
        )
        written += 8 * 2**16
        size_bytes = log.stat().st_size
        largest_bytes = max(largest_bytes, size_bytes)
        shortened += size_bytes < before_bytes
        before_bytes = size_bytes
    with changed:
        is_over = True
        changed.notify_all()
    await asyncio.gather(*reading)

    assert largest_bytes < 3 * limit_bytes
    assert shortened


async def test_a_group_that_could_not_begin_holds_up_no_later_one(path: Path) -> None:
    async with open_database(path) as engines:
        await engines.broker.declare("q", max_messages=10)
        # given somebody else who writes to the file: then no transaction can begin
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for body in (b"1", b"2"):
                with pytest.raises(BackendUnavailableError):
                    await engines.broker.publish("q", [body])
            with pytest.raises(BackendUnavailableError):
                await engines.devices.add(kind=DeviceKind.TRUCK, name="x", key_hash=bytes(32), now=at(0))
            other.execute("ROLLBACK")

        await engines.broker.publish("q", [b"3"])

        assert 1 == await engines.broker.depth("q")
        async with engines.broker.consume(["q"], prefetch=10) as consumer:
            assert [b"3"] == [delivery.body for delivery in await consumer.receive(10)]


async def test_what_was_acknowledged_makes_room_for_what_comes(path: Path) -> None:
    database = Database(path)
    database.run_now(create_tables)
    database.open()
    broker = SqliteBroker(database)
    await broker.declare("q", max_messages=1000)
    sizes: list[int] = []
    async with broker.consume(["q"], prefetch=100) as consumer:
        for _ in range(12):
            await broker.publish("q", [os.urandom(2**14) for _ in range(100)])
            received = 0
            while received < 100:
                deliveries = await consumer.receive(100)
                received += len(deliveries)
                await consumer.ack(deliveries)
            # On disk before the next round.
            await database.write(lambda connection: None)
            sizes.append(path.stat().st_size)
    await database.close()

    # A round is 1.6 MB: without using room again this would be 20 MB.
    assert path.stat().st_size < 5 * 2**20, sizes


@pytest.mark.parametrize("damage", [b"", b"SQLite format 3\0" + b"\xff" * 8192, b"somebody's letter" * 1000])
async def test_a_file_that_is_no_database_is_refused_and_an_empty_one_is_filled(path: Path, damage: bytes) -> None:
    path.write_bytes(damage)
    if not damage:
        async with open_database(path) as engines:
            assert await engines.devices.list(after=0, limit=1) == []
        return

    with pytest.raises(FieldpostError) as refused:
        async with open_database(path):
            pass

    assert not isinstance(refused.value, DataDirectoryInUseError)
    assert damage == path.read_bytes()
