"""What follows an attempt that ended without an answer: another one after a wait, or the end."""

from typing import Final

#: The step doubles this often at most, so that the power stays small.
_MAX_DOUBLINGS: Final = 32


def retry_delay_seconds(
    failures: int,
    *,
    max_attempts: int,
    first_seconds: float,
    cap_seconds: float,
    retry_after_seconds: float | None,
) -> float | None:
    """Seconds before the next attempt, or None when there is none.

    Args:
        failures: attempts that ended without an answer, this one included; at least 1.
        retry_after_seconds: what the model asked for; waited even beyond the cap.

    >>> [retry_delay_seconds(n, max_attempts=4, first_seconds=1, cap_seconds=3, retry_after_seconds=None)
    ...  for n in (1, 2, 3, 4)]
    [1.0, 2.0, 3.0, None]
    """
    if failures >= max_attempts:
        return None
    step = min(cap_seconds, first_seconds * 2.0 ** min(failures - 1, _MAX_DOUBLINGS))
    return max(step, retry_after_seconds or 0.0)
