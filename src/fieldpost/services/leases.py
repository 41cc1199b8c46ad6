"""Doing something in one place only: while this instance holds a lease, for efficiency; the ledger protects the data."""

from fieldpost.clock import Clock
from fieldpost.ports.shared import Leases


class HeldLease:
    """One named lease, renewed when half its time is over."""

    def __init__(self, *, leases: Leases, clock: Clock, name: str, holder: str, ttl_seconds: float) -> None:
        self._leases = leases
        self._clock = clock
        self._name = name
        self._holder = holder
        self._ttl_seconds = ttl_seconds
        self._renew_at = 0.0
        self._is_held = False

    async def is_held(self) -> bool:
        """Whether this instance holds the lease now; asks the engine only when it is time to."""
        now = self._clock.monotonic()
        if not self._is_held or now >= self._renew_at:
            self._renew_at = now + self._ttl_seconds / 2
            self._is_held = await self._leases.acquire(self._name, holder=self._holder, ttl_seconds=self._ttl_seconds)
        return self._is_held

    async def release(self) -> None:
        """Lets another instance have it at once."""
        self._is_held = False
        await self._leases.release(self._name, holder=self._holder)
