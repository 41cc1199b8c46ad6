"""The full-text index: passages of documents in SQLite FTS5, in a file of its own that can be made anew at any time."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import msgspec

from fieldpost.backends.models.library.outline import Piece

_VERSION = 2

_SCHEMA = """
CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, size_bytes INTEGER, modified_ns INTEGER);
CREATE TABLE passages (id INTEGER PRIMARY KEY, file_id INTEGER NOT NULL REFERENCES files(id), heading TEXT, text TEXT);
CREATE INDEX passages_by_file ON passages (file_id);
CREATE VIRTUAL TABLE search USING fts5(heading, text, content='',
    tokenize="porter unicode61 remove_diacritics 2");
"""


class FileVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What tells whether a file has changed."""

    size_bytes: int
    modified_ns: int


class Index:
    """One connection that writes, for one thread; a file that is damaged or of another make is made anew."""

    def __init__(self, path: Path) -> None:
        try:
            self._connection = _open(path)
        except sqlite3.DatabaseError:
            remove_index(path)
            self._connection = _open(path)

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
                    (row, _titled(name, piece.heading), piece.text),
                )

    def remove(self, name: str) -> None:
        """Forgets a file."""
        with self._connection:
            self._remove(name)

    def _remove(self, name: str) -> None:
        row = self._connection.execute("SELECT id FROM files WHERE name = ?", (name,)).fetchone()
        if row is None:
            return
        passages = self._connection.execute("SELECT id, heading, text FROM passages WHERE file_id = ?", row)
        for passage_id, heading, text in passages.fetchall():
            # A table without content forgets only what it is told word for word.
            self._connection.execute(
                "INSERT INTO search (search, rowid, heading, text) VALUES ('delete', ?, ?, ?)",
                (passage_id, _titled(name, heading), text),
            )
        self._connection.execute("DELETE FROM passages WHERE file_id = ?", row)
        self._connection.execute("DELETE FROM files WHERE id = ?", row)


def remove_index(path: Path) -> None:
    """Deletes an index; it holds nothing that the documents do not."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _titled(name: str, heading: str) -> str:
    return f"{Path(name).stem} {heading}"


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
    elif version != _VERSION:
        raise sqlite3.DatabaseError("of another version")
