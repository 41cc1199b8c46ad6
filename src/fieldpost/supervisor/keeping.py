"""Keeps roles running: one that fails is started again alone, with back-off, so that a broken watcher never stops intake."""

from collections.abc import Awaitable, Callable, Sequence

from fieldpost.clock import Clock
from fieldpost.observability import Metrics, get_logger

#: Waits before a failed role starts again: 0.2, 0.4 … 10 s; back to the first after a minute without failure.
_FIRST_PAUSE_SECONDS = 0.2
_MAX_PAUSE_SECONDS = 10.0
_HEALTHY_SECONDS = 60.0

log = get_logger()


class Keeping:
    """Runs roles without end, each started again alone when it fails; knows which of them fail."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._failed_at: dict[str, float] = {}

    def failing(self) -> Sequence[str]:
        """Roles that failed within the last minute, or wait to be started again."""
        since = self._clock.monotonic() - _HEALTHY_SECONDS
        return [name for name, failed_at in self._failed_at.items() if failed_at >= since]

    async def run(self, name: str, role: Callable[[], Awaitable[None]]) -> None:
        """Runs a role until cancelled."""
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            started = self._clock.monotonic()
            try:
                await role()
            except Exception:
                log.exception("role_failed", role=name, restart_seconds=pause_seconds)
                self._metrics.role_restarts.labels(name).inc()
                self._failed_at[name] = self._clock.monotonic()
            if self._clock.monotonic() - started > _HEALTHY_SECONDS:
                pause_seconds = _FIRST_PAUSE_SECONDS
            await self._clock.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _MAX_PAUSE_SECONDS)
