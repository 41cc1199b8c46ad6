"""The checker must find what it is there to find: each planted fault turns it red."""

from typing import Literal

import pytest

from fieldpost.fleet.history import Event, Verdict, check

Kind = Literal["accepted", "unknown", "delivered", "acked"]


def _history(*events: tuple[Kind, str, str]) -> list[Event]:
    return [Event(kind=kind, device=1, request=request, answer=answer) for kind, request, answer in events]


def test_a_kept_promise_is_no_fault() -> None:
    history = _history(("accepted", "a", ""), ("delivered", "a", "42"), ("delivered", "a", "42"), ("acked", "a", ""))

    assert Verdict(lost=[], contradicted=[], repeated=[], unexpected=[]) == check(history)
    assert check(history).is_kept


def test_an_unknown_outcome_promises_nothing_but_may_be_answered() -> None:
    assert check(_history(("unknown", "a", ""), ("unknown", "b", ""), ("delivered", "b", "42"))).is_kept


@pytest.mark.parametrize(
    ("fault", "history"),
    [
        ("lost", _history(("accepted", "a", ""))),
        ("contradicted", _history(("accepted", "a", ""), ("delivered", "a", "1"), ("delivered", "a", "2"))),
        (
            "repeated",
            _history(("accepted", "a", ""), ("delivered", "a", "1"), ("acked", "a", ""), ("delivered", "a", "1")),
        ),
        ("unexpected", _history(("delivered", "a", "1"))),
        (
            "unexpected",
            [
                Event(kind="accepted", device=2, request="a"),
                Event(kind="delivered", device=2, request="a", answer="1"),
                Event(kind="delivered", device=1, request="a", answer="1"),
            ],
        ),
    ],
)
def test_a_planted_fault_is_found(fault: str, history: list[Event]) -> None:
    verdict = check(history)

    assert not verdict.is_kept
    assert ["a"] == getattr(verdict, fault)
