"""The folder door's device over real folders, in which a server would have done this or that."""

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from fieldpost.errors import CorruptDataError
from fieldpost.fleet.agenda import Agenda
from fieldpost.fleet.folder_door import FolderDoor
from fieldpost.fleet.history import Verdict, check
from fieldpost.fleet.journal import Journal, Post
from fieldpost.fleet.tray import Tray
from fieldpost.messages.requests import Channel
from fieldpost.messages.responses import Problem
from tests.support.clock import FakeClock
from tests.support.messages import a_request, a_response
from tests.support.waiting import eventually
from tests.unit.fleet.conftest import a_member

MEMBER = a_member(Channel.FOLDER)
ID = str(MEMBER.device_id)


class Cloud:
    """The folders, and one device that has dropped a file into them."""

    def __init__(self, root: Path, clock: FakeClock) -> None:
        self.root = root
        self.clock = clock
        self.journal = Journal(clock=clock)
        self.source = random.Random(1)
        self.door = FolderDoor(
            MEMBER, Tray(root, MEMBER.device_id), journal=self.journal, clock=clock, source=self.source
        )

    async def ask(self) -> asyncio.Task[None]:
        """Online, and one question is written down as asked."""
        agenda = Agenda(MEMBER, gap_seconds=1, journal=self.journal, clock=self.clock, source=self.source)
        session = asyncio.create_task(self.door.session(agenda))

        def has_asked() -> bool:
            if not self.journal.history:
                self.clock.advance(1)
            return bool(self.journal.history)

        await eventually(has_asked)
        return session

    async def drop(self) -> Post:
        """Online until one file stands there."""
        session = await self.ask()
        session.cancel()
        (post,) = self.journal.open_posts(MEMBER)
        await eventually((self.root / "Requests" / ID / post.name).exists)
        await asyncio.wait([session])
        return post

    def answer(self, name: str, text: str = "Nine hours.", *, about: str | None = None) -> None:
        response = a_response(a_request(file_name=about or name), text=text)
        self._write("Responses", f"{name}.answer.json", msgspec.json.encode(response))

    def refuse(self, name: str) -> None:
        problem = Problem(type="urn:x", title="The request cannot be read.", status=400)
        self._write("Rejected", f"{name}.reason.json", msgspec.json.encode(problem))

    def take(self, name: str) -> None:
        (self.root / "Done" / ID).mkdir(parents=True)
        (self.root / "Requests" / ID / name).rename(self.root / "Done" / ID / name)

    @property
    def verdict(self) -> Verdict:
        return check(self.journal.history)

    def _write(self, folder: str, name: str, content: bytes) -> None:
        path = self.root / folder / ID / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def cloud(tmp_path: Path, clock: FakeClock) -> Cloud:
    return Cloud(tmp_path, clock)


async def test_a_dropped_file_stands_there_whole(cloud: Cloud) -> None:
    post = await cloud.drop()

    content = (cloud.root / "Requests" / ID / post.name).read_text()
    assert post.question in content
    assert [post.name] == [path.name for path in (cloud.root / "Requests" / ID).iterdir()]


async def test_a_file_whose_device_leaves_before_a_thread_is_free_for_it_is_dropped_all_the_same(cloud: Cloud) -> None:
    free = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        threads.submit(free.wait, 60)
        session = await cloud.ask()
        session.cancel()
        await asyncio.sleep(0)
        free.set()
        await asyncio.wait([session])

    (post,) = cloud.journal.open_posts(MEMBER)
    assert (cloud.root / "Requests" / ID / post.name).exists()


async def test_its_answer_settles_it(cloud: Cloud) -> None:
    post = await cloud.drop()
    cloud.take(post.name)
    cloud.answer(post.name)

    await cloud.door.look_again()

    assert [] == cloud.journal.open_posts(MEMBER)
    assert cloud.verdict.is_kept


async def test_a_file_that_was_taken_and_never_answered_is_lost(cloud: Cloud) -> None:
    post = await cloud.drop()
    cloud.take(post.name)

    await cloud.door.look_again()

    assert [post.request] == cloud.verdict.lost


async def test_a_file_that_nobody_took_is_lost(cloud: Cloud) -> None:
    post = await cloud.drop()

    await cloud.door.look_again()

    assert [post.request] == cloud.verdict.lost


async def test_a_refused_file_is_not_lost(cloud: Cloud) -> None:
    post = await cloud.drop()
    cloud.refuse(post.name)

    await cloud.door.look_again()

    assert {"The request cannot be read.": 1} == cloud.journal.reasons
    assert cloud.verdict.is_kept


async def test_an_answer_that_is_replaced_by_another_is_answered_twice(cloud: Cloud) -> None:
    post = await cloud.drop()
    cloud.answer(post.name)
    await cloud.door.look_again()
    cloud.answer(post.name, "Ten hours.")

    await cloud.door.look_again()

    assert [post.request] == cloud.verdict.contradicted


async def test_an_answer_to_a_file_that_was_never_dropped_is_unexpected(cloud: Cloud) -> None:
    cloud.answer("strange.txt")

    await cloud.door.look_again()

    assert [f"{ID}/strange.txt"] == cloud.verdict.unexpected


async def test_the_answer_of_another_file_is_no_answer(cloud: Cloud) -> None:
    post = await cloud.drop()
    cloud.answer(post.name, about="another.txt")

    with pytest.raises(CorruptDataError, match=r"another\.txt"):
        await cloud.door.look_again()


async def test_an_answer_that_is_gone_again_is_an_error(cloud: Cloud) -> None:
    post = await cloud.drop()
    cloud.answer(post.name)
    await cloud.door.look_again()
    (answered,) = (cloud.root / "Responses" / ID).iterdir()
    answered.unlink()

    with pytest.raises(CorruptDataError, match="No such file"):
        await cloud.door.look_again()


async def test_a_folder_that_takes_no_file_is_a_refusal(cloud: Cloud) -> None:
    (cloud.root / "Requests").write_text("a file in the folder's place")
    agenda = Agenda(MEMBER, gap_seconds=1, journal=cloud.journal, clock=cloud.clock, source=cloud.source)
    session = asyncio.create_task(cloud.door.session(agenda))

    def is_refused() -> bool:
        cloud.clock.advance(1)
        return bool(cloud.journal.reasons)

    await eventually(is_refused)
    session.cancel()

    assert ["The file cannot be written: Not a directory."] == list(cloud.journal.reasons)


async def test_it_takes_its_own_files_away_and_no_others(cloud: Cloud) -> None:
    post = await cloud.drop()
    cloud.take(post.name)
    cloud.answer(post.name)
    other = cloud.root / "Requests" / ID / "mine.txt"
    other.write_text("Not the demo's.")
    await cloud.door.look_again()

    cloud.door.clear()

    assert [other] == [path for path in cloud.root.rglob("*") if path.is_file()]
    assert not (cloud.root / "Responses" / ID).exists()
