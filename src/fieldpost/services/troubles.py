"""What went wrong lately for want of something, by the part that it stopped: told by `/ready`.

For a while after the last time, so that what fails, pauses and tries again is not well in between.
"""

from collections.abc import Sequence

from fieldpost.clock import Clock
from fieldpost.errors import UnavailableError

#: Longer than any part pauses before it tries again.
_REMEMBERED_SECONDS = 20.0


class Troubles:
    """One for a process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: When each was last seen, and why.
        self._seen: dict[str, tuple[float, str]] = {}

    def note(self, part: str, error: Exception) -> None:
        """This part could not do its work.

        Args:
            part: one of few names.
        """
        self._seen[part] = (self._clock.monotonic(), _reason(error))

    def current(self) -> Sequence[str]:
        """Which parts fail, and why, in words that anyone may read: no detail of an error is among them."""
        since = self._clock.monotonic() - _REMEMBERED_SECONDS
        return sorted(f"{part}: {why}" for part, (seen_at, why) in self._seen.items() if seen_at > since)


def _reason(error: Exception) -> str:
    """What is wrong; what that means for a caller who posts is not said, for there is none here."""
    return error.title.partition(";")[0].rstrip(".") if isinstance(error, UnavailableError) else "an internal error"
