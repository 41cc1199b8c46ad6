"""What people see, on a terminal of 80 columns."""

import io

import pytest
from rich.console import Console, RenderableType

from fieldpost.fleet.journal import Exchange
from fieldpost.fleet.snapshot import Row, Snapshot
from fieldpost.fleet.summary import Latency, Summary
from fieldpost.fleet.table import closing, line, live
from fieldpost.messages.devices import DeviceKind
from fieldpost.messages.requests import Channel


def _rendered(what: RenderableType) -> list[str]:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def _snapshot() -> Snapshot:
    rows = [
        Row(kind=kind, door=door, devices=100, away=12, sent=12345, answered=12340, refused=2)
        for kind in DeviceKind
        for door in Channel
    ]
    exchange = Exchange(
        name="demo warehouse 17", door=Channel.HTTP, question="How? [bold]" + "q" * 200, answer="So. " + "a" * 200
    )
    return Snapshot(
        phase="asking",
        elapsed_seconds=12.3,
        seconds=30.0,
        server_is_up=False,
        reconnects=99,
        rows=rows,
        latest=[exchange] * 3,
    )


def _summary(**changes: object) -> Summary:
    latency = Latency(count=10, p50=0.0123, p95=1.5, p99=12.0)
    values: dict[str, object] = {
        "devices": 30,
        "seconds": 31.2,
        "sent": 12,
        "accepted": 10,
        "answered": 10,
        "failed": 0,
        "lost": [],
        "duplicated": [],
        "unexpected": [],
        "refused": {},
        "unknown": 0,
        "late": 0,
        "reconnects": 4,
        "latency_seconds": {"http": latency, "folder": Latency(count=0, p50=None, p95=None, p99=None)},
    }
    return Summary(**{**values, **changes})  # type: ignore[arg-type]


def test_the_table_fits_a_small_terminal_and_wraps_nothing() -> None:
    lines = _rendered(live(_snapshot()))

    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert 1 == sum("truck       http" in each for each in lines)
    assert "asking, 12 of 30 s, the server is away; dropped off and came back 99 times" == lines[0].rstrip()
    assert 3 == sum("warehouse 17 How? [bold]qqq" in each and each.endswith("…") for each in lines)


def test_the_table_adds_up() -> None:
    (all_of_them,) = (each for each in _rendered(live(_snapshot())) if each.strip().startswith("all"))

    assert ["all", "900", "108", "111105", "111060", "27"] == all_of_them.split()


def test_a_line_says_the_same() -> None:
    told = line(_snapshot())

    assert (
        "asking, 12 of 30 s, the server is away: sent 111105, answered 111060, in flight 27, away 108, came back 99 times"
    ) == told


def test_a_kept_run_says_so_last() -> None:
    lines = _rendered(closing(_summary(failed=3, late=2)))

    assert "Nothing was lost, nothing was answered twice." == lines[-1]
    assert "answered    10 (3 with an error)" in lines
    assert "From asking to the answer in hand; 2 more waited for their device:" in lines
    (http,) = (each.split() for each in lines if each.strip().startswith("http"))
    assert ["http", "10", "0.012", "s", "1.500", "s", "12.000", "s"] == http
    assert not any("folder" in each for each in lines)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"lost": ["a", "b"]}, "lost: a, b"),
        ({"duplicated": ["a"]}, "duplicated: a"),
        ({"unexpected": [str(number) for number in range(7)]}, "unexpected: 0, 1, 2, 3, 4 and 2 more"),
    ],
)
def test_a_broken_promise_is_named_and_said_last(changes: dict[str, object], shown: str) -> None:
    lines = _rendered(closing(_summary(**changes)))

    assert shown in lines
    assert "A promise was broken." == lines[-1]


def test_refusals_tell_their_reasons() -> None:
    lines = _rendered(closing(_summary(accepted=0, answered=0, refused={"The disk is full.": 12}, unknown=1)))

    assert "refused     12: The disk is full." in lines
    assert "unknown     1: sent, and nobody said what became of it" in lines
    assert "Nothing was accepted, so nothing was shown." == lines[-1]
