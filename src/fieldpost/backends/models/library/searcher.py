"""Searching the full-text index: which passages hold enough of the words, and which of them are best."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from fieldpost.backends.models.library.query import is_relevant, match_expression
from fieldpost.messages.responses import Source
from fieldpost.ports.models import Passage

#: Candidates looked at before the best are chosen.
_CANDIDATES = 40
#: How much more a word counts in a heading than in the text.
_HEADING_WEIGHT = 4.0
#: Steps of SQLite's machine between two looks at whether anybody still waits.
_STEPS = 20_000

_SEARCH = """
SELECT p.id, p.heading, p.text, f.name, bm25(search, ?, 1.0) AS rank
FROM search JOIN passages p ON p.id = search.rowid JOIN files f ON f.id = p.file_id
WHERE search MATCH ? ORDER BY rank LIMIT ?
"""


class Searcher:
    """One connection that only reads, for one thread; the index is there already."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._connection.execute("PRAGMA query_only=ON")

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def search(self, words: list[str], *, limit: int, is_abandoned: Callable[[], bool]) -> Sequence[Passage]:
        """The best passages that hold enough of the words, best first; an abandoned search ends with an error."""
        if not words:
            return ()
        self._connection.set_progress_handler(is_abandoned, _STEPS)
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
