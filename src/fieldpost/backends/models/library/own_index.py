"""Where a process keeps an index of its own, beside others that read the same documents; those of the dead are removed.

Whose owner lives is told by a lock, which the kernel drops with its process, not by a process id: owners may be in
containers, each with numbers of its own.
"""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

_LOCK = "lock"


@contextlib.contextmanager
def own_index(directory: Path) -> Iterator[Path]:
    """A place for an index beneath `directory`; gone at the end, or at the next start of anybody after a kill."""
    directory.mkdir(mode=0o700, exist_ok=True)
    with contextlib.ExitStack() as stack:
        # One at a time: a place that has no lock yet would look abandoned.
        with (directory / _LOCK).open("ab") as beginning:
            fcntl.flock(beginning, fcntl.LOCK_EX)
            _remove_abandoned(directory)
            own = Path(mkdtemp(dir=directory))
            stack.callback(shutil.rmtree, own, ignore_errors=True)
            lock = stack.enter_context((own / _LOCK).open("ab"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield own / "library.db"


def _remove_abandoned(directory: Path) -> None:
    for place in directory.iterdir():
        if place.is_dir() and not _is_owned(place):
            shutil.rmtree(place, ignore_errors=True)


def _is_owned(place: Path) -> bool:
    try:
        with (place / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
