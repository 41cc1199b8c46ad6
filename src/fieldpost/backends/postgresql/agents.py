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

#: What was heard counts for so long.
FRESH_SECONDS = 1.0
_ASK_SECONDS = 0.3
_TIMEOUT_SECONDS = 0.5

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

    def __init__(self, urls: Sequence[str], *, shard: str, clock: Clock) -> None:
        self._urls = urls
        self._shard = shard
        self._clock = clock
        self._timeline = 0
        self._heard_at = float("-inf")

    def timeline(self) -> int | None:
        """See `Judge`."""
        if not self._timeline or self._clock.monotonic() - self._heard_at > FRESH_SECONDS:
            raise BackendUnavailableError(f"no agent of {self._shard} says that its server is the primary")
        return self._timeline

    async def run(self, client: httpx.AsyncClient) -> None:
        """Asks all of them again and again, until cancelled."""
        while True:
            await self.ask(client)
            await self._clock.sleep(_ASK_SECONDS)

    async def ask(self, client: httpx.AsyncClient) -> None:
        """Asks all of them once."""
        asked_at = self._clock.monotonic()
        answers = await asyncio.gather(*(self._ask(client, url) for url in self._urls))
        # Where two say so, the one that was promoted later is right.
        timeline = max((answer.timeline for answer in answers if answer is not None), default=0)
        if timeline != self._timeline:
            log.warning("primary_changed", shard=self._shard, timeline=timeline, before=self._timeline)
        self._timeline, self._heard_at = timeline, asked_at

    async def _ask(self, client: httpx.AsyncClient, url: str) -> _Answer | None:
        try:
            reply = await client.get(f"{url.rstrip('/')}/primary", timeout=_TIMEOUT_SECONDS)
            if reply.status_code != httpx.codes.OK:
                return None
            return msgspec.json.decode(reply.content, type=_Answer)
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError):
            return None
