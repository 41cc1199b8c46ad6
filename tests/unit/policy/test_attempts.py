"""When another attempt follows, and when it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldpost.policy.attempts import retry_delay_seconds


def _delay(
    failures: int,
    *,
    max_attempts: int = 100,
    first_seconds: float = 1.0,
    cap_seconds: float = 60.0,
    retry_after_seconds: float | None = None,
) -> float | None:
    return retry_delay_seconds(
        failures,
        max_attempts=max_attempts,
        first_seconds=first_seconds,
        cap_seconds=cap_seconds,
        retry_after_seconds=retry_after_seconds,
    )


@pytest.mark.parametrize(
    ("failures", "expected"), [(1, 1), (2, 2), (3, 4), (4, 8), (6, 32), (7, 60), (8, 60), (99, 60), (100, None)]
)
def test_waits_double_up_to_the_cap_and_end_with_the_last_attempt(failures: int, expected: float | None) -> None:
    assert expected == _delay(failures)


def test_a_single_attempt_is_never_followed_by_another() -> None:
    assert _delay(1, max_attempts=1) is None
    assert _delay(1, max_attempts=1, retry_after_seconds=5) is None


@pytest.mark.parametrize(("asked", "expected"), [(None, 4), (0, 4), (3, 4), (10, 10), (600, 600)])
def test_what_the_model_asks_for_is_waited_also_beyond_the_cap(asked: float | None, expected: float) -> None:
    assert expected == _delay(3, retry_after_seconds=asked)


def test_more_failures_than_attempts_end_it_too() -> None:
    assert _delay(101) is None


@given(
    failures=st.integers(min_value=1, max_value=10**9),
    first_seconds=st.floats(min_value=0.001, max_value=1e6),
    cap_seconds=st.floats(min_value=0.001, max_value=1e6),
)
def test_a_wait_is_never_longer_than_the_cap_nor_shorter_than_the_one_before(
    failures: int, first_seconds: float, cap_seconds: float
) -> None:
    waits = [
        _delay(number, max_attempts=10**10, first_seconds=first_seconds, cap_seconds=cap_seconds)
        for number in (failures, failures + 1)
    ]

    assert waits[0] is not None
    assert waits[1] is not None
    assert 0 < waits[0] <= waits[1] <= cap_seconds
