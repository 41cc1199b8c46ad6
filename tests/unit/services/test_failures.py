"""A model that fails leaves something in the log, and not too much."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from fieldpost.errors import ModelUnavailableError
from fieldpost.ports.ledger_values import Claim
from fieldpost.services.endings import model_unavailable, worker_error
from fieldpost.services.failures import EVERY_SECONDS, MAX_REASON, MAX_SORTS, Failures
from tests.support.clock import FakeClock
from tests.support.messages import a_request
from tests.support.waiting import eventually

AWAY = ModelUnavailableError("away")
CLAIM = Claim(request=a_request(), attempt=2, failures=1)

Lines = list[Any]


@pytest.fixture
def lines() -> Iterator[Lines]:
    with capture_logs() as captured:
        yield captured


@pytest.fixture
async def failures(clock: FakeClock) -> AsyncIterator[Failures]:
    made = Failures(clock=clock, model="llama3")
    running = asyncio.create_task(made.run())
    await eventually(lambda: bool(clock._sleepers))
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def _a_while_later(clock: FakeClock) -> None:
    clock.advance(EVERY_SECONDS)
    await eventually(lambda: bool(clock._sleepers))


async def test_a_failed_attempt_is_told_with_what_it_takes_to_find_it(failures: Failures, lines: Lines) -> None:
    failures.note(CLAIM, model_unavailable("connection refused"), ModelUnavailableError("…", server_says="no route"))

    assert [
        {
            "event": "attempt_failed",
            "log_level": "warning",
            "model": "llama3",
            "request_id": str(CLAIM.request.id),
            "attempt": 2,
            "reason": "The model is away, overloaded or broke off: connection refused",
            "server_says": "no route",
        }
    ] == lines


async def test_the_same_again_is_a_number_now_and_then(failures: Failures, lines: Lines, clock: FakeClock) -> None:
    for _ in range(500):
        failures.note(CLAIM, model_unavailable("connection refused"), AWAY)
    assert 1 == len(lines)

    await _a_while_later(clock)
    assert ("attempts_failed_again", 499) == (lines[1]["event"], lines[1]["attempts"])
    assert "connection refused" in lines[1]["reason"]

    failures.note(CLAIM, model_unavailable("connection refused"), AWAY)
    await _a_while_later(clock)
    assert [499, 1] == [line["attempts"] for line in lines[1:]]


async def test_what_did_not_come_again_is_news_the_next_time(
    failures: Failures, lines: Lines, clock: FakeClock
) -> None:
    failures.note(CLAIM, model_unavailable("connection refused"), AWAY)
    await _a_while_later(clock)
    failures.note(CLAIM, model_unavailable("connection refused"), AWAY)

    assert ["attempt_failed", "attempt_failed"] == [line["event"] for line in lines]


async def test_reasons_that_differ_each_time_are_bounded_too(
    failures: Failures, lines: Lines, clock: FakeClock
) -> None:
    for number in range(500):
        failures.note(CLAIM, model_unavailable(f"request {number} " + "x" * 10_000), AWAY)
    assert MAX_SORTS + 1 == len(lines)
    assert all(len(line["reason"]) <= MAX_REASON for line in lines)

    await _a_while_later(clock)
    assert MAX_SORTS + 2 == len(lines)
    assert 500 - MAX_SORTS - 1 == lines[-1]["attempts"]


async def test_an_error_that_nobody_expected_comes_with_its_traceback(failures: Failures, lines: Lines) -> None:
    error = ZeroDivisionError()

    failures.note(CLAIM, worker_error("ZeroDivisionError"), error)

    assert error is lines[0]["exc_info"]
