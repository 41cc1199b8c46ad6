"""Folder answers: from the ledger into `Responses/`, then marked as delivered. Writing one again is harmless.

A request that came in by one file or door is answered to every further file that asked the same under its key; those
acknowledge nothing, so the door that asked first still brings its answer.
"""

import asyncio
from collections.abc import Callable
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import UnavailableError
from fieldpost.messages.responses import Response
from fieldpost.observability import get_logger
from fieldpost.ports.backends import Backends
from fieldpost.ports.ledger_values import Finished, WaitingFile
from fieldpost.services.waiting import within

#: Answers written before the ledger is asked again.
_BATCH = 100
#: Their bodies together; one alone may be larger.
_BATCH_BYTES = 4 * 2**20
#: Further files looked at before others have their turn; most of them wait for requests that are not answered yet.
_PAGE = 2000
#: How often the ledger is asked although nothing was announced.
_SWEEP_SECONDS = 2.0
#: How long the answers of a device whose folder could not be written are left alone.
_RETRY_SECONDS = 5.0
#: Devices left alone at most; when there are more it is not their folders, and filing itself pauses.
_MAX_LEFT_OUT = 1000

log = get_logger()
_decode = msgspec.json.Decoder(Response).decode
_encode = msgspec.json.Encoder().encode


class Filing:
    """One shard's folder answers."""

    def __init__(self, *, backends: Backends, clock: Clock, shard: str, answer_name: Callable[[str], str]) -> None:
        ledger = backends.ledgers[shard]
        self._folders = backends.folders
        self._records = ledger.records
        self._deliveries = ledger.deliveries
        self._waiting_files = ledger.waiting_files
        self._clock = clock
        self._answer_name = answer_name
        self._wake = asyncio.Event()
        #: When the devices whose folder could not be written are tried again.
        self._retry_at: dict[int, float] = {}
        #: The last of the further files that was looked at.
        self._after: tuple[UUID, str] | None = None

    def wake(self) -> None:
        """A folder answer is ready."""
        self._wake.set()

    async def run(self) -> None:
        """Files answers until cancelled; those whose folder cannot be written wait in the ledger and hold up no others.

        Raises:
            UnavailableError: the ledger is away, or the folders of too many devices.
        """
        while True:
            # Nothing was announced: then what ended just now may wait for the next time.
            is_sweep = not self._wake.is_set()
            self._wake.clear()
            now = self._clock.monotonic()
            self._retry_at = {device_id: at for device_id, at in self._retry_at.items() if at > now}
            is_more = [await self._file_some(is_sweep=is_sweep), await self._file_some_further(is_sweep=is_sweep)]
            if not any(is_more):
                await within(self._wake.wait(), _SWEEP_SECONDS)

    async def _file_some(self, *, is_sweep: bool) -> bool:
        page = await self._deliveries.undelivered_files(
            limit=_BATCH, limit_bytes=_BATCH_BYTES, leaving_out=self._retry_at.keys(), is_sweep=is_sweep
        )
        for answer, _ in page.answers:
            if answer.device_id not in self._retry_at:
                await self._file(answer)
        return page.is_more

    async def _file(self, answer: Finished) -> None:
        assert answer.file_name is not None
        if await self._is_delivered(answer.device_id, answer.file_name, answer.body):
            await self._deliveries.acknowledge([answer.request_id], answer.device_id, now=self._clock.now())

    async def _file_some_further(self, *, is_sweep: bool) -> bool:
        """Looks at some of the further files, beginning after those of the last look; in the end at all of them."""
        files = await self._waiting_files.page(after=self._after, limit=_PAGE, is_sweep=is_sweep)
        self._after = None
        ended = [file for file in files if file.is_ended and file.device_id not in self._retry_at]
        for file in ended[:_BATCH]:
            await self._file_further(file)
        if len(ended) > _BATCH:
            self._after = (ended[_BATCH - 1].request_id, ended[_BATCH - 1].file_name)
        elif len(files) == _PAGE:
            self._after = (files[-1].request_id, files[-1].file_name)
        return len(ended) > _BATCH

    async def _file_further(self, file: WaitingFile) -> None:
        status = await self._records.status(file.request_id, file.device_id)
        if status is not None and status.response is not None:
            response = msgspec.structs.replace(_decode(status.response), file_name=file.file_name)
            if not await self._is_delivered(file.device_id, file.file_name, _encode(response)):
                return
        await self._waiting_files.remove(file.request_id, file.file_name)

    async def _is_delivered(self, device_id: int, file_name: str, body: bytes) -> bool:
        if device_id in self._retry_at:
            return False
        try:
            await self._folders.deliver(device_id, self._answer_name(file_name), body)
        except UnavailableError as error:
            log.warning("filing_failed", summed=True, device_id=device_id, error=repr(error))
            if len(self._retry_at) >= _MAX_LEFT_OUT:
                raise
            self._retry_at[device_id] = self._clock.monotonic() + _RETRY_SECONDS
            return False
        return True
