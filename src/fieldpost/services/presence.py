"""This process in the registry of instances: announced every few seconds, withdrawn when it stops."""

from collections.abc import Callable, Sequence

import msgspec

from fieldpost.clock import Clock
from fieldpost.messages.instances import Instance
from fieldpost.ports.instances import Instances

#: Two announcements may go missing before an instance counts as gone.
_ANNOUNCE_SECONDS = 2.0
TTL_SECONDS = 3 * _ANNOUNCE_SECONDS


class Presence:
    """One instance's entries, one for each of its roles."""

    def __init__(
        self,
        *,
        instances: Instances,
        clock: Clock,
        entries: Sequence[Instance],
        ready: Callable[[], Sequence[str]],
    ) -> None:
        self._instances = instances
        self._clock = clock
        self._entries = entries
        self._ready = ready

    async def run(self) -> None:
        """Announces until cancelled."""
        while True:
            is_ready = not self._ready()
            for entry in self._entries:
                await self._instances.announce(
                    msgspec.structs.replace(entry, is_ready=is_ready), ttl_seconds=TTL_SECONDS
                )
            await self._clock.sleep(_ANNOUNCE_SECONDS)

    async def withdraw(self) -> None:
        """Takes this process off the registry."""
        for entry in self._entries:
            await self._instances.withdraw(entry.id)
