"""When a server wants to be asked again. Pure. Source: RFC 9110, section 10.2.3."""

from email.utils import parsedate_to_datetime

#: A server that wants longer is asked again after this time.
MAX_SECONDS = 3600.0


def retry_after_seconds(value: str | None, *, date: str | None) -> float | None:
    """The wait that a `Retry-After` header asks for, at most `MAX_SECONDS`; None when it says nothing.

    Args:
        date: the same reply's `Date`: a time is told by the server's clock, and so is measured by it.

    >>> [retry_after_seconds(value, date=None) for value in ("2", "0.5", "999999", "-1", "soon", None)]
    [2.0, 0.5, 3600.0, None, None, None]
    >>> retry_after_seconds("Fri, 02 Jan 2026 03:04:35 GMT", date="Fri, 02 Jan 2026 03:04:05 GMT")
    30.0
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = _between(date, value)
    return min(seconds, MAX_SECONDS) if seconds >= 0 else None


def _between(date: str | None, later: str) -> float:
    """Seconds, negative when one of them is not a time."""
    try:
        return max(0.0, (parsedate_to_datetime(later) - parsedate_to_datetime(date or "")).total_seconds())
    except (TypeError, ValueError):
        return -1.0
