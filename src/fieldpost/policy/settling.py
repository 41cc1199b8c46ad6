"""The folder door's rules: which names are taken, when a file has settled, what the files beside it are called.

Pure: names, versions and times in, decisions out. What a file says is `drop_content`'s business.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

PlaceT = TypeVar("PlaceT", bound=Hashable)
VersionT = TypeVar("VersionT")

#: Bytes of a file name on the file systems and clouds in use.
MAX_NAME_BYTES = 255
#: Names that sync clients, editors and browsers use for what is not finished, or for themselves.
_SKIPPED = re.compile(
    r"""
      ^\.                               # hidden: .~lock.a.txt#, .syncthing.a.txt.tmp, .tmp.drivedownload, .DS_Store
    | ^~                                # Office: ~$letter.docx, ~WRL0001.tmp; Syncthing: ~syncthing~a.txt.tmp
    | ^(desktop\.ini|thumbs\.db|icon\r)$
    | ~$
    | \.(partial|part|tmp|temp|crdownload|download|filepart|swp|swx|lock|!sync|!ut)$
    | \.rclone_chunk\.                  # rclone's chunker
    """,
    re.VERBOSE | re.IGNORECASE,
)
#: Names that sync clients give to the loser of two concurrent changes: Syncthing, Dropbox, Nextcloud, ownCloud.
_CONFLICT = re.compile(r"\.sync-conflict-\d{8}-\d{6}|\(.*conflicted copy.*\)|_conflict-\d{8}-\d{6}", re.IGNORECASE)
#: Several endings of one name, `question.txt.answer.json`, are cut together; longer ones are part of the name.
_MAX_ENDING_BYTES = 32
#: An empty file is often only a file's beginning: it has to stand still for so many times as long.
_EMPTY_PATIENCE = 5


def is_skipped(name: str) -> bool:
    """Whether a file is somebody's unfinished or private business, to be left alone.

    >>> [is_skipped(name) for name in ("a.txt", "a.txt.partial", "~$a.docx", ".a.txt", "a.txt~")]
    [False, True, True, True, True]
    """
    return _SKIPPED.search(name) is not None


def is_conflict_copy(name: str) -> bool:
    """Whether a sync client made this file of two changes that met: a person has to look at it.

    >>> [is_conflict_copy(name) for name in ("a.txt", "a.sync-conflict-20260102-030405-ABCDEFG.txt")]
    [False, True]
    """
    return _CONFLICT.search(name) is not None


def answer_name(name: str) -> str:
    """The name of the answer to a dropped file.

    >>> answer_name("question.txt")
    'question.txt.answer.json'
    """
    return _with_ending(name, ".answer.json")


def reason_name(name: str) -> str:
    """The name of the file that says why a file was rejected.

    >>> reason_name("question.pdf")
    'question.pdf.reason.json'
    """
    return _with_ending(name, ".reason.json")


def numbered_name(name: str, number: int) -> str:
    """What a file is called where its name is taken.

    >>> numbered_name("question.txt", 2), numbered_name("question", 3)
    ('question (2).txt', 'question (3)')
    """
    stem, dot, ending = name.rpartition(".")
    if not stem or _size_bytes(ending) > _MAX_ENDING_BYTES:
        stem, dot, ending = name, "", ""
    return _with_ending(stem, f" ({number}){dot}{ending}")


def free_names(name: str) -> Iterator[str]:
    """Names to try one after the other, without end: the name itself, then numbers that grow ever faster."""
    yield name
    number = 2
    while True:
        yield numbered_name(name, number)
        number += 1 if number < 100 else number // 10


def drop_key(device_id: int, name: str, content_hash: str, modified_ns: int) -> str:
    """The idempotency key of a file that names none: the same file is the same request, also after a restart."""
    place = f"{device_id}/{name}:{content_hash}:{modified_ns}"
    return f"file:{hashlib.sha256(place.encode()).hexdigest()}"


class Settling(Generic[PlaceT, VersionT]):
    """Since when each file has stood still; remembers at most `max_places`, those seen last."""

    def __init__(self, *, settle_seconds: float, max_places: int) -> None:
        self._settle_seconds = settle_seconds
        self._max_places = max_places
        self._since: OrderedDict[PlaceT, tuple[VersionT, float]] = OrderedDict()

    def has_settled(
        self, place: PlaceT, version: VersionT, *, is_empty: bool, now_seconds: float, age_seconds: float = 0.0
    ) -> bool:
        """Notes that this version stands at this place now, and says whether it has done so for long enough.

        Args:
            now_seconds: on a clock that never goes back.
            age_seconds: for how long it is known to have stood still when it is seen for the first time.
        """
        known_version, since = self._since.get(place, (None, 0.0))
        if known_version != version:
            since = now_seconds - age_seconds
        self._since[place] = (version, since)
        self._since.move_to_end(place)
        if len(self._since) > self._max_places:
            self._since.popitem(last=False)
        return now_seconds - since >= self._settle_seconds * (_EMPTY_PATIENCE if is_empty else 1)


def _with_ending(name: str, ending: str) -> str:
    """The name with an ending; one that would be too long is cut and told apart by a hash."""
    room_bytes = MAX_NAME_BYTES - _size_bytes(ending)
    encoded = name.encode(errors="surrogateescape")
    if len(encoded) <= room_bytes:
        return name + ending
    mark = f"~{hashlib.sha256(encoded).hexdigest()[:8]}"
    return encoded[: room_bytes - len(mark)].decode(errors="ignore") + mark + ending


def _size_bytes(text: str) -> int:
    return len(text.encode(errors="surrogateescape"))
