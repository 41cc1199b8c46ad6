"""The end of a part's log, and what is added to it."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from fieldpost.clock import Clock
from fieldpost.cluster import state
from fieldpost.cluster.rotating import older
from fieldpost.errors import ConfigError

_LOOK_SECONDS = 0.2
_MAX_BYTES = 4_194_304


def find(directory: Path, part: str) -> Path:
    """A part's log.

    Raises:
        ConfigError: it has none; names those that there are.
    """
    path = state.log_path(directory, part)
    logs = state.log_directory(directory)
    if not path.is_file() or path.parent.resolve() != logs.resolve():
        known = sorted(each.stem for each in logs.glob("*.log"))
        raise ConfigError(f"there is no log of {part}; there are {', '.join(known) or 'none'}")
    return path


def last(path: Path, lines: int) -> Sequence[str]:
    """The last lines, of the last few megabytes; also those that lie in the log before when this one has just begun."""
    found = _last(path, lines)
    before = older(path)
    if len(found) < lines and before.exists():
        found = [*_last(before, lines - len(found)), *found]
    return found


async def follow(path: Path, out: TextIO, *, clock: Clock) -> None:
    """Writes what is added from now on, without end; of a log that was cut short first the rest, then its beginning."""
    position = _size(path)
    while True:
        if _size(path) < position:
            out.write(_read(older(path), position).decode(errors="replace"))
            position = 0
        added = _read(path, position)
        position += len(added)
        out.write(added.decode(errors="replace"))
        out.flush()
        await clock.sleep(_LOOK_SECONDS)


def _last(path: Path, lines: int) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _MAX_BYTES))
        return [line.decode(errors="replace") for line in deque(file, maxlen=lines)]


def _read(path: Path, position: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(position)
            return file.read(_MAX_BYTES)
    except FileNotFoundError:
        return b""


def _size(path: Path) -> int:
    return path.stat().st_size
