"""Which dropped files are taken, when, and what their answers are called. Pure: times and names in, decisions out."""

import re
from enum import StrEnum

#: Names that sync clients and editors use while they are not done, or for themselves.
_SKIPPED = re.compile(
    r"""
      ^\.                            # hidden, and .~lock, .syncthing, .tmp.drivedownload
    | ^~                             # Office's owner files
    | ^(desktop\.ini|thumbs\.db|icon\r)$
    | \.(partial|part|tmp|temp|crdownload|download|swp|lock|filepart)$
    | \.[0-9a-f]{8}\.partial$        # rclone
    | \.rclone_chunk\.
    | \.sync-conflict-
    | ~$
    """,
    re.VERBOSE | re.IGNORECASE,
)


class DropKind(StrEnum):
    """How a file's content is read."""

    ENVELOPE = "envelope"
    PROMPT = "prompt"
    UNKNOWN = "unknown"


def is_skipped(name: str) -> bool:
    """Whether a file is somebody's unfinished or private business, to be left alone.

    >>> [is_skipped(name) for name in ("a.txt", "a.txt.partial", "~$a.docx", ".a.txt", "a.txt~")]
    [False, True, True, True, True]
    """
    return _SKIPPED.search(name) is not None


def kind_of(name: str) -> DropKind:
    """What a file is by its ending.

    >>> [kind_of(name).value for name in ("a.json", "b.TXT", "c.md", "d.pdf")]
    ['envelope', 'prompt', 'prompt', 'unknown']
    """
    ending = name.rpartition(".")[2].lower()
    if ending == "json":
        return DropKind.ENVELOPE
    return DropKind.PROMPT if ending in ("txt", "md") else DropKind.UNKNOWN


def answer_name(name: str) -> str:
    """The name of the answer to a dropped file.

    >>> answer_name("question.txt")
    'question.txt.answer.json'
    """
    return f"{name}.answer.json"


class Settling:
    """Since when each file has stood still; remembers only what the last look saw."""

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._since: dict[tuple[int, str], tuple[tuple[int, int], float]] = {}

    def look(self, seen: dict[tuple[int, str], tuple[int, int]], now: float) -> set[tuple[int, str]]:
        """Takes a look and returns which files have stood still long enough.

        Args:
            seen: by (device id, name): size in bytes and modification time in nanoseconds.
            now: seconds on a clock that never goes back.
        """
        since: dict[tuple[int, str], tuple[tuple[int, int], float]] = {}
        for place, version in seen.items():
            known = self._since.get(place)
            since[place] = known if known is not None and known[0] == version else (version, now)
        self._since = since
        return {place for place, (_, first) in since.items() if now - first >= self._settle_seconds}
