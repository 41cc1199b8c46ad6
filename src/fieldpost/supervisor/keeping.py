"""Keeps roles running: one that fails is started again alone, with back-off, so that a broken watcher never stops intake."""

from collections.abc import Awaitable, Callable, Sequence

from fieldpost.clock import Clock
from fieldpost.observability import Metrics, get_logger
from fieldpost.policy.backoff import HEALTHY_SECONDS, ends_in_a_row, restart_seconds

log = get_logger()


class Keeping:
    """Runs roles without end, each started again alone when it fails; knows which of them fail."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._failed_at: dict[str, float] = {}

    def failing(self) -> Sequence[str]:
        """Roles that failed within the last minute, or wait to be started again."""
        since = self._clock.monotonic() - HEALTHY_SECONDS
        return [name for name, failed_at in self._failed_at.items() if failed_at >= since]

    async def run(self, name: str, role: Callable[[], Awaitable[None]]) -> None:
        """Runs a role until cancelled."""
        ends = 0
        while True:
            started = self._clock.monotonic()
            error: Exception | None = None
            try:
                await role()
            except Exception as failure:  # noqa: BLE001
                error = failure
            ended = self._clock.monotonic()
            ends = ends_in_a_row(ends, ran_seconds=ended - started)
            if error is not None:
                log.error("role_failed", role=name, restart_seconds=restart_seconds(ends), exc_info=error)
                self._metrics.role_restarts.labels(name).inc()
                self._failed_at[name] = ended
            await self._clock.sleep(restart_seconds(ends))
