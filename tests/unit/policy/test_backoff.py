"""How long clients wait before they try again, by tables and properties."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldpost.policy.backoff import (
    HEALTHY_SECONDS,
    MAX_RESTART_SECONDS,
    SPREAD_FRACTION,
    delay_seconds,
    ends_in_a_row,
    restart_seconds,
)

_sources = st.integers().map(random.Random)
_failures = st.integers(min_value=1, max_value=10_000)


@pytest.mark.parametrize(("failures", "step"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30), (5000, 30)])
def test_steps_double_until_the_cap(failures: int, step: float) -> None:
    delays = [delay_seconds(failures, source=random.Random(seed)) for seed in range(100)]

    assert step <= min(delays)
    assert max(delays) <= step * (1 + SPREAD_FRACTION)


@given(_failures, _sources, st.floats(min_value=0, max_value=1e6))
def test_never_sooner_than_asked_for_and_not_much_later(
    failures: int, source: random.Random, retry_after_seconds: float
) -> None:
    delay = delay_seconds(failures, source=source, cap_seconds=30, retry_after_seconds=retry_after_seconds)

    assert delay >= retry_after_seconds
    assert delay <= max(30, retry_after_seconds) + 30 * SPREAD_FRACTION


@given(_failures)
def test_a_fleet_does_not_come_back_all_at_once(failures: int) -> None:
    source = random.Random(1)

    delays = {delay_seconds(failures, source=source, retry_after_seconds=60) for _ in range(50)}

    assert 50 == len(delays)


@pytest.mark.parametrize(("ends", "seconds"), [(1, 0.2), (2, 0.4), (3, 0.8), (6, 6.4), (7, 10), (8, 10), (5000, 10)])
def test_what_ends_again_and_again_rests_longer_until_the_cap(ends: int, seconds: float) -> None:
    assert seconds == pytest.approx(restart_seconds(ends))


@given(_failures)
def test_what_was_healthy_for_long_begins_anew(ends: int) -> None:
    assert ends + 1 == ends_in_a_row(ends, ran_seconds=HEALTHY_SECONDS)
    assert 1 == ends_in_a_row(ends, ran_seconds=HEALTHY_SECONDS + 1)
    assert restart_seconds(ends) <= MAX_RESTART_SECONDS
