"""What a text must be to pass any door; patterns, so that types and their JSON Schemas say it.

A NUL is refused everywhere: PostgreSQL's texts hold none. Source: PostgreSQL manual, "Character Types".
"""

from typing import Annotated

import msgspec

_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
#: Not only white space, and without NUL.
TEXT_PATTERN = r"^\s*[^\s\x00][^\x00]*$"
#: On one line, not only white space. In Python `$` matches before a last line's end too, which is none of a name.
NAME_PATTERN = rf"^[^{_CONTROLS}]*[^\s{_CONTROLS}][^{_CONTROLS}]*(?!\n)$"
NO_NUL_PATTERN = r"^[^\x00]*$"

#: How long a text may be is bounded by its body.
Text = Annotated[str, msgspec.Meta(min_length=1, pattern=TEXT_PATTERN)]

_WORDS = {
    TEXT_PATTERN: "that is not only white space, and without NUL characters",
    NAME_PATTERN: "on one line, not only white space, and without control characters",
    NO_NUL_PATTERN: "without NUL characters",
}


def in_words(message: str) -> str:
    """A message of msgspec's with words for these patterns."""
    for pattern, words in _WORDS.items():
        message = message.replace(f"matching regex {pattern!r}", words)
    return message
