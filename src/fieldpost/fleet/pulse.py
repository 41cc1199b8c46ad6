"""Whether the server is there; ends the run when it has gone for good."""

import httpx

from fieldpost.clock import Clock
from fieldpost.errors import UnreachableError

_BETWEEN_SECONDS = 1.0
_CALL_SECONDS = 5.0
_NOT_READY = 503


class Pulse:
    """Asks for `/ready` every second: one that is busy or leaves is up, one that only starts is not."""

    def __init__(self, url: str, *, gone_seconds: float, clock: Clock) -> None:
        self.is_up = True
        self._url = url
        self._gone_seconds = gone_seconds
        self._clock = clock

    async def run(self) -> None:
        """Runs until cancelled.

        Raises:
            UnreachableError: the server did not come back.
        """
        last_seen_at = self._clock.monotonic()
        async with httpx.AsyncClient(base_url=self._url, timeout=_CALL_SECONDS) as client:
            while True:
                self.is_up = await _is_alive(client)
                now = self._clock.monotonic()
                last_seen_at = now if self.is_up else last_seen_at
                if now - last_seen_at >= self._gone_seconds:
                    raise UnreachableError(
                        f"{self._url} went away and did not come back within {self._gone_seconds:g} s"
                    )
                await self._clock.sleep(_BETWEEN_SECONDS)


async def _is_alive(client: httpx.AsyncClient) -> bool:
    try:
        answer = await client.get("/ready")
    except httpx.TransportError:
        return False
    return answer.is_success or (answer.status_code == _NOT_READY and b'"starting"' not in answer.content)
