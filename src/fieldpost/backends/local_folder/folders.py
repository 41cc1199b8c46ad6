"""The folders on a local file system: every call is a few short system calls in one of a few threads."""

import asyncio
import contextlib
import errno
import hashlib
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from cachetools import LRUCache

from fieldpost.backends.local_folder import directories, listing
from fieldpost.backends.local_folder.hints import Look, hints
from fieldpost.errors import (
    BackendUnavailableError,
    DropChangedError,
    RequestTooLargeError,
    StorageFullError,
)
from fieldpost.observability import get_logger
from fieldpost.policy.settling import free_names, reason_name
from fieldpost.ports.folders import Drop

T = TypeVar("T")

log = get_logger()

_REQUESTS, _RESPONSES, _REJECTED, _DONE = "Requests", "Responses", "Rejected", "Done"
_THREADS = 4
#: Network file systems may hang for good; a call that is given up may still take effect, and is safe to repeat.
_TIMEOUT_SECONDS = 60.0
#: Files whose content is remembered until they are moved; more than are ever in hand.
_MAX_REMEMBERED = 10_000


class LocalFolders:
    """See `ports.folders.Folders`.

    The root is made at the first use; if it goes away later, calls fail until it is back, so that nothing is
    written where a disk should be mounted.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="folders")
        self._preparing = threading.Lock()
        self._is_prepared = False
        self._is_watching_told = False
        self._listing = listing.Listing()
        self._look = Look(root / _REQUESTS)
        self._content_hashes: LRUCache[Drop, bytes] = LRUCache(_MAX_REMEMBERED)

    async def scan(self, *, limit: int) -> Sequence[Drop]:
        """See the port; takes files in turn from every device's folder, oldest first."""
        return await self._in_thread(lambda: self._scan(limit))

    async def read(self, drop: Drop, *, limit_bytes: int) -> bytes:
        """See the port."""
        content = await self._in_thread(lambda: self._read(drop, limit_bytes))
        self._content_hashes[drop] = hashlib.sha256(content).digest()
        return content

    async def done(self, drop: Drop) -> bool:
        """See the port; a version that was read is known by its content too."""
        content_hash = self._content_hashes.pop(drop, None)
        return await self._in_thread(lambda: self._move(drop, _DONE, content_hash=content_hash))

    async def reject(self, drop: Drop, *, reason: bytes) -> bool:
        """See the port; the reason stands there first."""
        self._content_hashes.pop(drop, None)
        return await self._in_thread(lambda: self._move(drop, _REJECTED, reason=reason))

    async def deliver(self, device_id: int, name: str, content: bytes) -> None:
        """See the port."""
        await self._in_thread(lambda: self._deliver(device_id, name, content))

    async def changes(self) -> AsyncIterator[None]:
        """See the port; ends when there is nothing to watch, or it cannot be watched: ask again later."""
        try:
            look = partial(self._in_thread, self._look)
            async with contextlib.aclosing(hints(self._root / _REQUESTS, look)) as changes:
                async for _ in changes:
                    yield None
        except BackendUnavailableError as error:
            if not self._is_watching_told:
                log.warning("watching_failed", error=error.detail)
            self._is_watching_told = True

    def _scan(self, limit: int) -> list[Drop]:
        with self._area(_REQUESTS) as requests:
            return self._listing.drops(requests, limit=limit)

    def _read(self, drop: Drop, limit_bytes: int) -> bytes:
        if not drop.is_regular:
            raise DropChangedError("not a regular file: it has no content to read")
        with self._area(_REQUESTS) as requests:
            try:
                with (
                    directories.opened(requests, str(drop.device_id)) as folder,
                    directories.opened_file(folder, drop.name) as descriptor,
                ):
                    return _read_version(descriptor, drop, limit_bytes)
            except OSError as error:
                if directories.is_gone(error):
                    raise DropChangedError from error
                raise

    def _move(self, drop: Drop, area: str, *, reason: bytes | None = None, content_hash: bytes | None = None) -> bool:
        with (
            self._area(_REQUESTS) as requests,
            self._area(area) as into,
            contextlib.ExitStack() as stack,
        ):
            try:
                source = stack.enter_context(directories.opened(requests, str(drop.device_id)))
            except OSError as error:
                if directories.is_gone(error):
                    return False
                raise
            if not _stands(source, drop.name, drop):
                return False
            target = stack.enter_context(directories.opened(into, str(drop.device_id), make=True))
            return _move_version(source, target, drop, reason, content_hash)

    def _deliver(self, device_id: int, name: str, content: bytes) -> None:
        with self._area(_RESPONSES) as responses:
            _clear_the_way(responses, str(device_id))
            with directories.opened(responses, str(device_id), make=True) as folder:
                # A directory cannot be replaced by a file: next to it, then.
                candidates = (each for each in free_names(name) if not directories.is_directory(folder, each))
                directories.write_whole(folder, next(candidates), content)

    @contextlib.contextmanager
    def _area(self, name: str) -> Iterator[int]:
        with directories.opened_root(self._root) as root, directories.opened(root, name, make=True) as area:
            yield area

    def _prepare(self) -> None:
        """Makes the folders, and clears away what an earlier process left unfinished."""
        with self._preparing:
            if self._is_prepared:
                return
            self._root.mkdir(parents=True, exist_ok=True)
            for name in (_REQUESTS, _RESPONSES, _REJECTED, _DONE):
                with self._area(name) as area:
                    if name in (_RESPONSES, _REJECTED):
                        listing.remove_temporary(area)
            self._is_prepared = True

    async def _in_thread(self, function: Callable[[], T]) -> T:
        def call() -> T:
            if not self._is_prepared:
                self._prepare()
            return function()

        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except TimeoutError as error:
            raise BackendUnavailableError(f"{self._root}: no answer within {_TIMEOUT_SECONDS:.0f} s") from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFullError(error.strerror or "") from error
            raise BackendUnavailableError(f"{self._root}: {error.strerror}: {error.filename!a}") from error


def _read_version(descriptor: int, drop: Drop, limit_bytes: int) -> bytes:
    """The content of an open file, which must be this version before and after."""
    if not _is_version(os.fstat(descriptor), drop):
        raise DropChangedError
    if drop.size_bytes > limit_bytes:
        raise RequestTooLargeError(f"{drop.size_bytes} bytes; {limit_bytes} at most")
    content = directories.read_all(descriptor, limit_bytes=limit_bytes)
    if not _is_version(os.fstat(descriptor), drop) or len(content) != drop.size_bytes:
        raise DropChangedError
    return content


def _is_version(facts: os.stat_result, drop: Drop) -> bool:
    version = (facts.st_size, facts.st_mtime_ns, stat.S_ISREG(facts.st_mode))
    return version == (drop.size_bytes, drop.modified_ns, drop.is_regular)


def _stands(directory: int, name: str, drop: Drop, content_hash: bytes | None = None) -> bool:
    """Whether this version stands under this name; with a hash, whether with this content."""
    facts = directories.look(directory, name)
    if facts is None or not _is_version(facts, drop):
        return False
    if content_hash is None or not drop.is_regular:
        return True
    with directories.opened_file(directory, name) as descriptor:
        content = directories.read_all(descriptor, limit_bytes=drop.size_bytes)
    return hashlib.sha256(content).digest() == content_hash


def _move_version(source: int, target: int, drop: Drop, reason: bytes | None, content_hash: bytes | None) -> bool:
    """Moves this version, with its reason beside it; another one that slipped in before the move goes back."""
    beside = _Reason(target, reason)
    try:
        name = directories.move(source, drop.name, target, drop.name, is_free=beside.take)
    except OSError as error:
        beside.remove()
        if directories.is_gone(error):
            return False
        raise
    if _stands(target, name, drop, content_hash):
        return True
    directories.move(target, name, source, drop.name)
    beside.remove()
    return False


class _Reason:
    """The file beside a rejected one; it is there first, so that nothing is ever rejected without a reason."""

    def __init__(self, folder: int, content: bytes | None) -> None:
        self._folder = folder
        self._content = content
        self._name: str | None = None

    def take(self, name: str) -> bool:
        """Writes the reason for a file of this name; False when that place is taken."""
        if self._content is None:
            return True
        self.remove()
        if directories.look(self._folder, reason_name(name)) is not None:
            return False
        self._name = reason_name(name)
        directories.write_whole(self._folder, self._name, self._content)
        return True

    def remove(self) -> None:
        """Takes it back."""
        if self._name is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._folder)
        self._name = None


def _clear_the_way(responses: int, name: str) -> None:
    """Puts aside what stands in a folder's place: one device's answers must not hold up everybody's."""
    if directories.look(responses, name) is None or directories.is_directory(responses, name):
        return
    aside = directories.move(responses, name, responses, name)
    log.warning("folder_put_aside", folder=name, name=aside)
