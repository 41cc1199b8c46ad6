"""The secrets of a data directory: whole, on the disk, and the same for all that start at once."""

import errno
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fieldpost.backends.sqlite.opening import open_database
from fieldpost.errors import ConfigError
from fieldpost.messages.devices import DeviceKind
from fieldpost.ports.devices import DeviceDirectory
from fieldpost.wiring import keys
from tests.support.messages import at


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


# One pepper for one database


@pytest.fixture
async def devices(tmp_path: Path) -> AsyncIterator[DeviceDirectory]:
    async with open_database(tmp_path / "fieldpost.db") as embedded:
        yield embedded.devices


@pytest.fixture
def one(tmp_path: Path) -> Path:
    (tmp_path / "one").mkdir()
    return tmp_path / "one"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    (tmp_path / "other").mkdir()
    return tmp_path / "other"


async def _start(directory: Path, devices: DeviceDirectory) -> bytes:
    pepper = await keys.pepper(directory, devices)
    await keys.check_pepper(directory, pepper, devices)
    return pepper


async def test_a_machine_that_comes_later_makes_no_pepper_of_its_own_and_is_told_where_there_is_one(
    devices: DeviceDirectory, one: Path, other: Path
) -> None:
    pepper = await _start(one, devices)

    with pytest.raises(ConfigError, match=r"pepper\.key is missing.*copy it from another machine"):
        await keys.pepper(other, devices)

    assert [] == list(other.iterdir())
    (other / "pepper.key").write_bytes((one / "pepper.key").read_bytes())
    assert pepper == await _start(other, devices)


async def test_one_that_starts_beside_the_first_takes_the_pepper_that_is_made_while_it_asks(
    devices: DeviceDirectory, one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peppers: list[bytes] = []
    ask = type(devices).pepper_fingerprint

    async def started_meanwhile(directory: DeviceDirectory) -> bytes | None:
        monkeypatch.undo()
        peppers.append(await _start(one, devices))
        return await ask(directory)

    monkeypatch.setattr(type(devices), "pepper_fingerprint", started_meanwhile)

    own = await _start(one, devices)

    assert [own] == peppers


async def test_a_machine_with_another_pepper_is_refused(devices: DeviceDirectory, one: Path, other: Path) -> None:
    foreign = await keys.pepper(other, devices)
    pepper = await _start(one, devices)

    with pytest.raises(ConfigError, match=r"not the one that the devices' keys.*copy it from another machine"):
        await keys.check_pepper(other, foreign, devices)

    await keys.check_pepper(one, pepper, devices)


async def test_a_directory_from_before_peppers_were_noted_goes_on(
    devices: DeviceDirectory, one: Path, other: Path
) -> None:
    pepper = await keys.pepper(one, devices)
    await devices.add(kind=DeviceKind.TRUCK, name="Truck 1", key_hash=bytes(32), now=at(0))
    assert await devices.pepper_fingerprint() is None

    assert pepper == await _start(one, devices)

    with pytest.raises(ConfigError, match="is missing"):
        await keys.pepper(other, devices)


async def test_a_new_pepper_that_is_accepted_is_the_one_from_then_on(
    devices: DeviceDirectory, one: Path, other: Path
) -> None:
    pepper = await _start(one, devices)

    await keys.accept_pepper(other, devices)

    assert pepper != await _start(other, devices)
    with pytest.raises(ConfigError, match="not the one"):
        await _start(one, devices)


async def test_the_database_does_not_have_the_pepper_itself(devices: DeviceDirectory, one: Path) -> None:
    pepper = await _start(one, devices)

    fingerprint = await devices.pepper_fingerprint()

    assert fingerprint is not None
    assert pepper not in fingerprint
    assert fingerprint not in pepper
