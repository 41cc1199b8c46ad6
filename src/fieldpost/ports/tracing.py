"""The tracer: tells somebody else's collector what was done for a request, when, and how long it took.

Never in the way: nothing here waits for the collector, and what it does not take in time is dropped.
"""

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol


class Tracer(Protocol):
    """Tells of spans, each of which names the one that it is part of."""

    @property
    def is_on(self) -> bool:
        """Whether anybody is told: without, nothing need be gone through just to be told."""
        ...

    def span(
        self, name: str, traceparent: str, *, started_at: datetime | None = None, **attributes: str | int
    ) -> AbstractContextManager[str]:
        """A span while the context lasts; gives the traceparent by which others are part of it. An error ends it as failed.

        Args:
            traceparent: what it is part of; empty begins a trace. What is not to be recorded (its flag) is not told.
            started_at: when it began, if before now.
        """
        ...
