"""The full-text index: passages of documents in SQLite FTS5, in a file of its own that can be made anew at any time."""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from fieldpost.backends.models.library.documents import Piece
from fieldpost.backends.models.library.query import is_relevant, match_expression
from fieldpost.messages.responses import Source
from fieldpost.ports.models import Passage

_VERSION = 1
#: Candidates looked at before the best are chosen.
_CANDIDATES = 40
#: How much more a word counts in a heading than in the text.
_HEADING_WEIGHT = 4.0

_SCHEMA = """
CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, size_bytes INTEGER, modified_ns INTEGER);
CREATE TABLE passages (id INTEGER PRIMARY KEY, file_id INTEGER NOT NULL REFERENCES files(id), heading TEXT, text TEXT);
CREATE INDEX passages_by_file ON passages (file_id);
CREATE VIRTUAL TABLE search USING fts5(heading, text, content='',
    tokenize="porter unicode61 remove_diacritics 2");
"""
_SEARCH = """
SELECT p.id, p.heading, p.text, f.name, bm25(search, ?, 1.0) AS rank
FROM search JOIN passages p ON p.id = search.rowid JOIN files f ON f.id = p.file_id
WHERE search MATCH ? ORDER BY rank LIMIT ?
"""


class FileVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What tells whether a file has changed."""

    size_bytes: int
    modified_ns: int


class Index:
    """One connection, for one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = self._open()

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def versions(self) -> dict[str, FileVersion]:
        """The files that are indexed, in the versions that are."""
        rows = self._connection.execute("SELECT name, size_bytes, modified_ns FROM files")
        return {name: FileVersion(size_bytes=size, modified_ns=modified) for name, size, modified in rows}

    def replace(self, name: str, version: FileVersion, pieces: Iterable[Piece]) -> None:
        """Takes a file in, instead of what it was before."""
        with self._connection:
            self._remove(name)
            file_id = self._connection.execute(
                "INSERT INTO files (name, size_bytes, modified_ns) VALUES (?, ?, ?)",
                (name, version.size_bytes, version.modified_ns),
            ).lastrowid
            for piece in pieces:
                row = self._connection.execute(
                    "INSERT INTO passages (file_id, heading, text) VALUES (?, ?, ?)",
                    (file_id, piece.heading, piece.text),
                ).lastrowid
                self._connection.execute(
                    "INSERT INTO search (rowid, heading, text) VALUES (?, ?, ?)",
                    (row, f"{Path(name).stem} {piece.heading}", piece.text),
                )

    def remove(self, name: str) -> None:
        """Forgets a file."""
        with self._connection:
            self._remove(name)

    def search(self, words: list[str], *, limit: int) -> Sequence[Passage]:
        """The best passages that hold enough of the words, best first."""
        if not words:
            return ()
        rows = self._connection.execute(_SEARCH, (_HEADING_WEIGHT, match_expression(words), _CANDIDATES)).fetchall()
        found = self._words_found(words, [row[0] for row in rows])
        relevant = [row for row in rows if is_relevant(found[row[0]], len(words))]
        # More of the words before a better rank: bm25 alone prefers one rare word, said often.
        relevant.sort(key=lambda row: (-found[row[0]], row[4]))
        return [
            Passage(text=text, source=Source(file=name, heading=heading))
            for _, heading, text, name, _ in relevant[:limit]
        ]

    def _words_found(self, words: list[str], ids: list[int]) -> dict[int, int]:
        found = dict.fromkeys(ids, 0)
        if not ids:
            return found
        places = ",".join("?" * len(ids))
        for word in words:
            rows = self._connection.execute(
                f"SELECT rowid FROM search WHERE search MATCH ? AND rowid IN ({places})",  # noqa: S608 only question marks
                (match_expression([word]), *ids),
            )
            for (row_id,) in rows:
                found[row_id] += 1
        return found

    def _remove(self, name: str) -> None:
        row = self._connection.execute("SELECT id FROM files WHERE name = ?", (name,)).fetchone()
        if row is None:
            return
        passages = self._connection.execute("SELECT id, heading, text FROM passages WHERE file_id = ?", row).fetchall()
        for passage_id, heading, text in passages:
            self._connection.execute(
                "INSERT INTO search (search, rowid, heading, text) VALUES ('delete', ?, ?, ?)",
                (passage_id, f"{Path(name).stem} {heading}", text),
            )
        self._connection.execute("DELETE FROM passages WHERE file_id = ?", row)
        self._connection.execute("DELETE FROM files WHERE id = ?", row)

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError:
            # Damaged or of another make: it holds nothing that the documents do not.
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("damaged")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                connection.executescript(_SCHEMA)
                connection.execute(f"PRAGMA user_version={_VERSION}")
            elif version != _VERSION:
                raise sqlite3.DatabaseError("of another version")
        except BaseException:
            connection.close()
            raise
        return connection
