"""What the fleet remembers of its requests, on a clock that is turned by hand."""

from uuid import uuid4

import pytest

from fieldpost.fleet.history import check
from fieldpost.fleet.journal import MAX_REQUESTS, Journal, Post
from fieldpost.messages.devices import DeviceKind
from fieldpost.messages.requests import Channel
from fieldpost.messages.responses import Response
from tests.support.clock import FakeClock
from tests.support.messages import a_request, a_response
from tests.unit.fleet.conftest import a_member

MEMBER = a_member()
GROUP = (DeviceKind.TRUCK, Channel.HTTP)


@pytest.fixture
def journal(clock: FakeClock) -> Journal:
    return Journal(clock=clock)


def _ask(journal: Journal) -> Post:
    return journal.asked(MEMBER, request=str(uuid4()), name="question-1", question="How long may I drive?")


def _answer(post: Post, text: str = "Nine hours.") -> Response:
    return a_response(a_request(id=post.id), text=text)


def test_a_request_is_open_until_its_answer_is_acknowledged(journal: Journal) -> None:
    post = _ask(journal)
    journal.accepted(post)
    assert [post] == journal.open_posts(MEMBER)
    assert not journal.is_answered

    journal.delivered(MEMBER, post.request, _answer(post))
    assert journal.is_answered
    assert not journal.is_acknowledged

    journal.acked(post)
    assert journal.is_acknowledged
    assert [] == journal.open_posts(MEMBER)
    assert check(journal.history).is_kept


def test_the_time_from_asking_to_the_answer_is_measured(journal: Journal, clock: FakeClock) -> None:
    post = _ask(journal)
    clock.advance(2.5)
    journal.accepted(post)
    clock.advance(1.5)

    journal.delivered(MEMBER, post.request, _answer(post))
    clock.advance(60)
    journal.delivered(MEMBER, post.request, _answer(post))

    assert [4.0] == journal.latencies[Channel.HTTP]
    assert 1 == journal.answered[GROUP]


def test_an_answer_that_waited_for_its_device_is_late_and_not_measured(journal: Journal) -> None:
    post = _ask(journal)
    journal.left(MEMBER)
    assert {MEMBER.device_id} == journal.away
    journal.returned(MEMBER)

    journal.delivered(MEMBER, post.request, _answer(post))

    assert set() == journal.away
    assert (1, 1) == (journal.late, journal.reconnects)
    assert [] == journal.latencies[Channel.HTTP]


def test_a_refused_request_is_closed_with_its_reason(journal: Journal) -> None:
    post = _ask(journal)

    journal.refused_for(post, "The disk is full.")
    journal.refused_for(post, "The disk is full.")

    assert journal.is_answered
    assert [] == journal.open_posts(MEMBER)
    assert {"The disk is full.": 1} == journal.reasons
    assert 1 == journal.refused[GROUP]


def test_an_answer_after_its_acknowledgement_is_a_fault(journal: Journal) -> None:
    post = _ask(journal)
    journal.delivered(MEMBER, post.request, _answer(post))
    journal.acked(post)

    journal.delivered(MEMBER, post.request, _answer(post))

    assert [post.request] == check(journal.history).repeated


def test_another_answer_to_the_same_request_is_a_fault(journal: Journal) -> None:
    post = _ask(journal)
    journal.delivered(MEMBER, post.request, _answer(post))

    journal.delivered(MEMBER, post.request, _answer(post, "Ten hours."))

    assert [post.request] == check(journal.history).contradicted


def test_an_answer_that_nobody_asked_for_is_a_fault(journal: Journal) -> None:
    request = a_request()

    assert journal.delivered(MEMBER, str(request.id), a_response(request)) is None
    assert [str(request.id)] == check(journal.history).unexpected


def test_an_answer_is_shown_on_one_line_without_its_marks(journal: Journal) -> None:
    post = _ask(journal)

    text = "From rest.md, Rest:\n\n> - At least **11 hours**\n>   in one piece.\n>\n> | kind | hours |\n> | --- | --- |"
    journal.delivered(MEMBER, post.request, _answer(post, text))

    (exchange,) = journal.latest
    assert ("How long may I drive?", "At least 11 hours in one piece. kind hours") == (
        exchange.question,
        exchange.answer,
    )


def test_memory_is_bounded(journal: Journal) -> None:
    for number in range(MAX_REQUESTS - 1):
        journal.asked(MEMBER, request=f"{number}", name="", question="")
    assert not journal.is_full

    journal.asked(MEMBER, request="the last", name="", question="")

    assert journal.is_full
