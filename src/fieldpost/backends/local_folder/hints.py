"""Hints that something changed in `Requests/`, from the kernel. Some are missed, so whoever listens scans as well.

Each folder is watched by itself: watching recursively would follow symbolic links, to anywhere.
"""

import errno
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from itertools import islice
from pathlib import Path

from fieldpost.backends.local_folder.listing import is_device_id
from fieldpost.errors import BackendUnavailableError
from fieldpost.policy.settling import is_skipped

#: Folders watched at most; the kernel allows only so many, and files in others are found by scanning.
_MAX_WATCHED = 5000
#: Names looked at for that, however many lie in `Requests/` that are no device's.
_MAX_ENTRIES = 20_000
_STEP_MILLISECONDS = 20
_DEBOUNCE_MILLISECONDS = 100
#: How often it is checked that what is watched is still what lies at the path.
_CHECK_MILLISECONDS = 2000
#: Inodes by name of the folders to watch, the parent's under the empty name; empty when there is none.
Watched = Mapping[str, int]
#: How watchfiles begins to say so; it has no error of its own for it.
_UNDECODABLE = "Unable to decode path"


async def hints(requests: Path, look: Callable[[], Awaitable[Watched]]) -> AsyncGenerator[None, None]:
    """Yields after files appeared or changed; ends when there is nothing to watch.

    Args:
        look: what is to be watched now, looked up beside the event loop and in limited time.

    Raises:
        BackendUnavailableError: the kernel watches no more, or the file system does not answer.
    """
    while watched := await look():
        try:
            async with aclosing(_changes(requests, watched)) as changes:
                async for has_changes in changes:
                    if has_changes:
                        yield None
                    if await look() != watched:
                        break
        except (OSError, RuntimeError, ExceptionGroup) as error:
            if not _is_about_a_name(error):
                raise BackendUnavailableError(f"watching {requests} failed: {error!r}") from error
        # Something may have come before all this was watched, or with a name that ended the watching.
        yield None


async def _changes(requests: Path, watched: Watched) -> AsyncGenerator[bool, None]:
    from watchfiles import Change, awatch

    def is_news(change: Change, path: str) -> bool:
        return change is not Change.deleted and not is_skipped(Path(path).name)

    async for changes in awatch(
        requests,
        *(requests / name for name in watched if name),
        watch_filter=is_news,
        debounce=_DEBOUNCE_MILLISECONDS,
        step=_STEP_MILLISECONDS,
        rust_timeout=_CHECK_MILLISECONDS,
        yield_on_timeout=True,
        recursive=False,
    ):
        yield bool(changes)


def _is_about_a_name(error: Exception) -> bool:
    """Whether watching ended only because of names that are not UTF-8, which the watcher cannot tell."""
    if isinstance(error, ExceptionGroup):
        return all(map(_is_about_a_name, error.exceptions))
    return isinstance(error, RuntimeError) and str(error).startswith(_UNDECODABLE)


class Look:
    """Looks for what is to be watched, one look at a time."""

    def __init__(self, requests: Path) -> None:
        self._requests = requests
        self._looking = threading.Lock()

    def __call__(self) -> Watched:
        # One that was given up may hang for good: more of them would take all threads.
        if not self._looking.acquire(blocking=False):
            raise OSError(errno.EBUSY, "an earlier look at the folders has not ended", self._requests)
        try:
            return self._watched()
        except OSError:
            return {}
        finally:
            self._looking.release()

    def _watched(self) -> Watched:
        with os.scandir(self._requests) as entries:
            looked_at = islice(entries, _MAX_ENTRIES)
            folders = (entry for entry in looked_at if is_device_id(entry.name) and entry.is_dir(follow_symlinks=False))
            inodes = {entry.name: entry.inode() for entry in islice(folders, _MAX_WATCHED)}
        return {"": self._requests.stat().st_ino} | inodes
