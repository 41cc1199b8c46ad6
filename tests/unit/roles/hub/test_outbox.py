"""Frames on their way out: in order, bounded, and nobody waits for nothing."""

import asyncio

from fieldpost.roles.hub.budget import Budget
from fieldpost.roles.hub.outbox import Outbox
from tests.support.waiting import eventually


def _outbox(*, max_items: int, max_bytes: int, budget: Budget | None = None) -> Outbox:
    return Outbox(max_items=max_items, max_bytes=max_bytes, budget=budget or Budget(max_bytes=1000, readers=1))


async def test_what_is_put_is_taken_in_order() -> None:
    outbox = _outbox(max_items=10, max_bytes=100)
    for payload in (b"1", b"2", b"3"):
        outbox.put(payload)

    assert [b"1", b"2", b"3"] == [(await outbox.take()).payload for _ in range(3)]
    assert outbox.take_now() is None


async def test_a_full_outbox_lets_the_next_wait_until_something_is_taken() -> None:
    for outbox in (_outbox(max_items=2, max_bytes=100), _outbox(max_items=100, max_bytes=2)):
        outbox.put(b"1")
        outbox.put(b"2")
        waiting = asyncio.create_task(outbox.put_in_turn(b"3"))
        await asyncio.sleep(0)

        assert not outbox.has_room
        assert not waiting.done()

        await outbox.take()
        await asyncio.wait_for(waiting, 10)
        assert [b"2", b"3"] == [(await outbox.take()).payload for _ in range(2)]


async def test_a_cancelled_take_loses_nothing() -> None:
    outbox = _outbox(max_items=2, max_bytes=100)
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    taking.cancel()
    await asyncio.wait([taking])
    outbox.put(b"1")

    assert b"1" == (await outbox.take()).payload


async def test_what_comes_when_the_wait_is_just_over_is_not_passed_over() -> None:
    outbox = _outbox(max_items=2, max_bytes=100)
    # In one turn of the loop: something is put, then the time is over.
    asyncio.get_running_loop().call_soon(outbox.put, b"1")

    item = await outbox.take_within(0)

    assert item is not None
    assert b"1" == item.payload


async def test_nothing_comes_of_a_wait_in_which_nothing_was_put() -> None:
    assert await _outbox(max_items=2, max_bytes=100).take_within(0) is None


async def test_it_is_emptied_when_the_writer_comes_back_for_more() -> None:
    outbox = _outbox(max_items=2, max_bytes=100)
    outbox.put(b"last words")
    emptied = asyncio.create_task(outbox.emptied())

    await outbox.take()
    await asyncio.sleep(0)
    assert not emptied.done()

    writing = asyncio.create_task(outbox.take())
    await eventually(emptied.done)
    writing.cancel()
