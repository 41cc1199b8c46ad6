"""Folder answers: from the ledger into `Responses/`, then marked as delivered. Writing one again is harmless."""

import asyncio
from collections.abc import Callable

from fieldpost.clock import Clock
from fieldpost.errors import UnavailableError
from fieldpost.observability import get_logger
from fieldpost.ports.backends import Backends
from fieldpost.services.waiting import within

#: Answers written before the ledger is asked again.
_BATCH = 100
#: How often the ledger is asked although nothing was announced.
_SWEEP_SECONDS = 2.0
_PAUSE_SECONDS = 1.0

log = get_logger()


class Filing:
    """One shard's folder answers."""

    def __init__(self, *, backends: Backends, clock: Clock, shard: str, answer_name: Callable[[str], str]) -> None:
        self._folders = backends.folders
        self._deliveries = backends.ledgers[shard].deliveries
        self._clock = clock
        self._answer_name = answer_name
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """A folder answer is ready."""
        self._wake.set()

    async def run(self) -> None:
        """Files answers until cancelled; while the folder is away they wait in the ledger."""
        while True:
            self._wake.clear()
            try:
                is_more = await self._file_some()
            except UnavailableError as error:
                log.warning("filing_failed", error=repr(error))
                await self._clock.sleep(_PAUSE_SECONDS)
                continue
            if not is_more:
                await within(self._wake.wait(), _SWEEP_SECONDS)

    async def _file_some(self) -> bool:
        answers = await self._deliveries.undelivered_files(limit=_BATCH)
        for answer, _ in answers:
            assert answer.file_name is not None
            await self._folders.deliver(answer.device_id, self._answer_name(answer.file_name), answer.body)
            await self._deliveries.acknowledge([answer.request_id], answer.device_id, now=self._clock.now())
        return len(answers) == _BATCH
