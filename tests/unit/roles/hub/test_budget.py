"""What all sessions of a hub have unsent, together."""

import asyncio

from fieldpost.roles.hub.budget import Budget
from fieldpost.roles.hub.outbox import Outbox
from tests.support.waiting import eventually


def _outbox(budget: Budget) -> Outbox:
    return Outbox(max_items=100, max_bytes=1000, budget=budget)


async def test_what_the_writer_has_in_hand_counts_until_it_comes_back() -> None:
    budget = Budget(max_bytes=100, readers=1)
    with _outbox(budget) as outbox:
        outbox.put(b"12345")
        outbox.put(b"678")
        counts = [budget.unsent_bytes]
        while outbox.take_now() is not None:
            counts.append(budget.unsent_bytes)
        counts.append(budget.unsent_bytes)

    assert [8, 8, 3, 0] == counts


async def test_a_session_that_ends_gives_all_of_it_back() -> None:
    budget = Budget(max_bytes=100, readers=1)
    with _outbox(budget) as outbox:
        outbox.put(b"12345")
        outbox.put(b"678")
        outbox.take_now()

    assert 0 == budget.unsent_bytes
    # Last words of a session that is gone already.
    outbox.put(b"draining")
    assert 0 == budget.unsent_bytes


async def test_a_session_over_its_share_waits_and_others_do_not() -> None:
    budget = Budget(max_bytes=20, readers=1)
    with _outbox(budget) as greedy, _outbox(budget) as modest:
        greedy.put(b"0123456789")
        modest.put(b"01234")

        assert (False, True) == (greedy.has_room, modest.has_room)
        greedy.take_now()
        greedy.take_now()
        assert greedy.has_room


async def test_words_that_can_wait_nowhere_else_go_out_although_the_hub_has_no_room() -> None:
    budget = Budget(max_bytes=20, readers=1)
    with _outbox(budget) as full, _outbox(budget) as empty:
        full.put(b"x" * 30)

        assert empty.has_room
        assert not empty.has_room_for_answers


async def test_pages_are_read_in_turn_once_there_is_room() -> None:
    budget = Budget(max_bytes=10, readers=1)
    order: list[str] = []

    async def read(name: str) -> None:
        async with budget.turn():
            order.append(name)

    with _outbox(budget) as slow:
        slow.put(b"x" * 10)
        async with asyncio.TaskGroup() as tasks:
            for name in "abc":
                tasks.create_task(read(name))
                await asyncio.sleep(0)
            given_up = tasks.create_task(read("given up"))
            await asyncio.sleep(0)
            assert not order
            given_up.cancel()
            slow.take_now()
            assert not order
            slow.take_now()
            await eventually(lambda: 3 == len(order))

    assert ["a", "b", "c"] == order


async def test_who_gives_up_while_it_is_first_in_turn_lets_the_next_one_go() -> None:
    budget = Budget(max_bytes=10, readers=1)
    is_read = asyncio.Event()

    async def read() -> None:
        async with budget.turn():
            is_read.set()

    with _outbox(budget) as slow:
        slow.put(b"x" * 10)
        first = asyncio.create_task(read())
        await asyncio.sleep(0)
        second = asyncio.create_task(read())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])

    await asyncio.wait_for(second, 30)
    assert is_read.is_set()
