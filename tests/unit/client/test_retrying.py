"""The retry helper, over a clock turned by hand."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from fieldpost.client.retrying import Retrying
from fieldpost.errors import FieldpostError, InvalidRequestError, OutcomeUnknownError, QueueFullError
from tests.support.clock import FakeClock
from tests.support.waiting import eventually


class _Calls:
    """Fails as it is told, then succeeds; notes when it was called."""

    def __init__(self, clock: FakeClock, errors: Sequence[FieldpostError]) -> None:
        self.at: list[float] = []
        self._clock = clock
        self._errors = list(errors)

    async def __call__(self) -> str:
        self.at.append(self._clock.monotonic())
        if self._errors:
            raise self._errors.pop(0)
        return "done"


async def _run(clock: FakeClock, calls: _Calls, *, give_up_seconds: float) -> str:
    retrying = Retrying(clock=clock, source=random.Random(1))
    running = asyncio.create_task(retrying.run(calls, give_up_seconds=give_up_seconds))

    async def is_over() -> bool:
        clock.advance(0.125)
        await asyncio.sleep(0)
        return running.done()

    await eventually(is_over)
    return await running


async def test_what_succeeds_is_called_once(clock: FakeClock) -> None:
    calls = _Calls(clock, [])

    assert "done" == await _run(clock, calls, give_up_seconds=60)
    assert 1 == len(calls.at)


async def test_what_is_refused_is_called_once(clock: FakeClock) -> None:
    calls = _Calls(clock, [InvalidRequestError("no")])

    with pytest.raises(InvalidRequestError):
        await _run(clock, calls, give_up_seconds=60)
    assert 1 == len(calls.at)


async def test_waits_grow_from_try_to_try(clock: FakeClock) -> None:
    calls = _Calls(clock, [OutcomeUnknownError()] * 4)

    assert "done" == await _run(clock, calls, give_up_seconds=60)

    waits = [later - earlier for earlier, later in zip(calls.at, calls.at[1:], strict=False)]
    assert [1, 2, 4, 8] == [int(max(step for step in (1, 2, 4, 8) if step <= wait)) for wait in waits]


async def test_what_the_server_asks_for_is_waited(clock: FakeClock) -> None:
    calls = _Calls(clock, [QueueFullError(retry_after_seconds=20)])

    assert "done" == await _run(clock, calls, give_up_seconds=60)
    assert calls.at[1] - calls.at[0] >= 20


async def test_the_last_error_is_told_and_no_try_begins_too_late(clock: FakeClock) -> None:
    calls = _Calls(clock, [QueueFullError(f"try {number}") for number in range(1, 100)])

    with pytest.raises(QueueFullError) as caught:
        await _run(clock, calls, give_up_seconds=10)

    assert f"try {len(calls.at)}" == caught.value.detail
    assert calls.at[-1] - calls.at[0] <= 10
    assert len(calls.at) >= 3


async def test_a_wait_that_would_end_too_late_is_not_begun(clock: FakeClock) -> None:
    calls = _Calls(clock, [QueueFullError(retry_after_seconds=3600)])

    with pytest.raises(QueueFullError):
        await _run(clock, calls, give_up_seconds=60)
    assert 1 == len(calls.at)


async def test_without_time_to_retry_there_is_one_try(clock: FakeClock) -> None:
    calls = _Calls(clock, [QueueFullError()])

    with pytest.raises(QueueFullError):
        await _run(clock, calls, give_up_seconds=0)
    assert 1 == len(calls.at)
