"""The secrets of a data directory: whole, on the disk, and the same for all that start at once."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fieldpost.errors import ConfigError
from fieldpost.wiring import keys


def _without_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)


def _with_hard_links(_: pytest.MonkeyPatch) -> None:
    return


_ON_FILE_SYSTEMS = pytest.mark.parametrize("file_system", [_with_hard_links, _without_hard_links])
FileSystem = Callable[[pytest.MonkeyPatch], None]


@_ON_FILE_SYSTEMS
def test_a_key_is_made_once_for_its_owner_alone_and_nothing_is_left_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_system: FileSystem
) -> None:
    file_system(monkeypatch)

    key = keys.operator_key(tmp_path)

    assert key.startswith("fpa_operator_")
    assert key == keys.operator_key(tmp_path)
    assert [tmp_path / "operator.key"] == list(tmp_path.iterdir())
    assert 0o600 == stat.S_IMODE((tmp_path / "operator.key").stat().st_mode)


@_ON_FILE_SYSTEMS
def test_a_key_and_its_name_are_on_the_disk_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_system: FileSystem
) -> None:
    file_system(monkeypatch)
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append("directory" if path == tmp_path else "file")
        if synced[-1] == "directory":
            assert (tmp_path / "operator.key").exists()

    monkeypatch.setattr(os, "fsync", note)

    keys.operator_key(tmp_path)

    assert "file" == synced[0]
    assert "directory" == synced[-1]


def test_all_that_start_at_once_have_the_first_ones_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def be_late(*paths: Path) -> None:
        (tmp_path / "operator.key").write_text("fpa_operator_first\n")
        link(*paths)

    monkeypatch.setattr(os, "link", be_late)

    assert "fpa_operator_first" == keys.operator_key(tmp_path)
    assert [tmp_path / "operator.key"] == list(tmp_path.iterdir())


def test_what_keeps_a_key_from_being_made_or_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "folder" / "operator.key").mkdir(parents=True)
    (tmp_path / "operator.key").write_bytes(b"\xff")

    for directory, said in (("nothing", "No such file"), ("folder", "Is a directory"), (".", "does not hold")):
        with pytest.raises(ConfigError, match=said):
            keys.operator_key(tmp_path / directory)
