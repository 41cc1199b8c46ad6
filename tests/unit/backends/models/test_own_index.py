"""Every process has a place of its own for its index; the places of those that were killed do not pile up."""

import signal
import subprocess
import sys
from pathlib import Path

from fieldpost.backends.models.library.own_index import own_index

_HOLD = """
import sys
from pathlib import Path
from fieldpost.backends.models.library.own_index import own_index
with own_index(Path(sys.argv[1])) as index:
    index.write_bytes(b"an index")
    print(index, flush=True)
    sys.stdin.read()
"""


def _holder(directory: Path) -> tuple["subprocess.Popen[str]", Path]:
    """Another process with a place of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate(timeout=30)


def _places(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.is_dir()]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    killed, left = _holder(tmp_path / "indexes")
    living, held = _holder(tmp_path / "indexes")
    _end(killed)
    assert left.exists()

    with own_index(tmp_path / "indexes") as own:
        assert not left.parent.exists()
        assert held.read_bytes() == b"an index"
        assert sorted(_places(tmp_path / "indexes")) == sorted([held.parent, own.parent])
    _end(living)


def test_a_frozen_process_keeps_its_place(tmp_path: Path) -> None:
    frozen, held = _holder(tmp_path / "indexes")
    frozen.send_signal(signal.SIGSTOP)

    with own_index(tmp_path / "indexes"):
        assert held.exists()
    _end(frozen)


def test_who_ends_in_order_leaves_nothing(tmp_path: Path) -> None:
    with own_index(tmp_path / "indexes") as own:
        own.write_bytes(b"an index")

    assert _places(tmp_path / "indexes") == []


def test_what_never_got_a_lock_is_abandoned(tmp_path: Path) -> None:
    (tmp_path / "indexes" / "half").mkdir(parents=True)

    with own_index(tmp_path / "indexes") as own:
        assert _places(tmp_path / "indexes") == [own.parent]
