"""The registry of instances: one hash, whose fields carry their own deadlines, by Redis's own clock."""

from collections.abc import Iterator, Sequence
from typing import cast

import msgspec

from fieldpost.backends.redis_cluster import scripts
from fieldpost.backends.redis_cluster.link import Link
from fieldpost.errors import BackendUnavailableError
from fieldpost.messages.instances import Instance
from fieldpost.observability import get_logger

_KEY = b"fieldpost:instances"

log = get_logger()


class RedisInstances:
    """What was last heard stands while Redis is away."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._announce = scripts.load("announce")
        self._withdraw = scripts.load("withdraw")
        self._list = scripts.load("list_instances")
        self._last: Sequence[Instance] = ()

    async def announce(self, instance: Instance, *, ttl_seconds: float) -> None:
        """Writes it down."""
        ttl = str(round(ttl_seconds * 1000)).encode()
        arguments = [instance.id.encode(), msgspec.msgpack.encode(instance), ttl]
        try:
            await self._link.ask(_KEY, lambda client: client.run(self._announce, _KEY, arguments))
        except BackendUnavailableError:
            return

    async def withdraw(self, instance_id: str) -> None:
        """Takes it off."""
        try:
            await self._link.ask(_KEY, lambda client: client.run(self._withdraw, _KEY, [instance_id.encode()]))
        except BackendUnavailableError:
            return

    async def list(self, role: str | None = None) -> Sequence[Instance]:
        """Those that are there."""
        try:
            found = await self._link.ask(_KEY, lambda client: client.run(self._list, _KEY, []))
            self._last = sorted(_readable(cast("list[bytes]", found)), key=lambda instance: instance.id)
        except BackendUnavailableError:
            pass
        return [instance for instance in self._last if role in (None, instance.role)]


def _readable(descriptions: Sequence[bytes]) -> Iterator[Instance]:
    for description in descriptions:
        try:
            yield msgspec.msgpack.decode(description, type=Instance)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("instance_unreadable", summed=True, error=repr(error))
