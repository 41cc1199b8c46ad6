"""The library: a folder of documents, indexed as they change, searched by words; all of it on one thread of its own."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from fieldpost.backends.models.library.documents import SUFFIXES, Piece, pieces_of
from fieldpost.backends.models.library.index import FileVersion, Index
from fieldpost.backends.models.library.query import words_of
from fieldpost.errors import BackendUnavailableError
from fieldpost.observability import get_logger
from fieldpost.ports.models import Passage

T = TypeVar("T")

#: Larger documents are left out, and their names logged.
MAX_DOCUMENT_BYTES = 20 * 2**20
MAX_DOCUMENTS = 10_000

log = get_logger()


class DocumentLibrary:
    """See `ports.models.Library`."""

    def __init__(self, folder: Path, index_file: Path) -> None:
        self._folder = folder
        self._index_file = index_file
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="library")
        self._index: Index | None = None
        #: Files left out in their present version, so that each is told of once.
        self._left_out: dict[str, FileVersion] = {}

    async def __aenter__(self) -> "DocumentLibrary":
        self._index = await self._run(lambda: Index(self._index_file))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._index is not None:
            await self._run(self._index.close)
        self._thread.shutdown()

    async def search(self, text: str, *, limit: int) -> Sequence[Passage]:
        """The best passages for the words of a text."""
        words = words_of(text)
        return await self._run(lambda: self._opened().search(words, limit=limit))

    async def refresh(self) -> int:
        """Takes up what changed; broken documents are named in the log and left out."""
        return await self._run(self._refresh)

    def _refresh(self) -> int:
        index = self._opened()
        known = index.versions() | self._left_out
        present = dict(self._documents())
        for name in set(known) - set(present):
            index.remove(name)
            self._left_out.pop(name, None)
        changed = [name for name, version in present.items() if known.get(name) != version]
        for name in changed:
            pieces = self._read(name, present[name])
            if pieces is None:
                index.remove(name)
                self._left_out[name] = present[name]
            else:
                self._left_out.pop(name, None)
                index.replace(name, present[name], pieces)
        return len(changed) + len(set(known) - set(present))

    def _documents(self) -> Iterator[tuple[str, FileVersion]]:
        count = 0
        for folder, folders, names in os.walk(self._folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(folder) / name
                if name.startswith(".") or path.suffix.lower() not in SUFFIXES or path.is_symlink():
                    continue
                count += 1
                if count > MAX_DOCUMENTS:
                    log.warning("too_many_documents", limit=MAX_DOCUMENTS)
                    return
                try:
                    facts = path.stat()
                except OSError:
                    continue
                version = FileVersion(size_bytes=facts.st_size, modified_ns=facts.st_mtime_ns)
                yield path.relative_to(self._folder).as_posix(), version

    def _read(self, name: str, version: FileVersion) -> list[Piece] | None:
        if version.size_bytes > MAX_DOCUMENT_BYTES:
            log.warning("document_too_large", file=name, size_bytes=version.size_bytes)
            return None
        path = self._folder / name
        try:
            return pieces_of(path.suffix.lower(), path.read_bytes())
        except (OSError, ValueError) as error:
            log.warning("document_unreadable", file=name, error=str(error))
            return None

    def _opened(self) -> Index:
        if self._index is None:
            raise BackendUnavailableError("the library is not open")
        return self._index

    async def _run(self, function: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except sqlite3.DatabaseError as error:
            raise BackendUnavailableError(f"the library's index: {error}") from error
