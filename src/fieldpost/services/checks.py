"""Whether the engines that this process needs are there: looked at every few seconds, told by `/ready`.

Requests are accepted while a ledger is away, so that only the broker takes a door out of the load balancer; a processor
without any ledger has nothing to do.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial

from fieldpost.clock import Clock
from fieldpost.errors import FieldpostError, OverloadedError
from fieldpost.observability import get_logger
from fieldpost.ports.backends import Backends
from fieldpost.services.queues import requests_queue

_LOOK_SECONDS = 2.0
_PATIENCE_SECONDS = 3.0

log = get_logger()


class Checks:
    """What was found at the last look."""

    def __init__(self, *, backends: Backends, clock: Clock, roles: Collection[str]) -> None:
        self._clock = clock
        self._needs_ledgers = "processor" in roles
        self._questions: Mapping[str, Callable[[], Awaitable[object]]] = {
            "broker": partial(backends.broker.depth, requests_queue(backends.shards.shards[0])),
            **{
                # Not by reading: a replica answers that while the primary is away.
                f"ledger.{shard}": ledger.records.reach
                for shard, ledger in backends.ledgers.items()
            },
        }
        self._away: frozenset[str] = frozenset(self._questions)

    def reasons(self) -> Sequence[str]:
        """Why this process cannot serve; nothing when it can."""
        reasons = ["the broker is away"] if "broker" in self._away else []
        ledgers = self._questions.keys() - {"broker"}
        if self._needs_ledgers and ledgers <= self._away:
            reasons.append("every ledger is away")
        return reasons

    def degraded(self) -> Sequence[str]:
        """Engines that are away although this process can serve."""
        return sorted(self._away)

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Asks every engine once."""
        answers = await asyncio.gather(*(self._is_there(question) for question in self._questions.values()))
        away = frozenset(name for name, is_there in zip(self._questions, answers, strict=True) if not is_there)
        if away != self._away:
            log.info("engines_checked", away=sorted(away))
        self._away = away

    async def _is_there(self, question: Callable[[], Awaitable[object]]) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await question()
        except OverloadedError:
            # Busy is there.
            return True
        except (FieldpostError, TimeoutError):
            return False
        return True
