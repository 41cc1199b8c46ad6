"""Which server is the primary, as its Patroni agent says; asked in the background, so that writes only look.

An agent that is dead answers nothing, so its server is not written to, although it may go on taking writes.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import httpx
import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import BackendUnavailableError
from fieldpost.observability import get_logger

#: What was heard counts for so long: longer than a slow answer takes to be heard again on a busy machine, and far shorter
#: than the agents wait before another server leads.
FRESH_SECONDS = 4.0
_ASK_SECONDS = 0.25
_TIMEOUT_SECONDS = 3.0

log = get_logger()


class _Answer(msgspec.Struct, frozen=True):
    """What is needed of what an agent says of its server."""

    timeline: int


class Judge(Protocol):
    """Says on which timeline the primary is."""

    def timeline(self) -> int | None:
        """The primary's, or None where nobody can say and any primary will do.

        Raises:
            BackendUnavailableError: there is no primary now.
        """
        ...


class NoAgents:
    """Nobody to ask: a server that takes writes is the primary."""

    def timeline(self) -> int | None:
        """Any."""
        return None


class Agents:
    """The agents of one shard's servers."""

    def __init__(
        self, urls: Sequence[str], *, shard: str, clock: Clock, timeout_seconds: float = _TIMEOUT_SECONDS
    ) -> None:
        self._urls = urls
        self._shard = shard
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        #: By agent: until when its server is the primary, and on which timeline.
        self._leading: dict[str, tuple[float, int]] = {}
        self._last_told = 0

    def timeline(self) -> int | None:
        """See `Judge`."""
        timeline = self._timeline()
        if not timeline:
            raise BackendUnavailableError(f"no agent of {self._shard} says that its server is the primary")
        return timeline

    async def run(self, client: httpx.AsyncClient) -> None:
        """Asks all of them again and again, until cancelled; one that is silent holds up none of the others."""
        async with asyncio.TaskGroup() as group:
            for url in self._urls:
                group.create_task(self._follow(client, url))

    async def ask(self, client: httpx.AsyncClient) -> None:
        """Asks all of them once."""
        await asyncio.gather(*(self._hear(client, url) for url in self._urls))

    async def _follow(self, client: httpx.AsyncClient, url: str) -> None:
        while True:
            await self._hear(client, url)
            await self._clock.sleep(_ASK_SECONDS)

    async def _hear(self, client: httpx.AsyncClient, url: str) -> None:
        try:
            answer = await self._ask(client, url)
        except httpx.TimeoutException:
            # Silence says nothing: what it said last counts until it is stale.
            return
        if answer is None:
            self._leading.pop(url, None)
        else:
            self._leading[url] = (self._clock.monotonic() + FRESH_SECONDS, answer.timeline)
        timeline = self._timeline()
        if timeline != self._last_told:
            log.warning("primary_changed", shard=self._shard, timeline=timeline, before=self._last_told)
        self._last_told = timeline

    def _timeline(self) -> int:
        now = self._clock.monotonic()
        # Where two say so, the one that was promoted later is right.
        return max((timeline for until, timeline in self._leading.values() if until >= now), default=0)

    async def _ask(self, client: httpx.AsyncClient, url: str) -> _Answer | None:
        try:
            reply = await client.get(f"{url.rstrip('/')}/primary", timeout=self._timeout_seconds)
            if reply.status_code != httpx.codes.OK:
                return None
            return msgspec.json.decode(reply.content, type=_Answer)
        except httpx.TimeoutException:
            raise
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError):
            return None
