"""What a line of the log says by itself."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
import structlog
from structlog.testing import capture_logs

from fieldpost.observability import Summing, add_handled, handling
from tests.support.clock import FakeClock
from tests.support.waiting import eventually

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def _line(**fields: object) -> dict[str, object]:
    return dict(add_handled(None, "info", {"event": "something", **fields}))


def test_a_line_names_the_request_its_trace_and_its_attempt() -> None:
    request_id = uuid4()

    with handling(request_id, TRACEPARENT, 2):
        inside = _line()
    outside = _line()

    assert {
        "event": "something",
        "request_id": str(request_id),
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "attempt": 2,
    } == inside
    assert {"event": "something"} == outside


def test_a_line_names_no_attempt_before_the_first_and_no_trace_where_there_is_none() -> None:
    request_id = uuid4()

    with handling(request_id, ""):
        assert {"event": "something", "request_id": str(request_id)} == _line()


def test_what_a_line_says_itself_stands() -> None:
    with handling(uuid4(), TRACEPARENT):
        assert _line(request_id="another")["request_id"] == "another"


async def test_tasks_that_handle_several_requests_at_once_are_not_confused() -> None:
    request_ids = [uuid4() for _ in range(5)]

    async def handle(number: int) -> object:
        with handling(request_ids[number], TRACEPARENT):
            await asyncio.sleep(0)
            return _line()["request_id"]

    assert [str(request_id) for request_id in request_ids] == await asyncio.gather(*map(handle, range(5)))


def _is_written(summing: Summing, event: str, **fields: object) -> Any:
    """What is left of a line; None when it is left out."""
    try:
        return summing(None, "info", {"event": event, **fields})
    except structlog.DropEvent:
        return None


def test_a_flood_of_lines_is_summed_up(clock: FakeClock) -> None:
    summing = Summing(seconds=30, monotonic=clock.monotonic)

    first, *others = [_is_written(summing, "drop_rejected", summed=True, file=f"{n}") for n in range(1001)]
    clock.advance(30)
    next_one = _is_written(summing, "drop_rejected", summed=True, file="another")

    assert {"event": "drop_rejected", "file": "0"} == first
    assert [None] * 1000 == others
    assert {"event": "drop_rejected", "file": "another", "left_out": 1000} == next_one


def test_kinds_do_not_hide_one_another(clock: FakeClock) -> None:
    summing = Summing(seconds=30, monotonic=clock.monotonic)

    lines = [("loop_failed", "filing"), ("loop_failed", "reaping"), ("peer_stalled", True)]
    assert all(_is_written(summing, event, summed=part) for event, part in lines)
    assert not any(_is_written(summing, event, summed=part) for event, part in lines)


def test_what_does_not_come_again_and_again_is_always_written(clock: FakeClock) -> None:
    summing = Summing(seconds=30, monotonic=clock.monotonic)

    assert all(_is_written(summing, "stopped") for _ in range(10))


@pytest.mark.parametrize(("part", "told"), [(True, {}), ("filing", {"part": "filing"})])
async def test_what_was_left_out_at_the_end_of_a_flood_is_told(part: object, told: dict[str, str]) -> None:
    summing = Summing(seconds=0.05, monotonic=asyncio.get_running_loop().time)

    with capture_logs() as lines, handling(uuid4(), TRACEPARENT):
        left_out = sum(_is_written(summing, "drop_rejected", summed=part) is None for _ in range(100))
        await eventually(lambda: bool(lines))

    assert [{"event": "drop_rejected", "left_out": left_out, "log_level": "info", **told}] == lines
