"""How trace contexts are read and made. Source: W3C Trace Context, level 1."""

import random

import pytest

from fieldpost import tracing

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_traceparent_is_passed_on_as_it_came(flags: str) -> None:
    assert f"00-{TRACE}-{PARENT}-{flags}" == tracing.read(f"00-{TRACE}-{PARENT}-{flags}")


@pytest.mark.parametrize(
    ("sent", "passed_on"),
    [
        (f"00-{TRACE}-{PARENT}-ff", f"00-{TRACE}-{PARENT}-01"),
        (f"00-{TRACE}-{PARENT}-02", f"00-{TRACE}-{PARENT}-00"),
        (f"01-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01"),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like", f"00-{TRACE}-{PARENT}-01"),
    ],
)
def test_of_flags_and_versions_that_are_not_known_only_what_is_known_is_passed_on(sent: str, passed_on: str) -> None:
    assert passed_on == tracing.read(sent)


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "",
        "nonsense",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01\n",
        f"00-{TRACE}-{PARENT}-01, 00-{TRACE}-{PARENT}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01.more",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{PARENT}-01",
        f"00-{TRACE[:-1]}٣-{PARENT}-01",
    ],
)
def test_what_is_no_valid_traceparent_is_ignored(sent: str | None) -> None:
    assert tracing.read(sent) == ""


def test_a_trace_that_begins_here_is_valid_and_told_to_be_recorded_by_nobody() -> None:
    source = random.Random(1)

    made = [tracing.fresh(source) for _ in range(100)]

    assert made == [tracing.read(text) for text in made]
    assert {tracing.LENGTH} == {len(text) for text in made}
    assert {"00"} == {text[-2:] for text in made}
    assert len({tracing.trace_id_of(text) for text in made}) == 100


def test_all_zeros_are_never_made() -> None:
    class Zeros(random.Random):
        def getrandbits(self, k: int, /) -> int:
            return 0

    assert tracing.read(tracing.fresh(Zeros())) != ""
