"""Folder answers: one device's broken folder is nothing to the others, and every file that asks gets its answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

from fieldpost.messages.devices import Credential
from fieldpost.messages.requests import Channel, Input, RequestBody
from fieldpost.observability import Metrics
from fieldpost.policy.settling import free_names
from fieldpost.ports.backends import Backends
from fieldpost.roles.processor import Processor
from fieldpost.services.intake import Intake
from fieldpost.services.working import Lane
from fieldpost.settings import Settings
from tests.support.clock import FakeClock
from tests.support.messages import a_request
from tests.support.waiting import eventually
from tests.unit.services.conftest import DEVICE, OTHER


@asynccontextmanager
async def _answering(settings: Settings, backends: Backends, clock: FakeClock) -> AsyncIterator[None]:
    """A processor and a worker."""
    processor = Processor(settings=settings, backends=backends, clock=clock, metrics=Metrics(), instance="one")
    lane = Lane(settings=settings, backends=backends, clock=clock, model="echo", holder="one", metrics=Metrics())
    running = [asyncio.create_task(processor.run()), asyncio.create_task(lane.run())]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _recorded(backends: Backends, clock: FakeClock, device: Credential) -> UUID:
    """A request over HTTP that the ledger has, and nobody has answered yet."""
    request = a_request(device_id=device.device_id, model="echo", accepted_at=clock.now())
    await backends.ledgers["shard1"].records.record([request], dispatched=(), now=clock.now())
    return request.id


async def _ask(intake: Intake, device: Credential, key: str) -> None:
    body = RequestBody(input=Input(prompt="a question"))
    await intake.accept(device, body, channel=Channel.FOLDER, file_name="question.txt", idempotency_key=key)


def _make_unwritable(folder: Path) -> Path:
    """Leaves no name for a device's folder, nor for what stands in its place: root writes whatever its mode is.

    Returns:
        What to remove so that it can be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for name in islice(free_names(folder.name), 1000):
        folder.with_name(name).touch()
    return folder


def _answer(responses: Path, device: Credential, name: str) -> dict[str, Any] | None:
    path = responses / str(device.device_id) / f"{name}.answer.json"
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content


async def test_a_folder_that_cannot_be_written_holds_up_no_other_device(
    settings: Settings, backends: Backends, intake: Intake, clock: FakeClock, tmp_path: Path
) -> None:
    responses = tmp_path / "Cloud" / "Responses"
    in_the_way = _make_unwritable(responses / "1")
    async with _answering(settings, backends, clock):
        await _ask(intake, DEVICE, "key 1")
        # The oldest answer is the one in trouble.
        await eventually(lambda: _waits(backends))
        clock.advance(1)
        await _ask(intake, OTHER, "key 2")

        await eventually(lambda: _answer(responses, OTHER, "question.txt") is not None)
        assert await _waits(backends)

        in_the_way.unlink()
        await eventually(lambda: _is_answered_in_time(clock, responses, "question.txt"))
        await eventually(lambda: _is_all_delivered(backends))


async def test_further_files_get_the_answer_under_their_names_and_the_first_door_still_brings_its_own(
    settings: Settings, backends: Backends, clock: FakeClock, tmp_path: Path
) -> None:
    responses = tmp_path / "Cloud" / "Responses"
    waiting_files = backends.ledgers["shard1"].waiting_files
    request_id = await _recorded(backends, clock, DEVICE)
    for name in ("a.json", "b.json"):
        await waiting_files.add(request_id, 1, name)

    async with _answering(settings, backends, clock):
        await eventually(lambda: _answer(responses, DEVICE, "b.json") is not None)
        await waiting_files.add(request_id, 1, "later.json")
        await eventually(lambda: _answer(responses, DEVICE, "later.json") is not None)
        await eventually(lambda: _has_no_further_files(backends))

    for name in ("a.json", "b.json", "later.json"):
        answer = _answer(responses, DEVICE, name)
        assert answer is not None
        assert (str(request_id), "succeeded", name) == (answer["request_id"], answer["status"], answer["file_name"])
    deliveries = backends.ledgers["shard1"].deliveries
    assert [request_id] == list(await deliveries.unacknowledged([request_id], 1))


async def test_a_further_file_whose_folder_cannot_be_written_holds_up_no_other_device(
    settings: Settings, backends: Backends, clock: FakeClock, tmp_path: Path
) -> None:
    responses = tmp_path / "Cloud" / "Responses"
    in_the_way = _make_unwritable(responses / "1")
    for device in (DEVICE, OTHER):
        request_id = await _recorded(backends, clock, device)
        await backends.ledgers["shard1"].waiting_files.add(request_id, device.device_id, "a.json")

    async with _answering(settings, backends, clock):
        await eventually(lambda: _answer(responses, OTHER, "a.json") is not None)
        assert _answer(responses, DEVICE, "a.json") is None
        in_the_way.unlink()
        await eventually(lambda: _is_answered_in_time(clock, responses, "a.json"))


async def test_files_that_wait_for_long_keep_no_other_waiting(
    settings: Settings, backends: Backends, clock: FakeClock, tmp_path: Path
) -> None:
    """More than are looked at in one go wait for a request that nobody answers, and come first in order."""
    ledger = backends.ledgers["shard1"]
    unanswered = a_request(id=UUID(int=1), model="nobody's")
    await ledger.records.record([unanswered], dispatched=(), now=clock.now())
    async with asyncio.TaskGroup() as tasks:
        for number in range(2500):
            tasks.create_task(ledger.waiting_files.add(unanswered.id, 1, f"{number:04}.json"))
    request_id = await _recorded(backends, clock, DEVICE)
    await ledger.waiting_files.add(request_id, 1, "answered.json")

    async with _answering(settings, backends, clock):
        await eventually(lambda: _answer(tmp_path / "Cloud" / "Responses", DEVICE, "answered.json") is not None)


def _is_answered_in_time(clock: FakeClock, responses: Path, name: str) -> bool:
    """Time goes on with each look: an attempt under way while the folder is mended may still fail, and waits its turn."""
    clock.advance(1)
    return _answer(responses, DEVICE, name) is not None


async def _waits(backends: Backends) -> bool:
    return bool((await backends.ledgers["shard1"].deliveries.undelivered_files(limit=1, limit_bytes=1)).answers)


async def _is_all_delivered(backends: Backends) -> bool:
    return not await _waits(backends)


async def _has_no_further_files(backends: Backends) -> bool:
    return not await backends.ledgers["shard1"].waiting_files.page(after=None, limit=1)
