"""Which of the news everybody has."""

import time
from collections import Counter

#: Shorter texts are no news.
_LEAST_BYTES = 200


def is_news(text: bytes) -> bool:
    """Whether it is what all were to have, and nothing that is said beside it."""
    return len(text) >= _LEAST_BYTES


class News:
    """Counts, for each of the news, who has it; they come to everybody in the order in which they were called for."""

    def __init__(self, listeners: int) -> None:
        self._listeners = listeners
        self._called: list[float] = []
        self._arrived: Counter[int] = Counter()

    def call(self) -> None:
        """One more was called for."""
        self._called.append(time.perf_counter())

    def arrive(self, number: int) -> float | None:
        """When it was called for, if this was the last who did not have it."""
        self._arrived[number] += 1
        if self._arrived[number] < self._listeners:
            return None
        del self._arrived[number]
        return self._called[number]
