"""Folder answers: from the ledger into `Responses/`, then marked as delivered. Writing one again is harmless."""

import asyncio
from collections.abc import Callable

from fieldpost.clock import Clock
from fieldpost.errors import UnavailableError
from fieldpost.observability import get_logger
from fieldpost.ports.backends import Backends
from fieldpost.ports.ledger import Finished
from fieldpost.services.waiting import within

#: Answers written before the ledger is asked again.
_BATCH = 100
#: How often the ledger is asked although nothing was announced.
_SWEEP_SECONDS = 2.0
#: How long the answers of a device whose folder could not be written are left alone.
_RETRY_SECONDS = 5.0
#: Devices left alone at most; when there are more it is not their folders, and filing itself pauses.
_MAX_LEFT_OUT = 1000

log = get_logger()


class Filing:
    """One shard's folder answers."""

    def __init__(self, *, backends: Backends, clock: Clock, shard: str, answer_name: Callable[[str], str]) -> None:
        self._folders = backends.folders
        self._deliveries = backends.ledgers[shard].deliveries
        self._clock = clock
        self._answer_name = answer_name
        self._wake = asyncio.Event()
        #: When the devices whose folder could not be written are tried again.
        self._retry_at: dict[int, float] = {}

    def wake(self) -> None:
        """A folder answer is ready."""
        self._wake.set()

    async def run(self) -> None:
        """Files answers until cancelled; those whose folder cannot be written wait in the ledger and hold up no others.

        Raises:
            UnavailableError: the ledger is away, or the folders of too many devices.
        """
        while True:
            self._wake.clear()
            if not await self._file_some():
                await within(self._wake.wait(), _SWEEP_SECONDS)

    async def _file_some(self) -> bool:
        now = self._clock.monotonic()
        self._retry_at = {device_id: at for device_id, at in self._retry_at.items() if at > now}
        answers = await self._deliveries.undelivered_files(limit=_BATCH, leaving_out=self._retry_at.keys())
        for answer, _ in answers:
            if answer.device_id not in self._retry_at:
                await self._file(answer)
        return len(answers) == _BATCH

    async def _file(self, answer: Finished) -> None:
        assert answer.file_name is not None
        try:
            await self._folders.deliver(answer.device_id, self._answer_name(answer.file_name), answer.body)
        except UnavailableError as error:
            log.warning("filing_failed", device_id=answer.device_id, error=repr(error))
            if len(self._retry_at) >= _MAX_LEFT_OUT:
                raise
            self._retry_at[answer.device_id] = self._clock.monotonic() + _RETRY_SECONDS
        else:
            await self._deliveries.acknowledge([answer.request_id], answer.device_id, now=self._clock.now())
