"""How long to wait before the same call is made again: 1, 2, 4, … seconds, spread, and never sooner than asked for.

Source: design, "Limits": clients back off 1, 2, 4, … s.
"""

import random
from typing import Final

#: The step doubles this often at most, so that the power stays small.
_MAX_DOUBLINGS: Final = 32
#: The wait is longer than its step by up to this part of it, so that a fleet does not come back all at once.
SPREAD_FRACTION: Final = 0.5


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
    step = min(cap_seconds, first_seconds * 2.0 ** min(failures - 1, _MAX_DOUBLINGS))
    return max(step, retry_after_seconds) + step * SPREAD_FRACTION * source.random()
