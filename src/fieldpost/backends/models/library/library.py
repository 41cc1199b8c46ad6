"""The library: a folder of documents, indexed as they change, searched by words.

Documents are read in a child process, indexed on one thread and searched on another: a search never waits for a document.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from fieldpost.backends.models.library.folder import documents_in
from fieldpost.backends.models.library.index import FileVersion, Index, remove_index
from fieldpost.backends.models.library.query import words_of
from fieldpost.backends.models.library.reader import DocumentReader
from fieldpost.backends.models.library.searcher import Searcher
from fieldpost.errors import BackendUnavailableError
from fieldpost.observability import get_logger
from fieldpost.ports.models import Passage

T = TypeVar("T")

log = get_logger()


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the library bears."""

    max_documents: int = 10_000
    #: Of the processor, for one document.
    read_seconds: float = 20.0
    #: How long a search waits for the first look through the folder before it makes do with what is indexed.
    patience_seconds: float = 10.0


_LIMITS = Limits()


class DocumentLibrary:
    """See `ports.models.Library`."""

    def __init__(self, folder: Path, index_file: Path, *, limits: Limits = _LIMITS) -> None:
        self._folder = folder
        self._index_file = index_file
        self._limits = limits
        self._indexing = ThreadPoolExecutor(1, thread_name_prefix="library-index")
        self._searching = ThreadPoolExecutor(1, thread_name_prefix="library-search")
        self._opened: tuple[Index, Searcher] | None = None
        self._is_damaged = False
        self._refreshing = asyncio.Lock()
        #: Set once the folder has been looked through: only then does finding nothing mean that there is nothing.
        self._is_current = asyncio.Event()
        #: Files left out in their present version, so that each is told of once.
        self._left_out: dict[str, FileVersion] = {}
        self._is_full = False

    async def __aenter__(self) -> "DocumentLibrary":
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()
        self._searching.shutdown()
        self._indexing.shutdown()

    async def search(self, text: str, *, limit: int) -> Sequence[Passage]:
        """The best passages for the words of a text. Cancel: safe, the search stops.

        Raises:
            BackendUnavailableError: the documents are not all read yet and nothing fits so far; the index is damaged.
        """
        await self._wait_until_current()
        words = words_of(text)
        _, searcher = self._parts()
        abandoned = threading.Event()
        try:
            passages = await self._run(
                self._searching, lambda: searcher.search(words, limit=limit, is_abandoned=abandoned.is_set)
            )
        finally:
            abandoned.set()
        if not passages and not self._is_current.is_set():
            raise BackendUnavailableError(
                "the documents are still being read", retry_after_seconds=self._limits.patience_seconds
            )
        return passages

    async def refresh(self) -> int:
        """Takes up what changed, small documents first; broken ones are named in the log and left out."""
        async with self._refreshing:
            if self._is_damaged:
                await self._make_anew()
            changed = await self._refresh()
            self._is_current.set()
        return changed

    async def _refresh(self) -> int:
        index, _ = self._parts()
        most = self._limits.max_documents
        present = await self._run(self._indexing, lambda: documents_in(self._folder, limit=most))
        self._tell_when_full(len(present) == most)
        known = await self._run(self._indexing, index.versions) | self._left_out
        gone = known.keys() - present.keys()
        for name in gone:
            await self._forget(index, name)
        changed = sorted((name for name in present if known.get(name) != present[name]), key=_size_in(present))
        async with DocumentReader(read_seconds=self._limits.read_seconds) as reader:
            for name in changed:
                await self._take(index, reader, name, present[name])
        return len(changed) + len(gone)

    async def _take(self, index: Index, reader: DocumentReader, name: str, version: FileVersion) -> None:
        reading = await reader.read(self._folder / name)
        if reading.version is None:
            log.warning("document_left_out", file=name, error=reading.error)
            await self._forget(index, name)
            self._left_out[name] = version
            return
        self._left_out.pop(name, None)
        read_version, pieces = reading.version, reading.pieces
        await self._run(self._indexing, lambda: index.replace(name, read_version, pieces))

    async def _forget(self, index: Index, name: str) -> None:
        self._left_out.pop(name, None)
        await self._run(self._indexing, lambda: index.remove(name))

    async def _wait_until_current(self) -> None:
        try:
            async with asyncio.timeout(self._limits.patience_seconds):
                await self._is_current.wait()
        except TimeoutError:
            log.info("library_not_current")

    def _tell_when_full(self, is_full: bool) -> None:
        if is_full and not self._is_full:
            log.warning("library_full", documents=self._limits.max_documents)
        self._is_full = is_full

    def _parts(self) -> tuple[Index, Searcher]:
        if self._opened is None:
            raise BackendUnavailableError("the library is not open")
        return self._opened

    async def _open(self) -> None:
        index = await self._run(self._indexing, lambda: Index(self._index_file))
        self._opened = index, await self._run(self._searching, lambda: Searcher(self._index_file))

    async def _close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await self._run(self._searching, opened[1].close)
            await self._run(self._indexing, opened[0].close)

    async def _make_anew(self) -> None:
        log.warning("library_index_damaged", file=str(self._index_file))
        self._is_current.clear()
        self._left_out.clear()
        await self._close()
        await self._run(self._indexing, lambda: remove_index(self._index_file))
        await self._open()
        self._is_damaged = False

    async def _run(self, thread: Executor, function: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, function)
        except sqlite3.DatabaseError as error:
            # Its kinds are for what passes: a full disk, a lock. The class itself is for what stays.
            self._is_damaged = self._is_damaged or type(error) is sqlite3.DatabaseError
            raise BackendUnavailableError(f"the library's index: {error}") from error


def _size_in(present: dict[str, FileVersion]) -> Callable[[str], int]:
    return lambda name: present[name].size_bytes
