"""Following one request, while its ledger comes and goes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from fieldpost.errors import BackendUnavailableError, CorruptDataError
from fieldpost.messages.requests import Request
from fieldpost.ports.ledger_values import Finish
from fieldpost.services.answers import Answers
from tests.support.doors import Doors, open_doors
from tests.support.messages import a_request, a_response
from tests.support.waiting import eventually

Events = list[tuple[str, dict[str, Any]]]


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
async def request_id(doors: Doors) -> UUID:
    """A request that is recorded and not answered."""
    request = a_request(device_id=doors.device_id, model="echo")
    records = doors.backends.ledger_of(doors.device_id).records
    await records.record([request], dispatched=[request.id], now=datetime.now(UTC))
    return request.id


class _Ledger:
    """Makes looking up fail with an error, while there is one; counts how often it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: Exception | None = None
        self.failures = 0
        status = Answers.status

        async def fail_or_look(answers: Answers, device_id: int, request_id: UUID) -> Any:
            if self.error is not None:
                self.failures += 1
                raise self.error
            return await status(answers, device_id, request_id)

        monkeypatch.setattr(Answers, "status", fail_or_look)


@asynccontextmanager
async def _following(doors: Doors, request_id: UUID) -> AsyncIterator[Events]:
    """The events so far; ends when the stream has ended."""
    events: Events = []

    async def read(lines: AsyncIterator[str]) -> None:
        name = ""
        async for line in lines:
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, msgspec.json.decode(line.removeprefix("data: "))))

    async with (
        doors.device() as client,
        client.stream("GET", f"/v1/requests/{request_id}/events") as answer,
        asyncio.timeout(60),
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(read(answer.aiter_lines()))
        await eventually(lambda: bool(events))
        yield events


async def _finish(doors: Doors, request_id: UUID) -> None:
    ledger, now = doors.backends.ledger_of(doors.device_id), datetime.now(UTC)
    request: Request = a_request(id=request_id, device_id=doors.device_id, model="echo")
    await ledger.claims.claim([request_id], holder="w", now=now, until=now + timedelta(minutes=1))
    await ledger.claims.finish([Finish(request_id=request_id, attempt=1, response=a_response(request))], [], now=now)


async def test_a_ledger_that_is_away_for_a_while_is_asked_again(
    doors: Doors, request_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = _Ledger(monkeypatch)
    async with _following(doors, request_id) as events:
        ledger.error = BackendUnavailableError("away")
        await eventually(lambda: ledger.failures > 0)
        await _finish(doors, request_id)
        ledger.error = None

    assert ["status", "response"] == [name for name, _ in events]
    assert str(request_id) == events[-1][1]["request_id"]


async def test_what_cannot_be_read_at_all_ends_the_stream_with_its_problem_and_no_traceback(
    doors: Doors, request_id: UUID, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = _Ledger(monkeypatch)
    async with _following(doors, request_id) as events:
        ledger.error = CorruptDataError("cannot be read")

    assert ["status", "error"] == [name for name, _ in events]
    assert "urn:fieldpost:problem:corrupt-data" == events[-1][1]["type"]
    assert "Traceback" not in "".join(capsys.readouterr())


async def test_a_head_follows_nothing(doors: Doors, request_id: UUID) -> None:
    async with doors.device() as client:
        head = await client.head(f"/v1/requests/{request_id}/events")

    assert (200, "text/event-stream; charset=utf-8") == (head.status_code, head.headers["content-type"])
    assert () == doors.mailbox.device_ids
