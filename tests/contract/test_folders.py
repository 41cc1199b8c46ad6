"""What all folders promise; see fieldpost.ports.folders."""

import asyncio
import json
import os
import socket
import stat
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from fieldpost.backends.local_folder import LocalFolders, directories, hints, walking
from fieldpost.errors import BackendUnavailableError, DropChangedError, RequestTooLargeError
from fieldpost.ports.folders import Drop
from tests.support.waiting import eventually

LIMIT_BYTES = 2**20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "Cloud"


@pytest.fixture
def folders(root: Path) -> LocalFolders:
    return LocalFolders(root)


def _put(root: Path, device: int | str, name: str, content: bytes = b"How long may I drive?") -> Path:
    path = root / "Requests" / str(device) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


async def _scan(folders: LocalFolders, *, limit: int = 100) -> Sequence[Drop]:
    async with asyncio.timeout(30):
        return await folders.scan(limit=limit)


async def _only(folders: LocalFolders) -> Drop:
    (drop,) = await _scan(folders)
    return drop


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []


async def test_a_dropped_file_is_seen_and_read(root: Path, folders: LocalFolders) -> None:
    path = _put(root, 17, "question.txt", b"Why?")

    drop = await _only(folders)

    assert (17, "question.txt", 4, True) == (drop.device_id, drop.name, drop.size_bytes, drop.is_regular)
    assert path.stat().st_mtime_ns == drop.modified_ns
    assert b"Why?" == await folders.read(drop, limit_bytes=LIMIT_BYTES)


async def test_an_empty_place_is_empty_and_has_its_folders(root: Path, folders: LocalFolders) -> None:
    assert [] == list(await _scan(folders))
    assert ["Done", "Rejected", "Requests", "Responses"] == _names(root)


@pytest.mark.parametrize("folder", ["007", "0", "-1", "+7", "1.0", "x", "１７", "9223372036854775808", "1 ", " 1"])
async def test_only_a_device_id_in_its_one_spelling_is_a_devices_folder(
    root: Path, folders: LocalFolders, folder: str
) -> None:
    _put(root, folder, "question.txt")

    assert [] == list(await _scan(folders))


@pytest.mark.parametrize("name", [".hidden.txt", "~$a.txt", "a.txt.partial", "a.tmp", "desktop.ini", "a.crdownload"])
async def test_what_belongs_to_sync_clients_is_not_seen(root: Path, folders: LocalFolders, name: str) -> None:
    _put(root, 17, name)

    assert [] == list(await _scan(folders))


async def test_a_linked_device_folder_is_not_followed(root: Path, folders: LocalFolders, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.txt").write_text("secret")
    (root / "Requests").mkdir(parents=True)
    (root / "Requests" / "17").symlink_to(tmp_path / "elsewhere")
    drop = Drop(device_id=17, name="secret.txt", size_bytes=6, modified_ns=0)

    assert [] == list(await _scan(folders))
    with pytest.raises(DropChangedError):
        await folders.read(drop, limit_bytes=LIMIT_BYTES)
    assert not await folders.done(drop)
    assert (tmp_path / "elsewhere" / "secret.txt").exists()


async def test_answers_are_not_written_through_a_link_which_is_put_aside(
    root: Path, folders: LocalFolders, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / "Responses").mkdir(parents=True)
    (root / "Responses" / "17").symlink_to(tmp_path / "elsewhere")

    await folders.deliver(17, "answer.json", b"{}")

    assert [] == _names(tmp_path / "elsewhere")
    assert ["answer.json"] == _names(root / "Responses" / "17")
    assert (root / "Responses" / "17 (2)").is_symlink()


async def test_what_is_not_a_regular_file_is_told_apart_never_read_and_can_be_rejected(
    root: Path, folders: LocalFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    folder = _put(root, 17, "a.txt").parent
    (folder / "link.txt").symlink_to(secret)
    (folder / "dangling.txt").symlink_to(tmp_path / "nothing")
    (folder / "folder.txt").mkdir()
    (folder / "folder.txt" / "inside.txt").write_text("kept")
    os.mkfifo(folder / "pipe.txt")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.txt")
    odd = {"dangling.txt", "folder.txt", "link.txt", "pipe.txt", "socket.txt"}

    drops = {drop.name: drop for drop in await _scan(folders)}

    assert odd == {name for name, drop in drops.items() if not drop.is_regular}
    for name in odd:
        with pytest.raises(DropChangedError):
            await folders.read(drops[name], limit_bytes=LIMIT_BYTES)
        assert await folders.reject(drops[name], reason=b'{"title":"no"}')
    assert ["a.txt"] == _names(folder)
    rejected = root / "Rejected" / "17"
    assert sorted([*odd, *(f"{name}.reason.json" for name in odd)]) == _names(rejected)
    assert (rejected / "link.txt").is_symlink()
    assert stat.S_ISFIFO((rejected / "pipe.txt").lstat().st_mode)
    assert "kept" == (rejected / "folder.txt" / "inside.txt").read_text()
    assert "secret" == secret.read_text()


async def test_a_huge_file_is_refused_unread(root: Path, folders: LocalFolders) -> None:
    path = _put(root, 17, "huge.txt", b"")
    os.truncate(path, 10**9)
    drop = await _only(folders)

    with pytest.raises(RequestTooLargeError):
        await folders.read(drop, limit_bytes=LIMIT_BYTES)
    assert await folders.reject(drop, reason=b"{}")
    assert 10**9 == (root / "Rejected" / "17" / "huge.txt").stat().st_size


async def test_a_file_of_exactly_the_limit_is_read(root: Path, folders: LocalFolders) -> None:
    _put(root, 17, "large.txt", b"x" * LIMIT_BYTES)

    assert LIMIT_BYTES == len(await folders.read(await _only(folders), limit_bytes=LIMIT_BYTES))


async def test_another_version_is_neither_read_nor_moved(root: Path, folders: LocalFolders) -> None:
    path = _put(root, 17, "question.txt", b"first")
    drop = await _only(folders)
    path.write_bytes(b"second version")

    with pytest.raises(DropChangedError):
        await folders.read(drop, limit_bytes=LIMIT_BYTES)
    assert not await folders.done(drop)
    assert not await folders.reject(drop, reason=b"{}")
    assert b"second version" == path.read_bytes()
    assert [] == _names(root / "Done" / "17") + _names(root / "Rejected" / "17")


async def test_a_swap_by_another_file_of_the_same_size_and_time_is_noticed_by_its_content(
    root: Path, folders: LocalFolders
) -> None:
    path = _put(root, 17, "question.txt", b"first")
    drop = await _only(folders)
    await folders.read(drop, limit_bytes=LIMIT_BYTES)
    other = path.with_name("aside.tmp")
    other.write_bytes(b"other")
    os.utime(other, ns=(drop.modified_ns, drop.modified_ns))
    other.rename(path)

    assert not await folders.done(drop)
    assert b"other" == path.read_bytes()
    assert [] == _names(root / "Done" / "17")


async def test_a_file_swapped_for_a_link_is_not_read(root: Path, folders: LocalFolders, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("How long may I drive?")
    path = _put(root, 17, "question.txt")
    drop = await _only(folders)
    path.unlink()
    path.symlink_to(tmp_path / "secret.txt")

    with pytest.raises(DropChangedError):
        await folders.read(drop, limit_bytes=LIMIT_BYTES)
    assert not await folders.done(drop)


async def test_what_is_gone_is_gone(root: Path, folders: LocalFolders) -> None:
    path = _put(root, 17, "question.txt")
    drop = await _only(folders)
    path.unlink()

    with pytest.raises(DropChangedError):
        await folders.read(drop, limit_bytes=LIMIT_BYTES)
    assert not await folders.done(drop)
    path.parent.rmdir()
    with pytest.raises(DropChangedError):
        await folders.read(drop, limit_bytes=LIMIT_BYTES)
    assert not await folders.reject(drop, reason=b"{}")


async def test_moved_files_take_free_names_and_overwrite_nothing(root: Path, folders: LocalFolders) -> None:
    for content in (b"one", b"two two", b"three three"):
        _put(root, 17, "question.txt", content)
        assert await folders.done(await _only(folders))

    done = root / "Done" / "17"
    contents = {name: (done / name).read_bytes() for name in _names(done)}
    assert {"question.txt": b"one", "question (2).txt": b"two two", "question (3).txt": b"three three"} == contents


async def test_every_rejected_file_keeps_its_own_reason(root: Path, folders: LocalFolders) -> None:
    for number in range(3):
        _put(root, 17, "question.pdf", b"x" * number)
        assert await folders.reject(await _only(folders), reason=json.dumps({"number": number}).encode())

    rejected = root / "Rejected" / "17"
    for number, name in enumerate(["question.pdf", "question (2).pdf", "question (3).pdf"]):
        assert number == (rejected / name).stat().st_size
        assert {"number": number} == json.loads((rejected / f"{name}.reason.json").read_bytes())


async def test_a_rejected_file_that_is_called_like_a_reason_is_not_overwritten(
    root: Path, folders: LocalFolders
) -> None:
    _put(root, 17, "a.pdf.reason.json", b"mine")
    assert await folders.reject(await _only(folders), reason=b"first")
    _put(root, 17, "a.pdf", b"pdf")
    assert await folders.reject(await _only(folders), reason=b"second")

    rejected = root / "Rejected" / "17"
    assert b"mine" == (rejected / "a.pdf.reason.json").read_bytes()
    assert b"pdf" == (rejected / "a (2).pdf").read_bytes()
    assert b"second" == (rejected / "a (2).pdf.reason.json").read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "Wie lange?.txt",
        "質問.txt",
        "👩‍🚀 question.txt",
        "cafe\u0301.txt",
        "a\nb.txt",
        "-rf.txt",
        "%2e%2e.txt",
        "a\\b.txt",
    ],
)
async def test_odd_names_are_kept_as_they_are(root: Path, folders: LocalFolders, name: str) -> None:
    _put(root, 17, name)

    drop = await _only(folders)

    assert name == drop.name
    await folders.read(drop, limit_bytes=LIMIT_BYTES)
    assert await folders.done(drop)
    assert [name] == _names(root / "Done" / "17")


@pytest.mark.parametrize("letter", ["x", "質", "👩"])
async def test_the_longest_names_can_be_moved_rejected_and_numbered(
    root: Path, folders: LocalFolders, letter: str
) -> None:
    name = letter * (251 // len(letter.encode())) + ".txt"
    for _ in range(2):
        _put(root, 17, name)
        assert await folders.done(await _only(folders))
        _put(root, 17, name)
        assert await folders.reject(await _only(folders), reason=b"{}")

    assert 2 == len(_names(root / "Done" / "17"))
    assert 4 == len(_names(root / "Rejected" / "17"))
    assert all(entry.suffix in (".txt", ".json") for entry in (root / "Rejected" / "17").iterdir())


async def test_a_name_that_is_not_utf8_can_be_read_and_moved(root: Path, folders: LocalFolders) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    _put(root, 17, name)

    drop = await _only(folders)

    assert name == drop.name
    await folders.read(drop, limit_bytes=LIMIT_BYTES)
    assert await folders.reject(drop, reason=b"{}")
    assert name in _names(root / "Rejected" / "17")


async def test_an_answer_appears_whole_and_replaces_one_of_the_same_name(root: Path, folders: LocalFolders) -> None:
    await folders.deliver(17, "question.txt.answer.json", b'{"first": 1}')
    await folders.deliver(17, "question.txt.answer.json", b'{"second": 2}')

    responses = root / "Responses" / "17"
    assert ["question.txt.answer.json"] == _names(responses)
    assert b'{"second": 2}' == (responses / "question.txt.answer.json").read_bytes()


async def test_answers_written_at_once_are_each_whole(root: Path, folders: LocalFolders) -> None:
    contents = [bytes([65 + number]) * 100_000 for number in range(20)]

    await asyncio.gather(*(folders.deliver(17, "answer.json", content) for content in contents))

    responses = root / "Responses" / "17"
    assert ["answer.json"] == _names(responses)
    assert (responses / "answer.json").read_bytes() in contents


async def test_a_folder_in_the_way_of_an_answer_does_not_stop_it(root: Path, folders: LocalFolders) -> None:
    (root / "Responses" / "17" / "answer.json").mkdir(parents=True)

    await folders.deliver(17, "answer.json", b"{}")

    assert b"{}" == (root / "Responses" / "17" / "answer (2).json").read_bytes()


async def test_unfinished_files_of_an_earlier_process_are_cleared_away(root: Path, folders: LocalFolders) -> None:
    await folders.deliver(17, "answer.json", b"{}")
    (root / "Responses" / "17" / ".fieldpost-0123456789abcdef.tmp").write_text("half")

    await _scan(LocalFolders(root))

    assert ["answer.json"] == _names(root / "Responses" / "17")


async def test_every_device_gets_its_turn_however_much_another_drops(root: Path, folders: LocalFolders) -> None:
    for number in range(200):
        _put(root, 1, f"{number}.txt")
    for device in (2, 3):
        _put(root, device, "question.txt")

    drops = await _scan(folders, limit=20)

    assert 20 == len(drops)
    assert [1, 2, 3] == [drop.device_id for drop in drops[:3]]
    assert {1, 2, 3} == {drop.device_id for drop in drops}


async def test_with_more_devices_than_the_limit_all_of_them_get_a_turn_in_the_end(
    root: Path, folders: LocalFolders
) -> None:
    for device in range(1, 11):
        for number in range(5):
            _put(root, device, f"{number}.txt")

    looks = [await _scan(folders, limit=4) for _ in range(5)]

    assert all(len(look) == 4 for look in looks)
    assert set(range(1, 11)) == {drop.device_id for look in looks for drop in look}


async def test_a_devices_oldest_files_come_first(root: Path, folders: LocalFolders) -> None:
    for name, seconds in (("c.txt", 10), ("a.txt", 30), ("b.txt", 20)):
        os.utime(_put(root, 17, name), (seconds, seconds))

    assert ["c.txt", "b.txt", "a.txt"] == [drop.name for drop in await _scan(folders)]


async def test_the_oldest_of_more_files_than_the_limit_are_seen(root: Path, folders: LocalFolders) -> None:
    for number in range(200):
        os.utime(_put(root, 17, f"{number:03}.txt"), (1000 - number, 1000 - number))

    assert [f"{number:03}.txt" for number in range(199, 179, -1)] == [
        drop.name for drop in await _scan(folders, limit=20)
    ]


async def test_the_oldest_of_a_large_folder_come_first_and_no_look_costs_more_than_it_may(
    root: Path, folders: LocalFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names against times: the oldest are told of before all others, until none is left."""
    _small_steps(monkeypatch)
    for number in range(500):
        os.utime(_put(root, 17, f"{number:03}.txt", b""), (1000 - number, 1000 - number))
    looks = _count_looks(monkeypatch)

    told: list[str] = []
    while len(told) < 500:
        looks.clear()
        drops = await _scan(folders, limit=20)
        assert len(looks) <= 250
        for drop in drops:
            told.append(drop.name)
            assert await folders.done(drop)
    assert [f"{number:03}.txt" for number in range(499, -1, -1)] == told


async def test_a_large_folder_delays_no_file_of_others(
    root: Path, folders: LocalFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    _small_steps(monkeypatch)
    for number in range(500):
        _put(root, 1, f"{number:03}.txt", b"")
        _put(root, 2, f"{number:03}.txt", b"")
    _put(root, 3, "question.txt")

    assert ["question.txt"] == [drop.name for drop in await _scan(folders, limit=20)]
    for _ in range(50):
        seen = await _scan(folders, limit=20)
        assert 3 in {drop.device_id for drop in seen}
        if {1, 2, 3} == {drop.device_id for drop in seen}:
            break
    assert {1, 2, 3} == {drop.device_id for drop in seen}
    _put(root, 4, "new.txt")
    assert {1, 2, 3, 4} == {drop.device_id for drop in await _scan(folders, limit=20)}


async def test_a_new_file_in_a_large_folder_that_stays_large_is_seen_in_the_end(
    root: Path, folders: LocalFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    _small_steps(monkeypatch)
    for number in range(500):
        _put(root, 1, f"{number:03}.txt", b"")
    while not await _scan(folders, limit=20):
        pass
    os.utime(_put(root, 1, "oldest.txt"), (1, 1))

    names = [[drop.name for drop in await _scan(folders, limit=20)] for _ in range(100)]

    assert "oldest.txt" == names[-1][0]


async def test_a_large_folder_of_names_that_are_skipped_ends_with_the_file_among_them(
    root: Path, folders: LocalFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    _small_steps(monkeypatch)
    for number in range(500):
        _put(root, 1, f"{number:03}.tmp", b"")
    _put(root, 1, "question.txt")

    seen = [drop.name for _ in range(20) for drop in await _scan(folders, limit=20)]

    assert {"question.txt"} == set(seen)


async def test_large_folders_that_go_away_while_they_are_looked_through_are_forgotten(
    root: Path, folders: LocalFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    _small_steps(monkeypatch)
    for number in range(500):
        _put(root, 1, f"{number:03}.txt", b"")
    assert [] == list(await _scan(folders, limit=20))
    (root / "Requests" / "1").rename(root / "Aside")
    _put(root, 2, "question.txt")

    assert [2] == [drop.device_id for drop in await _scan(folders, limit=20)]
    (root / "Aside").rename(root / "Requests" / "1")
    while 1 not in {drop.device_id for drop in await _scan(folders, limit=20)}:
        pass


def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of more than 50 files is a large one."""
    monkeypatch.setattr(walking, "_ALL_ENTRIES", 150)
    monkeypatch.setattr(walking, "_FOLDER_ENTRIES", 50)
    monkeypatch.setattr(walking, "_STEP_ENTRIES", 30)
    monkeypatch.setattr(walking, "_KEPT", 100)


def _count_looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    looks: list[str] = []
    look = directories.look

    def counted(directory: int, name: str) -> os.stat_result | None:
        looks.append(name)
        return look(directory, name)

    monkeypatch.setattr(directories, "look", counted)
    return looks


async def test_files_that_are_skipped_take_nobodys_place(root: Path, folders: LocalFolders) -> None:
    for number in range(50):
        _put(root, 17, f"{number}.tmp")
    _put(root, 17, "question.txt")

    assert ["question.txt"] == [drop.name for drop in await _scan(folders, limit=1)]


async def test_with_the_root_gone_calls_fail_until_it_is_back(root: Path, folders: LocalFolders) -> None:
    await _scan(folders)
    aside = root.rename(root.with_name("Aside"))

    with pytest.raises(BackendUnavailableError):
        await _scan(folders)
    with pytest.raises(BackendUnavailableError):
        await folders.deliver(17, "answer.json", b"{}")
    aside.rename(root)
    assert [] == list(await _scan(folders))


async def test_a_file_where_a_folder_should_be_is_unavailable(root: Path) -> None:
    root.write_text("not a folder")

    with pytest.raises(BackendUnavailableError):
        await _scan(LocalFolders(root))


async def test_while_writers_rewrite_and_replace_nothing_torn_is_read_and_no_version_is_lost(
    root: Path, folders: LocalFolders
) -> None:
    """Writers put versions in place by renaming; whatever was done is what was read, the last version never vanishes."""
    path = _put(root, 17, "question.txt", b"0" * 1000)
    stopping = threading.Event()
    last = b""

    def write() -> None:
        nonlocal last
        number = 0
        while not stopping.is_set():
            number += 1
            last = b"%d" % (number % 10) * 1000 + b"%d" % number
            aside = path.with_name("aside.tmp")
            aside.write_bytes(last)
            aside.rename(path)

    writer = threading.Thread(target=write)
    writer.start()
    taken: list[bytes] = []
    try:
        async with asyncio.timeout(60):
            while len(taken) < 20:
                for drop in await folders.scan(limit=10):
                    try:
                        content = await folders.read(drop, limit_bytes=LIMIT_BYTES)
                    except DropChangedError:
                        continue
                    assert content[:1] * 1000 == content[:1000]
                    if await folders.done(drop):
                        taken.append(content)
    finally:
        stopping.set()
        writer.join()

    done = {entry.read_bytes() for entry in (root / "Done" / "17").iterdir()}
    assert set(taken) == done
    left = {drop.name: await folders.read(drop, limit_bytes=LIMIT_BYTES) for drop in await folders.scan(limit=1000)}
    assert last in done | set(left.values())


async def _hear(folders: LocalFolders, heard: asyncio.Event) -> None:
    async for _ in folders.changes():
        heard.set()


def _put_until(heard: asyncio.Event, root: Path, device: int) -> bool:
    """A hint may be missed while listening begins: writing goes on until one is heard."""
    if not heard.is_set():
        _put(root, device, f"{uuid4()}.txt")
    return heard.is_set()


async def test_changes_are_hinted_also_in_folders_made_later(root: Path, folders: LocalFolders) -> None:
    await _scan(folders)
    (root / "Requests" / "1").mkdir()
    heard = asyncio.Event()
    hearing = asyncio.create_task(_hear(folders, heard))

    for device in (1, 2, 3):
        heard.clear()
        await eventually(partial(_put_until, heard, root, device))

    hearing.cancel()
    await asyncio.wait([hearing], timeout=30)
    assert hearing.cancelled()


async def test_names_that_are_not_utf8_are_hinted_too_and_break_no_listener(root: Path, folders: LocalFolders) -> None:
    _put(root, 1, "question.txt")
    await _scan(folders)
    heard = asyncio.Event()

    def put_until_heard(name: str) -> bool:
        if not heard.is_set():
            _put(root, 1, f"{name}{uuid4()}.txt")
        return heard.is_set()

    with capture_logs() as logs:
        hearing = asyncio.create_task(_hear(folders, heard))
        for name in (os.fsdecode(b"caf\xe9-"), "question-", os.fsdecode(b"caf\xe9-")):
            heard.clear()
            await eventually(partial(put_until_heard, name))
        assert not hearing.done()
        hearing.cancel()
        await asyncio.wait([hearing], timeout=30)

    assert [] == logs


async def test_listening_for_changes_ends_when_the_folder_is_removed(root: Path, folders: LocalFolders) -> None:
    await _scan(folders)
    hearing = asyncio.create_task(_hear(folders, asyncio.Event()))
    await asyncio.sleep(0)
    (root / "Requests").rmdir()

    async with asyncio.timeout(30):
        await hearing


async def test_a_file_system_that_hangs_under_the_listener_holds_up_nothing_else(
    root: Path, folders: LocalFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(root, 1, "question.txt")
    await _scan(folders)
    hanging, released = threading.Event(), threading.Event()
    were_released: list[bool] = []
    scandir = os.scandir

    def hang(path: Path | int) -> Iterator["os.DirEntry[str]"]:
        if path == root / "Requests":
            hanging.set()
            were_released.append(released.wait(30))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", hang)
    heard = asyncio.Event()
    hearing = asyncio.create_task(_hear(folders, heard))
    try:
        await eventually(hanging.is_set)
        assert ["question.txt"] == [drop.name for drop in await _scan(folders)]
    finally:
        released.set()

    await eventually(partial(_put_until, heard, root, 1))
    hearing.cancel()
    await asyncio.wait([hearing], timeout=30)
    assert all(were_released)


async def test_listeners_look_at_a_bounded_number_of_names(
    root: Path, folders: LocalFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _scan(folders)
    for number in range(200):
        (root / "Requests" / f"stray {number}.txt").touch()
    names: list[str] = []

    def seen(name: str) -> bool:
        names.append(name)
        return False

    monkeypatch.setattr(hints, "_MAX_ENTRIES", 50)
    monkeypatch.setattr(hints, "is_device_id", seen)

    assert [""] == list(hints.Look(root / "Requests")())

    assert 50 == len(names)


async def test_a_look_that_was_given_up_takes_one_thread_not_all(
    root: Path, folders: LocalFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _scan(folders)
    hanging, released = threading.Event(), threading.Event()
    scandir = os.scandir

    def hang(path: Path | int) -> Iterator["os.DirEntry[str]"]:
        if path == root / "Requests":
            hanging.set()
            released.wait(30)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", hang)
    with capture_logs() as logs:
        given_up = asyncio.create_task(_hear(folders, asyncio.Event()))
        try:
            await eventually(hanging.is_set)
            given_up.cancel()
            await asyncio.wait([given_up], timeout=30)
            async with asyncio.timeout(30):
                # It ends at once: the first look has not.
                await _hear(folders, asyncio.Event())
        finally:
            released.set()

    assert ["watching_failed"] == [entry["event"] for entry in logs]
