"""How long to wait before the same is tried again: a call, or to run what ended.

Source: design, "Limits": clients back off 1, 2, 4, … s, spread, and never sooner than asked for.
"""

import random
from typing import Final

#: The step doubles this often at most, so that the power stays small.
_MAX_DOUBLINGS: Final = 32
#: The wait is longer than its step by up to this part of it, so that a fleet does not come back all at once.
SPREAD_FRACTION: Final = 0.5
#: What ended is started again after 0.2, 0.4 … 10 s; after 0.2 s again once it has run for a minute.
FIRST_RESTART_SECONDS: Final = 0.2
MAX_RESTART_SECONDS: Final = 10.0
HEALTHY_SECONDS: Final = 60.0


def delay_seconds(
    failures: int,
    *,
    source: random.Random,
    first_seconds: float = 1.0,
    cap_seconds: float = 30.0,
    retry_after_seconds: float = 0.0,
) -> float:
    """Seconds before the next try.

    Args:
        failures: tries that failed in a row, the last one included; at least 1.
        cap_seconds: the step grows no further than this.
        retry_after_seconds: what the server asked for; waited even beyond the cap.

    >>> [round(delay_seconds(n, source=random.Random(7), cap_seconds=4), 1) for n in (1, 2, 3, 4)]
    [1.2, 2.3, 4.6, 4.6]
    """
    step = _step_seconds(failures, first_seconds, cap_seconds)
    return max(step, retry_after_seconds) + step * SPREAD_FRACTION * source.random()


def restart_seconds(ends: int) -> float:
    """Seconds before what ended is started again; not spread, for there is one of each.

    Args:
        ends: how often it ended in a row, this time included (see `ends_in_a_row`).

    >>> [restart_seconds(n) for n in (1, 2, 3, 4, 5, 6, 7, 8)]
    [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    """
    return _step_seconds(ends, FIRST_RESTART_SECONDS, MAX_RESTART_SECONDS)


def ends_in_a_row(ends_before: int, *, ran_seconds: float) -> int:
    """How often something that ended now has ended in a row: one that was healthy for long begins anew.

    >>> ends_in_a_row(5, ran_seconds=3), ends_in_a_row(5, ran_seconds=61)
    (6, 1)
    """
    return 1 if ran_seconds > HEALTHY_SECONDS else ends_before + 1


def _step_seconds(failures: int, first_seconds: float, cap_seconds: float) -> float:
    return min(cap_seconds, first_seconds * 2.0 ** min(failures - 1, _MAX_DOUBLINGS))
