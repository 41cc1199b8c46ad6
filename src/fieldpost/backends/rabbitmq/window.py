"""How many messages the broker may send at once: `prefetch` of them, fewer while they are large.

RabbitMQ bounds what it sends by number alone (it refuses `prefetch_size`), and small messages need a large number to flow.
"""

from typing import Final

#: More the protocol cannot say.
_MAX_MESSAGES: Final = 65_535


class Window:
    """Learns from the sizes of what comes. Sizes vary, so it is made to fit half of what may be kept."""

    def __init__(self, prefetch: int) -> None:
        self._most = min(prefetch, _MAX_MESSAGES)
        #: As many may be on their way, of each queue.
        self.messages = self._most
        self._came = 0
        self._came_bytes = 0

    def note(self, size_bytes: int) -> None:
        """A message has come."""
        self._came += 1
        self._came_bytes += size_bytes

    def narrow(self, max_bytes: int) -> None:
        """More has come than may be kept: at most half as many from now on."""
        self.messages = max(1, min(self.messages // 2, self._fitting(max_bytes)))
        self._came = self._came_bytes = 0

    def widen(self, max_bytes: int) -> bool:
        """Whether what came since is so much smaller that twice as many fit; so many it is from now on."""
        if self._came < self.messages:
            return False
        fitting = min(self._most, self._fitting(max_bytes))
        self._came = self._came_bytes = 0
        if fitting <= self.messages or (fitting < self._most and fitting < 2 * self.messages):
            return False
        self.messages = fitting
        return True

    def _fitting(self, max_bytes: int) -> int:
        return max_bytes // 2 * self._came // max(self._came_bytes, 1)
