"""Leases as keys that never expire by themselves; a script compares and sets, by Redis's own clock."""

from fieldpost.backends.redis_cluster import scripts
from fieldpost.backends.redis_cluster.link import Link
from fieldpost.clock import Clock
from fieldpost.errors import BackendUnavailableError

_PREFIX = b"fieldpost:lease:"


class RedisLeases:
    """Leases that go on without Redis: who has one keeps it, and who asks for longer than it could last gets it too."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._acquire = scripts.load("acquire_lease")
        self._release = scripts.load("release_lease")
        #: By lease and holder: had at the last answer; asked in vain since.
        self._held: set[tuple[str, str]] = set()
        self._waiting: dict[tuple[str, str], float] = {}

    async def acquire(self, name: str, *, holder: str, ttl_seconds: float) -> bool:
        """Takes or renews the lease."""
        key, ttl = _PREFIX + name.encode(), str(round(ttl_seconds * 1000)).encode()
        try:
            answer = await self._link.ask(key, lambda client: client.run(self._acquire, key, [holder.encode(), ttl]))
        except BackendUnavailableError:
            return self._acquire_alone((name, holder), ttl_seconds)
        self._waiting.pop((name, holder), None)
        if answer == 1:
            self._held.add((name, holder))
        else:
            self._held.discard((name, holder))
        return answer == 1

    async def release(self, name: str, *, holder: str) -> None:
        """Gives the lease up, if this holder has it."""
        key = _PREFIX + name.encode()
        self._held.discard((name, holder))
        self._waiting.pop((name, holder), None)
        try:
            await self._link.ask(key, lambda client: client.run(self._release, key, [holder.encode()]))
        except BackendUnavailableError:
            return

    def _acquire_alone(self, lease: tuple[str, str], ttl_seconds: float) -> bool:
        """Whoever else had it when Redis went away may have it for one time to live more."""
        now = self._clock.monotonic()
        return lease in self._held or now - self._waiting.setdefault(lease, now) >= ttl_seconds
