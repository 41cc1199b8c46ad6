"""When Python looks for cycles of garbage: seldom, and not among what is there for good.

By default each look at the oldest objects walks all that doors remember and queues hold, hundreds of thousands of them, and
stops every call meanwhile: that was most of the time of the slowest one in a hundred.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

#: Objects made and not freed before the youngest are looked through; rounds of these before the older and the oldest are.
_THRESHOLDS = (10_000, 20, 50)


@contextmanager
def seldom() -> Iterator[None]:
    """While the context lasts; what there is at its beginning is not looked through at all."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
