"""The library's folder: which documents lie there, in which versions."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from fieldpost.backends.models.library.documents import SUFFIXES
from fieldpost.backends.models.library.index import FileVersion

#: Hidden; control characters; bytes that are not UTF-8.
_PASSED_OVER = re.compile(r"^\.|[\x00-\x1f\x7f\ud800-\udfff]")


def documents_in(folder: Path, *, limit: int) -> dict[str, FileVersion]:
    """The documents by their paths beneath the folder, at most `limit`; none when the folder is gone.

    Hidden files, links and names that cannot be written down are passed over.
    """
    found: dict[str, FileVersion] = {}
    for path in _files(folder):
        if len(found) == limit:
            break
        version = _version(path)
        if version is not None:
            found[path.relative_to(folder).as_posix()] = version
    return found


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if _is_taken(name))
        for name in sorted(names):
            path = Path(place) / name
            if _is_taken(name) and path.suffix.lower() in SUFFIXES and not path.is_symlink():
                yield path


def _is_taken(name: str) -> bool:
    return _PASSED_OVER.search(name) is None


def _version(path: Path) -> FileVersion | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return FileVersion(size_bytes=facts.st_size, modified_ns=facts.st_mtime_ns)
