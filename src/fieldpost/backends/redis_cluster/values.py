"""Short-lived values as keys that expire; the first to go when Redis runs out of memory."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from fieldpost.backends.redis_cluster.client import CALL_SECONDS, Client
from fieldpost.backends.redis_cluster.link import Link
from fieldpost.backends.redis_cluster.spreading import spread
from fieldpost.errors import BackendUnavailableError
from fieldpost.grouping import Grouped

_PREFIX = b"fieldpost:value:"
_BATCH_VALUES = 1000
_MAX_CALLS = 256
#: For all batches of one call together, its wait for others' included.
_PUT_SECONDS = 1.5 * CALL_SECONDS


class RedisValues:
    """Values with a time to live."""

    def __init__(self, link: Link) -> None:
        self._link = link
        #: A door remembers every request that it accepts: what is accepted at once goes at once.
        self._putting = Grouped(self._put_all, max_calls=_MAX_CALLS)

    async def put(self, values: Sequence[tuple[str, bytes]], *, ttl_seconds: float) -> None:
        """Sets values, many in one round trip."""
        try:
            async with asyncio.timeout(_PUT_SECONDS):
                await self._putting.call(_Put(values, ttl_seconds))
        except (BackendUnavailableError, TimeoutError):
            return

    async def get(self, key: str) -> bytes | None:
        """The value, while it lives."""
        name = _PREFIX + key.encode()
        try:
            return await self._link.ask(name, lambda client: client.get(name))
        except BackendUnavailableError:
            return None

    async def _put_all(self, puts: Sequence["_Put"]) -> Sequence[None]:
        together: defaultdict[float, list[tuple[str, bytes]]] = defaultdict(list)
        for put in puts:
            together[put.ttl_seconds] += put.values
        for ttl_seconds, values in together.items():
            rest = iter(values)
            while batch := [(_PREFIX + key.encode(), value) for key, value in islice(rest, _BATCH_VALUES)]:
                await self._put(batch, ttl_seconds)
        return [None] * len(puts)

    async def _put(self, batch: Sequence[tuple[bytes, bytes]], ttl_seconds: float) -> None:
        async def put(client: Client, values: Sequence[tuple[bytes, bytes]]) -> None:
            await client.put(values, ttl_seconds=ttl_seconds)

        await spread(self._link, batch, put)


class _Put(NamedTuple):
    """One call."""

    values: Sequence[tuple[str, bytes]]
    ttl_seconds: float
