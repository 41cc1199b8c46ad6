"""The folder door over the embedded engines, real files and a clock that is turned by hand."""

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from fieldpost import settings as settings_module
from fieldpost.messages.devices import DeviceKind
from fieldpost.messages.identity import keyed_id
from fieldpost.messages.requests import MAX_BODY_BYTES, Channel, Priority, Request, RequestBody
from fieldpost.observability import Metrics
from fieldpost.ports.backends import Backends
from fieldpost.roles.watcher import Watcher
from fieldpost.services.credentials import Credentials
from fieldpost.services.intake import Intake
from fieldpost.services.queues import requests_queue
from fieldpost.services.remembering import REMEMBER_SECONDS
from fieldpost.settings import Settings
from fieldpost.wiring.opening import open_backends
from tests.support.clock import FakeClock
from tests.support.waiting import eventually

BATCH = 20
QUEUED_AT_MOST = 200
#: Modified long before the fake clock's first day.
LONG_AGO = 1_500_000_000


class Door:
    """A folder door; `recording` stands in for the rest of the house: it takes requests from the queue to the ledger."""

    def __init__(self, root: Path, settings: Settings, backends: Backends, clock: FakeClock) -> None:
        self.root = root
        self.backends = backends
        self.clock = clock
        self.recorded: list[Request] = []
        self.credentials = Credentials(settings=settings, backends=backends, clock=clock)
        self._settings = settings

    def watcher(self, instance: str = "watcher") -> Watcher:
        return Watcher(
            settings=self._settings,
            backends=self.backends,
            clock=self.clock,
            intake=self._intake(),
            credentials=self.credentials,
            instance=instance,
        )

    def _intake(self) -> Intake:
        return Intake(
            settings=self._settings,
            backends=self.backends,
            clock=self.clock,
            source=random.Random(1),
            metrics=Metrics(),
        )

    async def add_device(self, device_id: int, *, disabled: bool = False) -> None:
        await self.backends.devices.add(
            kind=DeviceKind.TRUCK, name="a truck", device_id=device_id, key_hash=bytes(32), now=self.clock.now()
        )
        await self.backends.devices.change(device_id, disabled=disabled)

    def put(self, name: str, content: bytes = b"How long may I drive?", *, device: int = 1, at: int = 0) -> Path:
        path = self.root / "Requests" / str(device) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if at:
            os.utime(path, (at, at))
        return path

    def names(self, area: str, device: int = 1) -> list[str]:
        folder = self.root / area / str(device)
        return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []

    def reason(self, name: str, device: int = 1) -> dict[str, object]:
        reason: dict[str, object] = json.loads(
            (self.root / "Rejected" / str(device) / f"{name}.reason.json").read_bytes()
        )
        return reason

    @property
    def prompts(self) -> list[str | None]:
        return [request.input.prompt for request in self.recorded]

    async def turn_until(self, condition: Callable[[], bool]) -> None:
        """Turns the clock on, a little at a time, until the condition holds."""

        def turn() -> bool:
            self.clock.advance(0.1)
            return condition()

        await eventually(turn)

    @asynccontextmanager
    async def watching(self, watcher: Watcher | None = None) -> AsyncIterator[Watcher]:
        running = watcher or self.watcher()
        async with _running(running.run()):
            yield running

    @asynccontextmanager
    async def recording(self) -> AsyncIterator[None]:
        async with _running(self._record()):
            yield

    async def published(self) -> int:
        return await self.backends.broker.depth(requests_queue("shard1"))

    async def waiting_files(self) -> list[tuple[UUID, str]]:
        files = await self.backends.ledger_of(1).waiting_files.page(after=None, limit=100)
        return [(file.request_id, file.file_name) for file in files]

    async def record_from_http(self, envelope: bytes) -> None:
        """Has the ledger know a request of another door, which no door remembers any more."""
        body = msgspec.json.decode(envelope, type=RequestBody)
        (credential,) = await self.backends.devices.credentials(after=0, limit=1)
        async with self.recording():
            await self._intake().accept(credential, body, channel=Channel.HTTP)
            await eventually(lambda: len(self.recorded) == 1)
        self.clock.advance(REMEMBER_SECONDS + 1)

    async def cancel(self, request_id: UUID) -> None:
        await self.backends.ledger_of(1).records.cancel(request_id, 1, expected=False, now=self.clock.now())

    def use_model(self, name: str) -> None:
        """Every watcher from now on has another default model."""
        model = msgspec.structs.replace(self._settings.model, name=name)
        self._settings = msgspec.structs.replace(self._settings, model=model)

    async def _record(self) -> None:
        async with self.backends.broker.consume([requests_queue("shard1")], prefetch=100) as consumer:
            while True:
                deliveries = await consumer.receive(100)
                requests = [msgspec.msgpack.decode(delivery.body, type=Request) for delivery in deliveries]
                records = self.backends.ledger_of(1).records
                await records.record(requests, dispatched=set(), now=self.clock.now())
                await consumer.ack(deliveries)
                self.recorded += requests


@asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=30)


@pytest.fixture
async def door(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Door]:
    settings = settings_module.load(
        {},
        overrides={
            "data": {"directory": str(tmp_path / "data")},
            "model": {"url": "echo:", "name": "echo"},
            "folder": {"batch": BATCH},
            "queues": {"max_requests": QUEUED_AT_MOST},
        },
    )
    async with open_backends(settings, clock) as backends:
        made = Door(tmp_path / "data" / "Cloud", settings, backends, clock)
        await made.add_device(1)
        await made.add_device(2)
        await made.credentials.load()
        yield made


async def test_a_prompt_becomes_a_request_and_leaves_when_the_ledger_has_it(door: Door) -> None:
    door.put("question.txt", "\ufeffHow long may I drive?".encode())

    async with door.watching():
        await eventually(lambda: _published(door, 1))
        assert ["question.txt"] == door.names("Requests")
        async with door.recording():
            await door.turn_until(lambda: door.names("Done") == ["question.txt"])

    (request,) = door.recorded
    assert (1, Channel.FOLDER, "question.txt", "echo") == (
        request.device_id,
        request.channel,
        request.file_name,
        request.model,
    )
    assert "How long may I drive?" == request.input.prompt
    assert [] == door.names("Requests")


async def _published(door: Door, number: int) -> bool:
    door.clock.advance(0.1)
    return await door.published() >= number


async def test_an_envelope_is_a_whole_request_and_may_name_its_key(door: Door) -> None:
    envelope = {"input": {"prompt": "Why?"}, "priority": "high", "idempotency_key": "order-4711"}
    door.put("question.json", json.dumps(envelope).encode())

    async with door.watching(), door.recording():
        await door.turn_until(lambda: door.names("Done") == ["question.json"])

    (request,) = door.recorded
    assert (keyed_id(1, "order-4711"), "order-4711", Priority.HIGH) == (
        request.id,
        request.idempotency_key,
        request.priority,
    )


async def test_a_growing_file_is_taken_once_and_whole(door: Door) -> None:
    path = door.put("question.txt", b"0")
    numbers = iter(range(1, 30))

    def has_grown() -> bool:
        number = next(numbers, None)
        if number is not None:
            with path.open("ab") as file:
                file.write(b" %d" % number)
        return number is None

    async with door.watching(), door.recording():
        await door.turn_until(has_grown)
        await door.turn_until(lambda: door.names("Done") == ["question.txt"])

    assert [" ".join(map(str, range(30)))] == door.prompts


async def test_what_lay_there_untouched_before_the_start_is_taken_at_once(door: Door) -> None:
    door.put("question.txt", at=LONG_AGO)

    async with door.watching(), door.recording():
        await eventually(lambda: len(door.recorded) == 1)


async def test_what_was_modified_in_the_future_or_before_time_began_is_taken_too(door: Door) -> None:
    for name, at in (("future.txt", 10**10), ("past.txt", -(10**9))):
        door.put(name, at=at)

    async with door.watching(), door.recording():
        await door.turn_until(lambda: len(door.names("Done")) == 2)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("question.pdf", b"%PDF", "unsupported-media-type"),
        ("question", b"Why?", "unsupported-media-type"),
        ("question.txt", b"", "invalid-request"),
        ("question.txt", b" \n", "invalid-request"),
        ("question.txt", b"a\0b", "invalid-request"),
        ("question.txt", b"caf\xe9", "invalid-request"),
        ("question.json", b"{", "malformed-request"),
        ("question.json", b'{"input": {}}', "invalid-request"),
        ("question.json", b'{"input": {"prompt": "x"}, "model": "none"}', "unknown-model"),
        ("question.json", b'{"input": {"prompt": "x"}, "devices": 2}', "invalid-request"),
        ("question.txt", b"x" * (MAX_BODY_BYTES + 1), "request-too-large"),
        ("a.sync-conflict-20260102-030405-ABCDEFG.txt", b"Why?", "conflict"),
    ],
)
async def test_what_cannot_be_a_request_is_rejected_with_its_reason(
    door: Door, name: str, content: bytes, problem: str
) -> None:
    door.put(name, content)

    async with door.watching(), door.recording():
        await door.turn_until(lambda: name in door.names("Rejected"))

    assert f"urn:fieldpost:problem:{problem}" == door.reason(name)["type"]
    assert [] == door.recorded
    assert [] == door.names("Requests")


async def test_links_pipes_and_huge_files_are_rejected_unread(door: Door, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    folder = door.put("huge.txt", b"").parent
    os.truncate(folder / "huge.txt", 10**9)
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    os.mkfifo(folder / "pipe.txt")

    async with door.watching(), door.recording():
        await door.turn_until(lambda: {"huge.txt", "link.txt", "pipe.txt"} <= set(door.names("Rejected")))

    assert "urn:fieldpost:problem:request-too-large" == door.reason("huge.txt")["type"]
    assert "urn:fieldpost:problem:invalid-request" == door.reason("link.txt")["type"]
    assert [] == door.recorded
    assert "secret" == (tmp_path / "secret.txt").read_text()


async def test_a_name_that_is_not_utf8_is_rejected(door: Door) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    door.put(name)

    async with door.watching(), door.recording():
        await door.turn_until(lambda: name in door.names("Rejected"))

    assert "the file's name is not UTF-8" == door.reason(name)["detail"]
    assert [] == door.recorded


async def test_files_of_unknown_and_disabled_devices_are_rejected(door: Door) -> None:
    await door.add_device(3, disabled=True)
    await door.credentials.load()
    door.put("question.txt", device=3)
    door.put("question.txt", device=99)

    async with door.watching(), door.recording():
        await door.turn_until(lambda: all("question.txt" in door.names("Rejected", device) for device in (3, 99)))

    assert "urn:fieldpost:problem:device-disabled" == door.reason("question.txt", 3)["type"]
    assert "urn:fieldpost:problem:not-found" == door.reason("question.txt", 99)["type"]
    assert [] == door.recorded


async def test_a_device_that_was_added_a_moment_ago_is_not_taken_for_unknown(door: Door) -> None:
    await door.add_device(3)
    door.put("question.txt", device=3)

    async with door.watching(), door.recording():
        await door.turn_until(lambda: door.names("Done", 3) == ["question.txt"])


async def test_while_the_queue_is_full_files_stay_and_none_is_lost(door: Door) -> None:
    queue = requests_queue("shard1")
    filler = [b"not a request"] * (QUEUED_AT_MOST - 1)
    await door.backends.broker.publish(queue, filler)
    names = [f"{number}.txt" for number in range(5)]
    for name in names:
        door.put(name, name.encode())

    async with door.watching():
        await eventually(lambda: _published(door, QUEUED_AT_MOST))
        assert names == door.names("Requests")
        async with door.backends.broker.consume([queue], prefetch=QUEUED_AT_MOST) as consumer:
            removed = 0
            while removed < len(filler):
                deliveries = await consumer.receive(len(filler) - removed)
                await consumer.ack(deliveries)
                removed += len(deliveries)
        async with door.recording():
            await door.turn_until(lambda: door.names("Done") == names)

    assert sorted(names) == sorted(map(str, door.prompts))


async def test_the_same_file_again_is_the_same_request_and_a_newer_one_another(door: Door) -> None:
    async with door.watching(), door.recording():
        door.put("question.txt", at=LONG_AGO)
        await door.turn_until(lambda: len(door.names("Done")) == 1)
        door.put("question.txt", at=LONG_AGO)
        await door.turn_until(lambda: len(door.names("Done")) == 2)
        assert 1 == len(door.recorded)
        door.put("question.txt", at=LONG_AGO + 1)
        await door.turn_until(lambda: len(door.names("Done")) == 3)

    assert 2 == len({request.id for request in door.recorded})
    assert ["question (2).txt", "question (3).txt", "question.txt"] == door.names("Done")


async def test_after_a_restart_what_is_left_is_published_under_the_same_ids(door: Door) -> None:
    for name in ("a.txt", "b.txt"):
        door.put(name, name.encode())
    async with door.watching():
        await eventually(lambda: _published(door, 2))

    async with door.watching(), door.recording():
        await door.turn_until(lambda: door.names("Done") == ["a.txt", "b.txt"])

    assert 2 == len({request.id for request in door.recorded})


async def test_a_file_whose_key_another_file_used_moves_and_waits_for_the_answer_under_its_own_name(door: Door) -> None:
    door.put("first.json", _envelope("Why?", key="order-1"))

    async with door.watching(), door.recording():
        await door.turn_until(lambda: door.names("Done") == ["first.json"])
        door.put("second.json", _envelope("Why?", key="order-1"))
        await door.turn_until(lambda: door.names("Done") == ["first.json", "second.json"])

    assert [(keyed_id(1, "order-1"), "second.json")] == await door.waiting_files()


@pytest.mark.parametrize("names", [["question.json"], ["other.json"]])
async def test_a_file_whose_key_another_door_used_waits_for_the_answer_also_when_no_door_remembers_it(
    door: Door, names: list[str]
) -> None:
    envelope = _envelope("Why?", key="order-1")
    await door.record_from_http(envelope)
    for name in names:
        door.put(name, envelope)

    async with door.watching(), door.recording():
        await door.turn_until(lambda: door.names("Done") == names)

    assert [(keyed_id(1, "order-1"), name) for name in names] == await door.waiting_files()


async def test_a_file_whose_key_was_used_for_another_request_is_rejected_also_when_no_door_remembers_it(
    door: Door,
) -> None:
    await door.record_from_http(_envelope("Why?", key="order-1"))
    door.put("question.json", _envelope("Why not?", key="order-1"))

    async with door.watching(), door.recording():
        await door.turn_until(lambda: "question.json" in door.names("Rejected"))

    assert "urn:fieldpost:problem:idempotency-conflict" == door.reason("question.json")["type"]
    assert [] == door.names("Done") + door.names("Requests")
    assert [] == await door.waiting_files()


async def test_two_files_with_one_key_dropped_at_once_are_one_request_and_both_are_answered(door: Door) -> None:
    names = ["a.json", "b.json"]
    for name in names:
        door.put(name, _envelope("Why?", key="order-1"))

    async with door.watching(), door.recording():
        await door.turn_until(lambda: door.names("Done") == names)

    ((_, waiting),) = await door.waiting_files()
    assert {waiting, door.recorded[0].file_name} == set(names)


async def test_a_file_of_its_own_request_waits_for_no_second_answer(door: Door) -> None:
    door.put("a.json", _envelope("Why?", key="order-1"))
    door.put("b.txt", b"Why?")

    async with door.watching(), door.recording():
        await door.turn_until(lambda: door.names("Done") == ["a.json", "b.txt"])

    assert [] == await door.waiting_files()


async def test_a_file_that_comes_back_after_its_answer_was_brought_is_answered_again(door: Door) -> None:
    door.put("a.json", _envelope("Why?", key="order-1"))
    async with door.watching(), door.recording():
        await door.turn_until(lambda: door.names("Done") == ["a.json"])
        await door.cancel(keyed_id(1, "order-1"))
        door.put("a.json", _envelope("Why?", key="order-1"))
        await door.turn_until(lambda: len(door.names("Done")) == 2)

    assert [(keyed_id(1, "order-1"), "a.json")] == await door.waiting_files()


async def test_a_file_that_names_no_key_is_itself_also_under_another_default_model(door: Door) -> None:
    door.put("question.txt", at=LONG_AGO)
    async with door.watching(), door.recording():
        await door.turn_until(lambda: door.names("Done") == ["question.txt"])
    door.clock.advance(REMEMBER_SECONDS + 1)
    door.use_model("library")
    door.put("question.txt", at=LONG_AGO)

    async with door.watching(), door.recording():
        await door.turn_until(lambda: len(door.names("Done")) == 2)

    assert [] == door.names("Rejected")


def _envelope(prompt: str, *, key: str) -> bytes:
    return json.dumps({"input": {"prompt": prompt}, "idempotency_key": key}).encode()


async def test_a_file_that_is_rewritten_while_in_hand_is_another_request(door: Door) -> None:
    door.put("question.txt", b"first")
    async with door.watching():
        await eventually(lambda: _published(door, 1))
        door.put("question.txt", b"second")
        async with door.recording():
            await door.turn_until(lambda: door.names("Done") == ["question.txt"])

    assert ["first", "second"] == door.prompts
    assert b"second" == (door.root / "Done" / "1" / "question.txt").read_bytes()


async def test_a_flood_in_one_folder_does_not_keep_another_device_waiting(door: Door) -> None:
    for number in range(20 * BATCH):
        door.put(f"{number}.txt", device=1)
    door.put("question.txt", device=2)

    async with door.watching(), door.recording():
        await door.turn_until(lambda: any(request.device_id == 2 for request in door.recorded))

    assert len(door.recorded) <= 3 * BATCH


async def test_no_more_than_a_batch_is_in_hand(door: Door) -> None:
    for number in range(3 * BATCH):
        door.put(f"{number}.txt", str(number).encode())

    async with door.watching():
        await eventually(lambda: _published(door, BATCH))
        for _ in range(50):
            door.clock.advance(0.5)
            await asyncio.sleep(0)
        assert BATCH == await door.published()
        async with door.recording():
            await door.turn_until(lambda: len(door.names("Done")) == 3 * BATCH)

    assert 3 * BATCH == len({request.id for request in door.recorded})


async def test_a_file_that_cannot_be_moved_does_not_stop_the_others(door: Door) -> None:
    (door.root / "Done").mkdir(parents=True)
    (door.root / "Done" / "1").write_text("in the way")
    door.put("question.txt", device=1)
    door.put("question.txt", device=2)

    async with door.watching(), door.recording():
        await door.turn_until(lambda: door.names("Done", 2) == ["question.txt"])
        assert ["question.txt"] == door.names("Requests", 1)
        (door.root / "Done" / "1").unlink()
        await door.turn_until(lambda: door.names("Done", 1) == ["question.txt"])

    assert 2 == len({request.id for request in door.recorded})


async def test_with_the_folders_gone_for_a_while_it_goes_on_when_they_are_back(door: Door) -> None:
    door.put("a.txt", b"a")
    async with door.watching(), door.recording():
        await door.turn_until(lambda: door.names("Done") == ["a.txt"])
        away = door.root.rename(door.root.with_name("Away"))
        await door.turn_until(lambda: True)
        away.rename(door.root)
        door.put("b.txt", b"b")
        await door.turn_until(lambda: door.names("Done") == ["a.txt", "b.txt"])


async def test_after_draining_nothing_more_is_taken(door: Door) -> None:
    async with door.watching() as watcher, door.recording():
        door.put("a.txt", b"a")
        await door.turn_until(lambda: door.names("Done") == ["a.txt"])
        async with asyncio.timeout(30):
            await watcher.drain()
        door.put("b.txt", b"b")
        for _ in range(50):
            door.clock.advance(0.5)
            await asyncio.sleep(0)

    assert ["b.txt"] == door.names("Requests")
    assert ["a"] == door.prompts


async def test_until_devices_are_known_nothing_is_refused(door: Door) -> None:
    door.credentials.is_loaded = False
    door.put("question.txt")

    async with door.watching(), door.recording():
        for _ in range(50):
            door.clock.advance(0.5)
            await asyncio.sleep(0)
        assert ["question.txt"] == door.names("Requests")
        await door.credentials.load()
        await door.turn_until(lambda: door.names("Done") == ["question.txt"])


async def test_names_of_sync_clients_are_left_alone(door: Door) -> None:
    names = [".question.txt", "question.txt.partial", "~$question.txt"]
    for name in names:
        door.put(name)
    door.put("question.txt")

    async with door.watching(), door.recording():
        await door.turn_until(lambda: door.names("Done") == ["question.txt"])

    assert sorted(names) == door.names("Requests")
    assert 1 == len(door.recorded)


async def test_of_two_watchers_one_watches_and_the_other_takes_over(door: Door) -> None:
    first, second = door.watcher("first"), door.watcher("second")
    async with door.recording(), door.watching(first):
        door.put("one.txt", at=LONG_AGO)
        await door.turn_until(lambda: door.names("Done") == ["one.txt"])
        async with door.watching(second):
            door.put("two.txt")
            await door.turn_until(lambda: door.names("Done") == ["one.txt", "two.txt"])
            assert second._is_first_look

            await first.drain()
            door.put("three.txt")
            await door.turn_until(lambda: door.names("Done") == ["one.txt", "three.txt", "two.txt"])

    assert 3 == len(door.recorded)
