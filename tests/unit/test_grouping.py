"""Calls that wait together are made as one, and each is told what became of its own."""

import asyncio
from collections.abc import Sequence

import pytest

from fieldpost.grouping import Grouped
from tests.support.waiting import eventually


class Slow:
    """Doubles numbers, when it is let go on; negative ones are errors."""

    def __init__(self) -> None:
        self.batches: list[Sequence[int]] = []
        self.go = asyncio.Event()

    async def run(self, numbers: Sequence[int]) -> Sequence[int]:
        self.batches.append(tuple(numbers))
        await self.go.wait()
        if min(numbers) < 0:
            raise ValueError(min(numbers))
        return [2 * number for number in numbers]


async def _begun(slow: Slow, *, max_calls: int = 100) -> tuple["Grouped[int, int]", "asyncio.Task[int]"]:
    grouped: Grouped[int, int] = Grouped(slow.run, max_calls=max_calls)
    first = asyncio.create_task(grouped.call(1))
    await eventually(lambda: bool(slow.batches))
    return grouped, first


async def test_calls_that_wait_together_are_made_as_one_and_each_has_its_own_result() -> None:
    slow = Slow()
    grouped, first = await _begun(slow)
    others = [asyncio.create_task(grouped.call(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    slow.go.set()

    assert [2, 4, 6, 8] == await asyncio.gather(first, *others)
    assert [(1,), (2, 3, 4)] == slow.batches


async def test_a_batch_has_a_bound() -> None:
    slow = Slow()
    grouped, first = await _begun(slow, max_calls=2)
    others = [asyncio.create_task(grouped.call(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    slow.go.set()

    assert [2, 4, 6, 8] == await asyncio.gather(first, *others)
    assert [(1,), (2, 3), (4,)] == slow.batches


async def test_an_error_is_everybodys_of_that_batch_and_of_no_other() -> None:
    slow = Slow()
    grouped, first = await _begun(slow)
    others = [asyncio.create_task(grouped.call(number)) for number in (2, -3)]
    await asyncio.sleep(0)
    slow.go.set()

    assert 2 == await first
    for other in others:
        with pytest.raises(ValueError, match="-3"):
            await other
    assert 8 == await grouped.call(4)


async def test_when_the_one_that_makes_the_call_is_cancelled_the_others_are_made_again() -> None:
    slow = Slow()
    grouped, first = await _begun(slow)
    second, third = (asyncio.create_task(grouped.call(number)) for number in (2, 3))
    await asyncio.sleep(0)
    first.cancel()
    await eventually(lambda: 2 == len(slow.batches))
    second.cancel()
    await eventually(lambda: 3 == len(slow.batches))
    slow.go.set()

    assert 6 == await third
    assert [(1,), (2, 3), (3,)] == slow.batches


async def test_whoever_is_cancelled_while_it_waits_is_in_nobodys_way() -> None:
    slow = Slow()
    grouped, first = await _begun(slow)
    second, third = (asyncio.create_task(grouped.call(number)) for number in (2, 3))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    slow.go.set()

    assert [2, 6] == [await first, await third]
    assert [(1,), (3,)] == slow.batches


async def test_a_turn_that_comes_to_one_that_is_cancelled_goes_to_the_next() -> None:
    slow = Slow()
    slow.go.set()
    grouped: Grouped[int, int] = Grouped(slow.run, max_calls=1)
    slow.go.clear()
    first, second, third = (asyncio.create_task(grouped.call(number)) for number in (1, 2, 3))
    await eventually(lambda: bool(slow.batches))
    # The turn is second's, and it does not run before it is cancelled.
    first.add_done_callback(lambda _first: second.cancel())
    slow.go.set()

    assert [2, 6] == [await first, await third]
    assert second.cancelled() or second.result() == 4
    assert 8 == await grouped.call(4)
