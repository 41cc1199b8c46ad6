"""What a text must be to pass any door; patterns, so that types and their JSON Schemas say it.

A NUL is refused everywhere: PostgreSQL's texts hold none. Source: PostgreSQL manual, "Character Types".
"""

import re
from typing import Annotated

import msgspec

_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
#: Not only white space, and without NUL.
TEXT_PATTERN = r"^\s*[^\s\x00][^\x00]*$"
#: On one line, not only white space. In Python `$` matches before a last line's end too, which is none of a name.
NAME_PATTERN = rf"^[^{_CONTROLS}]*[^\s{_CONTROLS}][^{_CONTROLS}]*(?!\n)$"
NO_NUL_PATTERN = r"^[^\x00]*$"
SHARD_NAME_PATTERN = "^[a-z0-9_-]{1,40}$"

#: How long a text may be is bounded by its body.
Text = Annotated[str, msgspec.Meta(min_length=1, pattern=TEXT_PATTERN)]

_WORDS = {
    repr(TEXT_PATTERN): "that is not only white space, and without NUL characters",
    repr(NAME_PATTERN): "on one line, not only white space, and without control characters",
    repr(NO_NUL_PATTERN): "without NUL characters",
    repr(SHARD_NAME_PATTERN): "of 1 to 40 lower-case letters, digits, - and _",
}
_PATTERN = re.compile(r"matching regex ('[^']*')")
_CHOICE = re.compile(r"'\^\((\w+(?:\|\w+)*)\)\$'")
#: No more of what was sent is said again: the name of an unknown member may be as long as a body.
_SAID_CHARACTERS = 200


def in_words(message: str) -> str:
    """A message of msgspec's with words in the place of patterns, and not longer than somebody reads."""
    what, at, where = _PATTERN.sub(_allowed, message).rpartition(" - at `")
    return _shortened(what) + at + _shortened(where)


def _shortened(text: str) -> str:
    return text if len(text) <= _SAID_CHARACTERS else text[:_SAID_CHARACTERS] + "…"


def _allowed(said: re.Match[str]) -> str:
    choice = _CHOICE.fullmatch(said[1])
    if choice is not None:
        return "that is one of " + ", ".join(choice[1].split("|"))
    return _WORDS.get(said[1], "of another form")
