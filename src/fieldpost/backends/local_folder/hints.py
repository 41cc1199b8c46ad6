"""Hints that something changed in `Requests/`, from the kernel. Some are missed, so whoever listens scans as well.

Each folder is watched by itself: watching recursively would follow symbolic links, to anywhere.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import islice
from pathlib import Path

from fieldpost.backends.local_folder.listing import is_device_id
from fieldpost.errors import BackendUnavailableError
from fieldpost.policy.settling import is_skipped

#: Folders watched at most; the kernel allows only so many, and files in others are found by scanning.
_MAX_WATCHED = 5000
_STEP_MILLISECONDS = 20
_DEBOUNCE_MILLISECONDS = 100
#: How often it is checked that what is watched is still what lies at the path.
_CHECK_MILLISECONDS = 2000
#: How watchfiles begins to say so; it has no error of its own for it.
_UNDECODABLE = "Unable to decode path"


async def hints(requests: Path) -> AsyncGenerator[None, None]:
    """Yields after files appeared or changed; ends when there is nothing to watch.

    Raises:
        BackendUnavailableError: the kernel watches no more.
    """
    while watched := _watched(requests):
        try:
            async with aclosing(_changes(requests, watched)) as changes:
                async for has_changes in changes:
                    if has_changes:
                        yield None
                    if _watched(requests) != watched:
                        break
        except (OSError, RuntimeError, ExceptionGroup) as error:
            if not _is_about_a_name(error):
                raise BackendUnavailableError(f"watching {requests} failed: {error!r}") from error
        # Something may have come before all this was watched, or with a name that ended the watching.
        yield None


async def _changes(requests: Path, watched: dict[str, int]) -> AsyncGenerator[bool, None]:
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


def _watched(requests: Path) -> dict[str, int]:
    """Inodes by name of the folders to watch, the parent's under the empty name; empty when there is none."""
    try:
        with os.scandir(requests) as entries:
            folders = (entry for entry in entries if is_device_id(entry.name) and entry.is_dir(follow_symlinks=False))
            return {"": requests.stat().st_ino} | {entry.name: entry.inode() for entry in islice(folders, _MAX_WATCHED)}
    except OSError:
        return {}
