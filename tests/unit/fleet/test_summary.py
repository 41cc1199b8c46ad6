"""What a run comes to; each planted fault makes it one that is not kept."""

from collections.abc import Mapping, Sequence
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldpost.fleet.history import Event
from fieldpost.fleet.summary import Summary, percentile, summarize

Kind = Literal["accepted", "unknown", "delivered", "acked"]


def _history(*events: tuple[Kind, str, str]) -> list[Event]:
    return [Event(kind=kind, device=1, request=request, answer=answer) for kind, request, answer in events]


def _answered(*requests: str) -> list[Event]:
    return [
        event
        for request in requests
        for event in _history(
            ("unknown", request, ""), ("accepted", request, ""), ("delivered", request, "42"), ("acked", request, "")
        )
    ]


def _summary(
    history: Sequence[Event],
    *,
    refused: Mapping[str, int] | None = None,
    latencies: Mapping[str, Sequence[float]] | None = None,
) -> Summary:
    return summarize(
        history,
        devices=3,
        seconds=30.04,
        failed=0,
        refused=refused or {},
        late=0,
        reconnects=0,
        latencies=latencies or {},
    )


def test_a_run_in_which_everything_was_answered_once_is_kept() -> None:
    summary = _summary(_answered("a", "b"))

    assert (2, 2, 2) == (summary.sent, summary.accepted, summary.answered)
    assert 30.0 == summary.seconds
    assert summary.is_kept


@pytest.mark.parametrize(
    ("fault", "history"),
    [
        ("lost", _history(("unknown", "x", ""), ("accepted", "x", ""))),
        ("duplicated", _history(("unknown", "x", ""), ("delivered", "x", "1"), ("delivered", "x", "2"))),
        ("duplicated", [*_answered("x"), *_history(("delivered", "x", "42"))]),
        ("unexpected", _history(("delivered", "x", "42"))),
    ],
)
def test_one_fault_among_many_good_answers_breaks_the_run(fault: str, history: list[Event]) -> None:
    summary = _summary([*_answered("a", "b"), *history, *_answered("c")])

    assert ["x"] == getattr(summary, fault)
    assert not summary.is_kept


def test_what_is_wrong_in_two_ways_is_counted_once() -> None:
    summary = _summary([*_answered("x"), *_history(("delivered", "x", "another"))])

    assert ["x"] == summary.duplicated


def test_an_answer_shows_that_its_request_was_accepted() -> None:
    summary = _summary(_history(("unknown", "a", ""), ("delivered", "a", "42")))

    assert (1, 1, 0) == (summary.accepted, summary.answered, summary.unknown)


def test_what_was_refused_or_has_no_outcome_promises_nothing() -> None:
    sent = _history(("unknown", "refused", ""), ("unknown", "silent", ""))

    summary = _summary([*_answered("a"), *sent], refused={"The disk is full.": 1})

    assert (3, 1, 1) == (summary.sent, summary.accepted, summary.unknown)
    assert summary.is_kept


def test_a_run_in_which_nothing_was_accepted_shows_nothing() -> None:
    assert not _summary([]).is_kept
    assert not _summary(_history(("unknown", "a", "")), refused={"The disk is full.": 1}).is_kept


def test_latencies_are_told_by_door_and_together() -> None:
    latencies = {"http": [0.3, 0.1, 0.2], "folder": [], "websocket": [9.0]}

    told = _summary(_answered("a"), latencies=latencies).latency_seconds

    assert (3, 0.2, 0.3, 0.3) == (told["http"].count, told["http"].p50, told["http"].p95, told["http"].p99)
    assert (0, None) == (told["folder"].count, told["folder"].p50)
    assert (4, 0.2, 9.0) == (told["total"].count, told["total"].p50, told["total"].p99)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_percentile_is_a_value_that_so_many_are_not_above(values: list[float], fraction: float) -> None:
    ordered = sorted(values)

    value = percentile(ordered, fraction)

    assert value is not None
    assert sum(each <= value for each in ordered) >= fraction * len(ordered) * (1 - 1e-9)
    assert sum(each < value for each in ordered) < fraction * len(ordered) * (1 + 1e-9)
