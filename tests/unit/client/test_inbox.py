"""Answers heard over many connections: each once to the application, acknowledged until recorded."""

import asyncio
from uuid import uuid4

import pytest

from fieldpost.client.inbox import Inbox
from fieldpost.messages.responses import Response
from tests.support.messages import a_request, a_response
from tests.support.waiting import eventually


def _answer() -> Response:
    return a_response(a_request())


async def test_answers_are_taken_in_order_each_once() -> None:
    inbox, first, second = Inbox(10), _answer(), _answer()
    for response in (first, second, first):
        await inbox.put(response)

    assert [first, second] == [await inbox.take(), await inbox.take()]
    assert inbox.is_read


async def test_what_is_in_hand_or_done_is_not_taken_again() -> None:
    inbox, held, done, other = Inbox(10), _answer(), _answer(), _answer()
    for response in (held, done):
        await inbox.put(response)
        await inbox.take()
    inbox.finish([done.request_id])
    for response in (held, done, other):
        await inbox.put(response)

    assert other == await inbox.take()
    assert inbox.is_read


async def test_what_is_done_is_told_once_and_again_over_a_new_connection_until_it_is_recorded() -> None:
    inbox, response = Inbox(10), _answer()
    await inbox.put(response)
    await inbox.take()

    assert [] == inbox.due(10)
    inbox.finish([response.request_id])
    assert [response.request_id] == inbox.due(10)
    assert [] == inbox.due(10)
    inbox.repeat()
    assert [response.request_id] == inbox.due(10)
    await inbox.settle([response.request_id])
    inbox.repeat()
    assert [] == inbox.due(10)


async def test_what_comes_again_although_it_is_done_is_told_again() -> None:
    inbox, response = Inbox(10), _answer()
    await inbox.put(response)
    await inbox.take()
    inbox.finish([response.request_id])
    inbox.due(10)

    await inbox.put(response)

    assert [response.request_id] == inbox.due(10)


async def test_no_more_is_told_at_once_than_a_frame_holds() -> None:
    inbox, responses = Inbox(10), [_answer() for _ in range(5)]
    for response in responses:
        await inbox.put(response)
        await inbox.take()
    inbox.finish(response.request_id for response in responses)

    told = [inbox.due(2), inbox.due(2), inbox.due(2), inbox.due(2)]

    assert [2, 2, 1, 0] == [len(ids) for ids in told]
    assert [response.request_id for response in responses] == [request_id for ids in told for request_id in ids]


async def test_only_what_is_in_hand_can_be_finished() -> None:
    inbox, unread = Inbox(10), _answer()
    await inbox.put(unread)

    inbox.finish([unread.request_id, uuid4()])

    assert [] == inbox.due(10)
    assert unread == await inbox.take()


async def test_past_its_bound_putting_waits_until_something_is_taken() -> None:
    inbox, responses = Inbox(2), [_answer() for _ in range(3)]
    for response in responses[:2]:
        await inbox.put(response)
    putting = asyncio.create_task(inbox.put(responses[2]))
    await asyncio.wait([putting], timeout=0.01)
    assert not putting.done()

    taken = [await inbox.take()]
    await eventually(putting.done)

    assert responses == [*taken, await inbox.take(), await inbox.take()]


async def test_taking_that_is_cancelled_loses_nothing() -> None:
    inbox, response = Inbox(10), _answer()
    taking = asyncio.create_task(inbox.take())
    await asyncio.wait([taking], timeout=0.01)

    taking.cancel()
    await asyncio.wait([taking])
    await inbox.put(response)

    assert response == await inbox.take()


async def test_everything_is_settled_once_the_last_is_recorded() -> None:
    inbox, response = Inbox(10), _answer()
    await inbox.settled()
    await inbox.put(response)
    await inbox.take()
    inbox.finish([response.request_id])
    settling = asyncio.create_task(inbox.settled())
    await asyncio.wait([settling], timeout=0.01)
    assert not settling.done()

    await inbox.settle([response.request_id])

    await eventually(settling.done)
    assert settling.exception() is None


async def test_the_end_is_told_after_what_is_still_unread() -> None:
    inbox, response = Inbox(10), _answer()
    await inbox.put(response)
    await inbox.end(ConnectionError("refused"))
    await inbox.end(RuntimeError("closed"))

    assert response == await inbox.take()
    with pytest.raises(ConnectionError):
        await inbox.take()
    with pytest.raises(ConnectionError):
        await inbox.settled()
