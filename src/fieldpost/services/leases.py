"""Doing something in one place only: while this instance holds a lease, for efficiency; the ledger protects the data."""

from fieldpost.clock import Clock
from fieldpost.ports.shared import Leases


class HeldLease:
    """One named lease, renewed by asking for it: `is_held` extends it once half its time is over, and nothing else does.

    Whoever stops asking loses it when its time is over. Between two renewals the answer comes from memory, so another
    instance may have it already: where the engine forgot it, both hold it for up to half its time.
    """

    def __init__(self, *, leases: Leases, clock: Clock, name: str, holder: str, ttl_seconds: float) -> None:
        self._leases = leases
        self._clock = clock
        self._name = name
        self._holder = holder
        self._ttl_seconds = ttl_seconds
        self._renew_at = 0.0
        self._is_held = False

    async def is_held(self) -> bool:
        """Whether this instance holds the lease, as far as it knows; asks the engine when it does not, or to renew it."""
        now = self._clock.monotonic()
        if not self._is_held or now >= self._renew_at:
            self._renew_at = now + self._ttl_seconds / 2
            self._is_held = await self._leases.acquire(self._name, holder=self._holder, ttl_seconds=self._ttl_seconds)
        return self._is_held

    async def release(self) -> None:
        """Lets another instance have it at once."""
        self._is_held = False
        await self._leases.release(self._name, holder=self._holder)
