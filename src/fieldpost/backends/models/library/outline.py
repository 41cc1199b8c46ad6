"""Passages as they grow under the headings above them. Pure."""

import re
from collections.abc import Iterator

import msgspec

#: Characters a passage grows to before the next paragraph begins another one.
_FULL_CHARACTERS = 900
#: A single paragraph is cut at this length.
_MAX_CHARACTERS = 2_000
#: What one document may say.
MAX_TEXT_CHARACTERS = 20_000_000
_MAX_HEADING_CHARACTERS = 200

_BLANK = re.compile(r"\n[ \t]*\n")


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One passage: the headings above it, joined by " › ", and its text."""

    heading: str
    text: str


class Outline:
    """One document, from its beginning to its end."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self._pieces: list[Piece] = []
        self._characters = 0

    def head(self, level: int, text: str) -> None:
        """What follows stands under this heading; level 1 is the highest."""
        above = self._path[: level - 1]
        missing = [""] * (level - 1 - len(above))
        self._path = [*above, *missing, text[:_MAX_HEADING_CHARACTERS]]

    def add(self, text: str) -> None:
        """Cuts a text at its blank lines.

        Raises:
            ValueError: the document says more than can be taken in.
        """
        self._characters += len(text)
        if self._characters > MAX_TEXT_CHARACTERS:
            raise ValueError(f"more than {MAX_TEXT_CHARACTERS} characters of text")
        heading = " › ".join(filter(None, self._path))
        self._pieces += (Piece(heading=heading, text=passage) for passage in _passages(text))

    def pieces(self) -> list[Piece]:
        """All passages so far, in their order."""
        return self._pieces


def _passages(text: str) -> Iterator[str]:
    current = ""
    for paragraph in _paragraphs(text):
        if current and len(current) + len(paragraph) > _FULL_CHARACTERS:
            yield current
            current = ""
        current = f"{current}\n\n{paragraph}" if current else paragraph
    if current:
        yield current


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in _BLANK.split(text):
        start = 0
        while start < len(paragraph):
            end = _end_of_part(paragraph, start)
            if part := paragraph[start:end].strip("\n").rstrip():
                yield part
            start = end


def _end_of_part(text: str, start: int) -> int:
    """Where a long paragraph is cut: after a line, else after a word, else anywhere."""
    limit = start + _MAX_CHARACTERS
    if len(text) <= limit:
        return len(text)
    for separator in ("\n", " "):
        end = text.rfind(separator, start + _MAX_CHARACTERS // 2, limit)
        if end > 0:
            return end + 1
    return limit
