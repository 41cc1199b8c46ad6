"""How long an attempt may take."""

from datetime import datetime


def attempt_seconds(*, now: datetime, deadline_at: datetime | None, timeout_seconds: float) -> float:
    """The worker's limit, or what is left until the deadline when that is less; never negative."""
    if deadline_at is None:
        return timeout_seconds
    return max(0.0, min(timeout_seconds, (deadline_at - now).total_seconds()))
