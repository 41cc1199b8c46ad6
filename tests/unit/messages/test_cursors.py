from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldpost.errors import InvalidRequestError
from fieldpost.messages.cursors import read_cursor, write_cursor


@given(st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_cursor_leads_back_to_where_it_was_made(at: datetime) -> None:
    request_id = uuid4()

    assert read_cursor(write_cursor(at, request_id)) == (at, request_id)


@given(st.from_regex("[A-Za-z0-9_-]{32}", fullmatch=True))
def test_whatever_looks_like_a_cursor_can_be_read(text: str) -> None:
    at, _ = read_cursor(text)

    assert at.tzinfo is UTC


@pytest.mark.parametrize("text", ["", "x", "A" * 31, "A" * 33, "A" * 31 + "=", "A" * 31 + "\n", "Ä" * 32])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        read_cursor(text)
