"""Short-lived values as keys that expire; the first to go when Redis runs out of memory."""

import asyncio
from collections.abc import Sequence
from itertools import islice

from fieldpost.backends.redis_cluster.client import CALL_SECONDS, Client
from fieldpost.backends.redis_cluster.link import Link
from fieldpost.backends.redis_cluster.spreading import spread
from fieldpost.errors import BackendUnavailableError

_PREFIX = b"fieldpost:value:"
_BATCH_VALUES = 1000
#: For all batches of one call together.
_PUT_SECONDS = 1.5 * CALL_SECONDS


class RedisValues:
    """Values with a time to live."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def put(self, values: Sequence[tuple[str, bytes]], *, ttl_seconds: float) -> None:
        """Sets values, many in one round trip."""
        rest = iter(values)
        try:
            async with asyncio.timeout(_PUT_SECONDS):
                while batch := [(_PREFIX + key.encode(), value) for key, value in islice(rest, _BATCH_VALUES)]:
                    await self._put(batch, ttl_seconds)
        except (BackendUnavailableError, TimeoutError):
            return

    async def get(self, key: str) -> bytes | None:
        """The value, while it lives."""
        name = _PREFIX + key.encode()
        try:
            return await self._link.ask(name, lambda client: client.get(name))
        except BackendUnavailableError:
            return None

    async def _put(self, batch: Sequence[tuple[bytes, bytes]], ttl_seconds: float) -> None:
        async def put(client: Client, values: Sequence[tuple[bytes, bytes]]) -> None:
            await client.put(values, ttl_seconds=ttl_seconds)

        await spread(self._link, batch, put)
