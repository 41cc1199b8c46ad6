"""Directories held open by descriptor: names are resolved in them one by one, and no link is ever followed.

So no part of a path can be swapped for a link between a check and its use. Knows nothing of devices.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from fieldpost.backends.local_folder.renaming import rename
from fieldpost.policy.settling import free_names

#: Begins the names of files that are not finished.
TEMPORARY_PREFIX = ".fieldpost-"
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: Not blocking: opening a pipe would wait for a writer.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_MAKE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: What opening or moving says when something else, or nothing, stands there by now.
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO})
#: Taken names before this gives up.
_MAX_TRIES = 500
_CHUNK_BYTES = 2**16


def is_gone(error: OSError) -> bool:
    """Whether a file is no longer what it was a moment ago."""
    return error.errno in _GONE


@contextlib.contextmanager
def opened_root(path: Path) -> Iterator[int]:
    """The directory at a path that the operator has set; the one place where a link may stand."""
    descriptor = os.open(path, _OPEN_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def opened(parent: int, name: str, *, make: bool = False) -> Iterator[int]:
    """The directory of this name in `parent`, made if asked to; a link in its place is an OSError."""
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
            sync(parent)
    descriptor = os.open(name, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def opened_file(directory: int, name: str) -> Iterator[int]:
    """A file to read; a link in its place is an OSError, a pipe does not block."""
    descriptor = os.open(name, _OPEN_FILE, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def look(directory: int, name: str) -> os.stat_result | None:
    """What stands under this name, itself and not what it links to; None when nothing does."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def is_directory(directory: int, name: str) -> bool:
    """Whether a directory stands under this name, not a link to one."""
    facts = look(directory, name)
    return facts is not None and stat.S_ISDIR(facts.st_mode)


def read_all(descriptor: int, *, limit_bytes: int) -> bytes:
    """The file's content from where it stands, `limit_bytes` and one chunk at most."""
    pieces = iter(lambda: os.read(descriptor, _CHUNK_BYTES), b"")
    return b"".join(islice(pieces, limit_bytes // _CHUNK_BYTES + 1))


def write_whole(directory: int, name: str, content: bytes) -> None:
    """Writes a file that appears whole and is on disk on return; replaces a file of the same name."""
    temporary = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}.tmp"
    descriptor = os.open(temporary, _MAKE_FILE, 0o644, dir_fd=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    sync(directory)


def sync(directory: int) -> None:
    """Brings a directory's names to disk, where the file system can."""
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise


def move(source: int, name: str, target: int, wanted: str, *, is_free: Callable[[str], bool] = lambda _: True) -> str:
    """Moves something under `wanted`, or the first free name like it; overwrites nothing, returns the name.

    Args:
        is_free: what else a name has to be.
    """
    for candidate in islice(free_names(wanted), _MAX_TRIES):
        if look(target, candidate) is None and is_free(candidate):
            with contextlib.suppress(FileExistsError):
                rename(source, name, target, candidate)
                return candidate
    raise FileExistsError(errno.EEXIST, "no free name", wanted)
