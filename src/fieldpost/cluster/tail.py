"""The end of a part's log, and what is added to it."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from fieldpost.clock import Clock
from fieldpost.cluster import state
from fieldpost.errors import ConfigError

_LOOK_SECONDS = 0.2
_MAX_BYTES = 4_194_304


def find(directory: Path, part: str) -> Path:
    """A part's log.

    Raises:
        ConfigError: it has none; names those that there are.
    """
    path = state.log_path(directory, part)
    if not path.is_file() or path.parent.resolve() != (directory / "logs").resolve():
        known = sorted(each.stem for each in (directory / "logs").glob("*.log"))
        raise ConfigError(f"there is no log of {part}; there are {', '.join(known) or 'none'}")
    return path


def last(path: Path, lines: int) -> Sequence[str]:
    """The last lines, of the last few megabytes."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _MAX_BYTES))
        return [line.decode(errors="replace") for line in deque(file, maxlen=lines)]


async def follow(path: Path, out: TextIO, *, clock: Clock) -> None:
    """Writes what is added from now on, without end; a log that was cut short is read from its beginning."""
    position = _size(path)
    while True:
        added, position = _added(path, position)
        out.write(added.decode(errors="replace"))
        out.flush()
        await clock.sleep(_LOOK_SECONDS)


def _added(path: Path, position: int) -> tuple[bytes, int]:
    start = 0 if _size(path) < position else position
    with path.open("rb") as file:
        file.seek(start)
        added = file.read(_MAX_BYTES)
    return added, start + len(added)


def _size(path: Path) -> int:
    return path.stat().st_size
