"""Bounds logs that other processes hold open: a full one is copied aside and cut short, and they go on at its beginning.

They append, so that nothing has to be told to open its log anew. A line written between the copy's end and the cut is lost.
"""

import os
import shutil
from pathlib import Path

#: Of one part: the log that is written, and as many full ones as are kept, have this size each.
MAX_BYTES = 8_388_608
KEPT = 3


def older(path: Path, number: int = 1) -> Path:
    """An earlier part of a log; 1 is the last before what the log itself holds."""
    return path.with_name(f"{path.name}.{number}")


def rotate_all(directory: Path, *, max_bytes: int = MAX_BYTES) -> None:
    """Cuts every log of a directory that is full."""
    for path in directory.glob("*.log"):
        if path.stat().st_size > max_bytes:
            _rotate(path)


def _rotate(path: Path) -> None:
    copy = path.with_name(f"{path.name}.new")
    try:
        # Whole before anything else is touched: on a full disk nothing is lost, and it is tried again.
        with path.open("rb") as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, 1_048_576)
    except OSError:
        copy.unlink(missing_ok=True)
        raise
    for number in range(KEPT - 1, 0, -1):
        if older(path, number).exists():
            older(path, number).replace(older(path, number + 1))
    copy.replace(older(path))
    os.truncate(path, 0)
