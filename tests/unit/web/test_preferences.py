import pytest

from fieldpost.web.preferences import wait_seconds


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        ("wait=10", 10.0),
        ("respond-async, wait=10", 10.0),
        ('Wait = "7"; x=1', 7.0),
        ("wait=0", 0.0),
        ("wait=100000", 300.0),
        (None, None),
        ("", None),
        ("wait=ten", None),
        ("wait=-1", None),
        ("await=5", None),
        ("handling=lenient", None),
    ],
)
def test_a_wish_to_wait_is_read_up_to_the_cap(prefer: str | None, expected: float | None) -> None:
    assert wait_seconds(prefer, cap=300) == expected
