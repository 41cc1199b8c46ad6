"""Short-lived values as keys that expire; the first to go when Redis runs out of memory."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from fieldpost.backends.redis_cluster.client import CALL_SECONDS, Client
from fieldpost.backends.redis_cluster.link import Link, State
from fieldpost.backends.redis_cluster.spreading import Items, Way, apart, together
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
        """Sets values, many in one round trip; where a part of the engine is away, those that the rest takes."""
        with contextlib.suppress(BackendUnavailableError, TimeoutError):
            async with asyncio.timeout(_PUT_SECONDS):
                if not await self._is_put_with_others(_Put(values, ttl_seconds)):
                    # Each for itself: one that waits for a node that is away holds up no other.
                    await self._put(values, ttl_seconds, apart)

    async def get(self, key: str) -> bytes | None:
        """The value, while it lives."""
        name = _PREFIX + key.encode()
        try:
            return await self._link.ask(name, lambda client: client.get(name))
        except BackendUnavailableError:
            return None

    async def _is_put_with_others(self, put: "_Put") -> bool:
        if self._link.state is State.PARTIAL:
            return False
        try:
            await self._putting.call(put)
        except BackendUnavailableError:
            return False
        return True

    async def _put_all(self, puts: Sequence["_Put"]) -> Sequence[None]:
        by_time: defaultdict[float, list[tuple[str, bytes]]] = defaultdict(list)
        for put in puts:
            by_time[put.ttl_seconds] += put.values
        for ttl_seconds, values in by_time.items():
            await self._put(values, ttl_seconds, together)
        return [None] * len(puts)

    async def _put(self, values: Sequence[tuple[str, bytes]], ttl_seconds: float, way: Way) -> None:
        async def put(client: Client, batch: Items) -> None:
            await client.put(batch, ttl_seconds=ttl_seconds)

        rest = iter(values)
        while batch := [(_PREFIX + key.encode(), value) for key, value in islice(rest, _BATCH_VALUES)]:
            await way(self._link, batch, put)


class _Put(NamedTuple):
    """One call."""

    values: Sequence[tuple[str, bytes]]
    ttl_seconds: float
