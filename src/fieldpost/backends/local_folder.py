"""The folder door's storage in a local directory, also one that a sync client keeps in step with a cloud.

No symbolic link is followed: every step goes through a directory's descriptor, so that nothing can be swapped in between.
"""

import asyncio
import contextlib
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from fieldpost.errors import (
    BackendUnavailableError,
    DropChangedError,
    FieldpostError,
    RequestTooLargeError,
    StorageFullError,
)
from fieldpost.ports.folders import Drop

T = TypeVar("T")

_REQUESTS, _RESPONSES, _REJECTED, _DONE = "Requests", "Responses", "Rejected", "Done"
_ASIDE = ".fieldpost-"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK_BYTES = 2**16
#: Bytes of a file name on common file systems.
_MAX_NAME_BYTES = 255


class LocalFolders:
    """See `ports.folders.Folders`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        for name in (_REQUESTS, _RESPONSES, _REJECTED, _DONE):
            (root / name).mkdir(parents=True, exist_ok=True)

    async def scan(self, *, limit: int) -> Sequence[Drop]:
        """Takes files in turn from every device's folder."""
        return await _in_thread(lambda: self._scan(limit))

    async def read(self, drop: Drop, *, limit_bytes: int) -> bytes:
        """Reads through one descriptor, and looks at it before and after."""
        return await _in_thread(lambda: self._read(drop, limit_bytes))

    async def done(self, drop: Drop) -> bool:
        """Moves to `Done/`."""
        return await _in_thread(lambda: self._move(drop, _DONE)) is not None

    async def reject(self, drop: Drop, *, reason: bytes) -> bool:
        """Moves to `Rejected/`; the reason stands there first."""
        return await _in_thread(lambda: self._reject(drop, reason))

    async def deliver(self, device_id: int, name: str, content: bytes) -> None:
        """Written aside, flushed to the disk, renamed."""
        await _in_thread(lambda: self._deliver(device_id, name, content))

    async def changes(self) -> AsyncIterator[None]:
        """The kernel's hints."""
        from watchfiles import awatch

        async for _ in awatch(self._root / _REQUESTS, debounce=50, step=20, rust_timeout=5_000, yield_on_timeout=False):
            yield None

    def _scan(self, limit: int) -> list[Drop]:
        with _directory(self._root / _REQUESTS) as requests:
            names = sorted(filter(_is_device_id, os.listdir(requests)), key=int)  # noqa: PTH208 by descriptor
        lines = [self._drops(int(name), limit) for name in names]
        turns = (line[turn] for turn in range(max(map(len, lines), default=0)) for line in lines if turn < len(line))
        return list(islice(turns, limit))

    def _drops(self, device_id: int, limit: int) -> list[Drop]:
        try:
            with _directory(self._root / _REQUESTS / str(device_id)) as folder, os.scandir(folder) as entries:
                drops = [_drop(device_id, entry) for entry in islice(entries, 10 * limit)]
        except OSError:
            # A symbolic link, a file, or gone: not a device's folder.
            return []
        return sorted(filter(None, drops), key=lambda drop: (drop.modified_ns, drop.name))[:limit]

    def _read(self, drop: Drop, limit_bytes: int) -> bytes:
        with self._folder(_REQUESTS, drop.device_id) as folder:
            descriptor = os.open(drop.name, _FILE, dir_fd=folder)
        try:
            _check_version(drop, os.fstat(descriptor))
            if drop.size_bytes > limit_bytes:
                raise RequestTooLargeError(f"{drop.size_bytes} bytes; {limit_bytes} at most")
            pieces = iter(lambda: os.read(descriptor, _CHUNK_BYTES), b"")
            content = b"".join(islice(pieces, limit_bytes // _CHUNK_BYTES + 2))
            _check_version(drop, os.fstat(descriptor))
        finally:
            os.close(descriptor)
        if len(content) != drop.size_bytes:
            raise DropChangedError
        return content

    def _reject(self, drop: Drop, reason: bytes) -> bool:
        moved = self._move(drop, _REJECTED)
        if moved is None:
            return False
        self._write_whole(_REJECTED, drop.device_id, _shortened(moved, ".reason.json"), reason)
        return True

    def _move(self, drop: Drop, to: str) -> str | None:
        """The new name, or None when this very version is no longer there."""
        with self._folder(_REQUESTS, drop.device_id) as source, self._folder(to, drop.device_id, make=True) as target:
            try:
                _check_version(drop, os.stat(drop.name, dir_fd=source, follow_symlinks=False))
            except (DropChangedError, FileNotFoundError):
                return None
            name = _free_name(drop.name, target)
            os.rename(drop.name, name, src_dir_fd=source, dst_dir_fd=target)
            try:
                _check_version(drop, os.stat(name, dir_fd=target, follow_symlinks=False))
            except DropChangedError:
                # Another version slipped in: back, unless yet another has taken its place.
                with contextlib.suppress(FileExistsError):
                    os.link(name, drop.name, src_dir_fd=target, dst_dir_fd=source, follow_symlinks=False)
                    os.unlink(name, dir_fd=target)
                return None
            os.fsync(target)
            os.fsync(source)
            return name

    def _deliver(self, device_id: int, name: str, content: bytes) -> None:
        self._write_whole(_RESPONSES, device_id, name, content)

    def _write_whole(self, kind: str, device_id: int, name: str, content: bytes) -> None:
        aside = f"{_ASIDE}{_shortened(name, '')[:100]}.partial"
        with self._folder(kind, device_id, make=True) as folder:
            descriptor = os.open(
                aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder
            )
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(descriptor)
            except OSError:
                os.unlink(aside, dir_fd=folder)
                raise
            os.rename(aside, _shortened(name, ""), src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)

    @contextlib.contextmanager
    def _folder(self, kind: str, device_id: int, *, make: bool = False) -> Iterator[int]:
        with _directory(self._root / kind) as parent:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(str(device_id), dir_fd=parent)
            descriptor = os.open(str(device_id), _DIRECTORY, dir_fd=parent)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[int]:
    descriptor = os.open(path, _DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_device_id(name: str) -> bool:
    return name.isascii() and name.isdigit() and name[0] != "0" and len(name) <= 18


def _drop(device_id: int, entry: "os.DirEntry[str]") -> Drop | None:
    try:
        facts = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    return Drop(
        device_id=device_id,
        name=entry.name,
        size_bytes=facts.st_size,
        modified_ns=facts.st_mtime_ns,
        is_regular=stat.S_ISREG(facts.st_mode),
    )


def _check_version(drop: Drop, facts: os.stat_result) -> None:
    if (facts.st_size, facts.st_mtime_ns) != (drop.size_bytes, drop.modified_ns):
        raise DropChangedError
    if stat.S_ISREG(facts.st_mode) != drop.is_regular:
        raise DropChangedError


def _free_name(name: str, folder: int) -> str:
    stem, dot, ending = name.rpartition(".")
    stem, ending = (stem, dot + ending) if stem else (name, "")
    candidate, number = name, 1
    while _exists(candidate, folder):
        number += 1
        candidate = _shortened(stem, f" ({number}){ending}")
    return candidate


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _shortened(stem: str, ending: str) -> str:
    """The name, with the stem cut where the file system could not hold the whole."""
    room = _MAX_NAME_BYTES - len(os.fsencode(ending))
    return os.fsencode(stem)[:room].decode(errors="ignore") + ending


async def _in_thread(function: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(function)
    except FieldpostError:
        raise
    except OSError as error:
        raise _translate(error) from error


def _translate(error: OSError) -> FieldpostError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(error.strerror or "")
    if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
        return DropChangedError()
    return BackendUnavailableError(f"{error.strerror}: {error.filename}")
