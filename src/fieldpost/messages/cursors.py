"""Opaque cursors for pages: a time and an id, or a number."""

import base64
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

from fieldpost.errors import InvalidRequestError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_BYTES = 8
_MAX_MICROSECONDS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
#: What a cursor looks like.
CURSOR_PATTERN = "^[A-Za-z0-9_-]{32}$"


def write_cursor(at: datetime, request_id: UUID) -> str:
    """Shape: base64url of 8 bytes of microseconds and 16 bytes of id."""
    microseconds = (at - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(microseconds.to_bytes(_TIME_BYTES, "big") + request_id.bytes).decode()


def read_cursor(text: str) -> tuple[datetime, UUID]:
    """The time and id in a cursor.

    Raises:
        InvalidRequestError: this is not one of ours.
    """
    if not re.fullmatch(CURSOR_PATTERN, text, re.ASCII):
        raise InvalidRequestError("not a cursor of this list", errors=("after",))
    raw = base64.urlsafe_b64decode(text)
    microseconds = min(int.from_bytes(raw[:_TIME_BYTES], "big"), _MAX_MICROSECONDS)
    return _EPOCH + timedelta(microseconds=microseconds), UUID(bytes=raw[_TIME_BYTES:])
