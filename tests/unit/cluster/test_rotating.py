"""Logs of parts are bounded, whoever holds them open; what is shown of them does not end where one was cut."""

import asyncio
import errno
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from fieldpost.cluster import rotating, tail
from tests.support.clock import FakeClock
from tests.support.waiting import eventually

MAX_BYTES = 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "redis-1.log"


@contextmanager
def _held_open(path: Path) -> Iterator[IO[bytes]]:
    """As a child's output is: by who appends to it and knows nothing of rotating."""
    with path.open("ab", buffering=0) as log:
        yield log


def _line(number: int) -> bytes:
    return f"line {number:04}\n".encode()


def test_a_log_that_never_ends_takes_no_more_than_its_share(path: Path) -> None:
    with _held_open(path) as log:
        for number in range(2000):
            log.write(_line(number))
            rotating.rotate_all(path.parent, max_bytes=MAX_BYTES)

    files = sorted(path.parent.iterdir())
    assert files == [path, *(rotating.older(path, number) for number in range(1, rotating.KEPT + 1))]
    assert all(file.stat().st_size <= MAX_BYTES + len(_line(0)) for file in files)


def test_what_is_kept_is_the_end_without_a_gap(path: Path) -> None:
    with _held_open(path) as log:
        for number in range(2000):
            log.write(_line(number))
            rotating.rotate_all(path.parent, max_bytes=MAX_BYTES)

    kept = [rotating.older(path, number) for number in range(rotating.KEPT, 0, -1)]
    lines = b"".join(file.read_bytes() for file in [*kept, path]).splitlines(keepends=True)
    assert lines == [_line(number) for number in range(2000 - len(lines), 2000)]


def test_a_log_that_is_not_full_is_left_alone(path: Path) -> None:
    path.write_bytes(b"x" * MAX_BYTES)

    rotating.rotate_all(path.parent, max_bytes=MAX_BYTES)

    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_loses_nothing_of_any_log_and_leaves_nothing_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(source: IO[bytes], target: IO[bytes], _length: int) -> None:
        target.write(source.read(MAX_BYTES // 2))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path.write_bytes(b"x" * (MAX_BYTES + 1))
    for number in range(1, rotating.KEPT + 1):
        rotating.older(path, number).write_bytes(_line(number))
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    monkeypatch.setattr(shutil, "copyfileobj", half)

    for _ in range(rotating.KEPT):
        with pytest.raises(OSError, match="No space left"):
            rotating.rotate_all(path.parent, max_bytes=MAX_BYTES)

    assert before == {file.name: file.read_bytes() for file in path.parent.iterdir()}

    monkeypatch.undo()
    rotating.rotate_all(path.parent, max_bytes=MAX_BYTES)
    assert before[path.name] == rotating.older(path).read_bytes()
    assert _line(1) == rotating.older(path, 2).read_bytes()


def test_the_last_lines_reach_back_into_the_log_before(path: Path) -> None:
    with _held_open(path) as log:
        for number in range(200):
            log.write(_line(number))
        rotating.rotate_all(path.parent, max_bytes=MAX_BYTES)
        log.write(_line(200))

    assert tail.find(path.parent.parent, "redis-1") == path
    assert tail.last(path, 3) == [_line(number).decode() for number in (198, 199, 200)]
    assert tail.last(path, 1) == [_line(200).decode()]
    assert tail.last(path, 0) == []


async def test_who_follows_a_log_misses_nothing_when_it_is_cut(path: Path, clock: FakeClock) -> None:
    out = io.StringIO()
    with _held_open(path) as log:
        log.write(b"x" * MAX_BYTES + b"\n")
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(tail.follow(path, out, clock=clock))
            # It looks where the log ends, and waits.
            await asyncio.sleep(0)
            log.write(_line(1))
            await eventually(lambda: _shows(out, clock, _line(1)))

            log.write(_line(2))
            rotating.rotate_all(path.parent, max_bytes=MAX_BYTES)
            log.write(_line(3))

            await eventually(lambda: _shows(out, clock, _line(3)))
            following.cancel()

    assert out.getvalue().encode() == _line(1) + _line(2) + _line(3)


def _shows(out: io.StringIO, clock: FakeClock, line: bytes) -> bool:
    clock.advance(1.0)
    return out.getvalue().endswith(line.decode())
