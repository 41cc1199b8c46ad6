"""What is posted, and what is told when posting fails."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from fieldpost.client.posting import Posting, post_safely, prepare
from fieldpost.client.retrying import Retrying
from fieldpost.errors import (
    BackendTimeoutError,
    FieldpostError,
    InvalidRequestError,
    OutcomeUnknownError,
    QueueFullError,
    RequestTooLargeError,
    UnauthenticatedError,
    UnreachableError,
)
from fieldpost.messages.identity import keyed_id
from fieldpost.messages.requests import MAX_BODY_BYTES, ChatMessage
from tests.support.clock import FakeClock
from tests.support.waiting import eventually


def test_a_request_without_a_key_gets_one_of_its_own() -> None:
    first, second = prepare(7, "Why?"), prepare(7, "Why?")

    assert first.request_id != second.request_id
    assert keyed_id(7, first.body.idempotency_key or "") == first.request_id


def test_a_key_that_is_given_decides_the_id() -> None:
    assert keyed_id(7, "order-1") == prepare(7, "Why?", idempotency_key="order-1").request_id


@pytest.mark.parametrize("question", [None, 7, b"Why?", {"role": "user", "content": "Why?"}, object()])
def test_what_is_no_question_is_refused_in_words(question: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"not {type(question).__name__}$"):
        prepare(7, question)


@pytest.mark.parametrize(
    "question",
    [
        [{"role": "user", "content": "Why?"}],
        [ChatMessage(role="user", content="Why?")],
        ({"role": "user", "content": "Why?"},),
    ],
)
def test_a_conversation_may_be_asked(question: Sequence[ChatMessage | dict[str, str]]) -> None:
    body = prepare(7, question).body

    assert (ChatMessage(role="user", content="Why?"),) == body.input.messages
    assert body.input.prompt is None


@pytest.mark.parametrize(
    ("question", "options", "member"),
    [
        ("", {}, "input.prompt"),
        ([], {}, "input.messages"),
        ([{"role": "robot", "content": "x"}], {}, "input.messages"),
        ("Why?", {"idempotency_key": ""}, "idempotency_key"),
        ("Why?", {"idempotency_key": "x" * 256}, "idempotency_key"),
        ("Why?", {"deadline_seconds": 0}, "deadline_seconds"),
        ("Why?", {"priority": "urgent"}, "priority"),
        ("\ud800", {}, "surrogates"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_it_is_sent(question: str, options: dict[str, str], member: str) -> None:
    with pytest.raises(InvalidRequestError, match=member):
        prepare(7, question, **options)


def test_what_is_too_large_is_refused_before_it_is_sent() -> None:
    with pytest.raises(RequestTooLargeError):
        prepare(7, "x" * MAX_BODY_BYTES)


async def _fail(clock: FakeClock, posting: Posting, errors: Sequence[FieldpostError]) -> FieldpostError:
    left = list(errors)

    async def send() -> UUID:
        raise left.pop(0)

    retrying = Retrying(clock=clock, source=random.Random(1))
    posted = asyncio.create_task(post_safely(posting, send, retrying=retrying, give_up_seconds=1.5 * len(errors) - 1.5))

    async def is_over() -> bool:
        clock.advance(0.1)
        await asyncio.sleep(0)
        return posted.done()

    await eventually(is_over)
    error = posted.exception()
    assert isinstance(error, FieldpostError)
    return error


async def test_giving_up_names_the_request(clock: FakeClock) -> None:
    posting = prepare(7, "Why?", idempotency_key="order-1")

    error = await _fail(clock, posting, [UnreachableError("nobody is there")])

    assert isinstance(error, UnreachableError)
    assert f"nobody is there (request {posting.request_id})" == error.detail
    assert "order-1" == error.data["idempotency_key"]


@pytest.mark.parametrize("doubt", [OutcomeUnknownError("cut off"), BackendTimeoutError("no confirm")])
@pytest.mark.parametrize("last", [QueueFullError("full"), UnauthenticatedError("rotated")])
async def test_what_may_have_been_accepted_is_never_called_refused(
    clock: FakeClock, doubt: FieldpostError, last: FieldpostError
) -> None:
    posting = prepare(7, "Why?", idempotency_key="order-1")

    error = await _fail(clock, posting, [doubt, last])

    assert isinstance(error, OutcomeUnknownError)
    assert str(posting.request_id) in error.detail
    assert "order-1" in error.detail
    assert str(last) in error.detail


async def test_what_is_refused_at_once_is_told_as_it_is(clock: FakeClock) -> None:
    error = await _fail(clock, prepare(7, "Why?"), [UnauthenticatedError("a wrong key")])

    assert isinstance(error, UnauthenticatedError)
    assert "a wrong key" in error.detail
