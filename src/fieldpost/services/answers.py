"""What a device may ask about its requests: where they stand, their answers, cancelling and acknowledging.

Every call takes the device's id from its credential; what belongs to another device does not exist.
"""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import NotFoundError, StateConflictError, UnavailableError
from fieldpost.messages.events import FLEET_CHANNEL, Acknowledged, ResponseReady, StateChanged, device_channel
from fieldpost.messages.requests import RequestState, RequestStatus
from fieldpost.messages.responses import StoredResponse
from fieldpost.ports.backends import Backends
from fieldpost.ports.ledger_values import AnswerPage, RequestPage
from fieldpost.services.hearing import Heard, Hearing
from fieldpost.services.intake import Intake
from fieldpost.services.mailbox import Mailbox
from fieldpost.services.waiting import within

#: Answers together stay below the 1 MiB that clients take by default, with room for what surrounds them.
MAX_PAGE_BYTES = 768 * 1024
#: Requests and answers of one page of a list come to no more.
MAX_LIST_BYTES = 4 * 2**20

#: Whoever posts a request again is not kept waiting for longer to be told where it stands.
_LOOK_UP_SECONDS = 2.0


class Answers:
    """The device's side of the ledger."""

    def __init__(self, *, backends: Backends, clock: Clock, intake: Intake, mailbox: Mailbox) -> None:
        self._backends = backends
        self._clock = clock
        self._intake = intake
        self._mailbox = mailbox
        self.is_draining = False

    def drain(self) -> None:
        """Waiting calls end soon, without an answer."""
        self.is_draining = True

    async def status(self, device_id: int, request_id: UUID) -> RequestStatus:
        """Where a request stands.

        Raises:
            NotFoundError: no request of this device.
            UnavailableError: the ledger is away and cannot tell.
        """
        status = await self._backends.ledger_of(device_id).records.status(request_id, device_id)
        if status is not None:
            return status
        remembered = await self._intake.recall(request_id, device_id)
        if remembered is None:
            raise NotFoundError(f"request {request_id}")
        return RequestStatus(
            id=request_id,
            status=RequestState.QUEUED,
            model=remembered.model,
            accepted_at=remembered.accepted_at,
        )

    async def state(self, device_id: int, request_id: UUID) -> RequestState:
        """Where an accepted request stands; one of which the ledger cannot tell soon counts as queued."""
        try:
            status = await within(self.status(device_id, request_id), _LOOK_UP_SECONDS)
        except (NotFoundError, UnavailableError):
            return RequestState.QUEUED
        return RequestState.QUEUED if status is None else status.status

    async def page(
        self, device_id: int, *, state: RequestState | None, before: tuple[datetime, UUID] | None, limit: int
    ) -> RequestPage:
        """The device's requests, newest first, as many as go into one reply."""
        records = self._backends.ledger_of(device_id).records
        return await records.page(device_id, state=state, before=before, limit=limit, limit_bytes=MAX_LIST_BYTES)

    async def cancel(self, device_id: int, request_id: UUID) -> RequestStatus | None:
        """Cancels a request; None when the ledger does not have it yet: then it is cancelled as it comes.

        Raises:
            NotFoundError: no request of this device.
            StateConflictError: it had already ended otherwise.
        """
        remembered = await self._intake.recall(request_id, device_id)
        status = await self._backends.ledger_of(device_id).records.cancel(
            request_id, device_id, expected=remembered is not None, now=self._clock.now()
        )
        if status is None and remembered is None:
            raise NotFoundError(f"request {request_id}")
        if status is not None and status.status is not RequestState.CANCELLED:
            raise StateConflictError(f"it has already {status.status.value}", status=status.status.value)
        if status is not None:
            await self._announce_cancelled(device_id, request_id)
        return status

    async def undelivered(
        self,
        device_id: int,
        *,
        after: tuple[datetime, UUID] | None = None,
        leaving_out: Collection[UUID] = (),
        limit: int,
    ) -> AnswerPage:
        """Answers the device has not acknowledged, in order of completion, as many as go into one frame or reply."""
        return await self._backends.ledger_of(device_id).deliveries.undelivered(
            device_id, after=after, leaving_out=leaving_out, limit=limit, limit_bytes=MAX_PAGE_BYTES
        )

    async def unacknowledged(self, device_id: int, request_ids: Sequence[UUID]) -> Collection[UUID]:
        """Those of the device's answers that it has not acknowledged."""
        if not request_ids:
            return ()
        return await self._backends.ledger_of(device_id).deliveries.unacknowledged(request_ids, device_id)

    async def acknowledge(self, device_id: int, request_ids: Sequence[UUID]) -> Collection[UUID]:
        """Records that the device has these answers; returns those for which that now stands."""
        if not request_ids:
            return ()
        acknowledged = await self._backends.ledger_of(device_id).deliveries.acknowledge(
            request_ids, device_id, now=self._clock.now()
        )
        if acknowledged:
            event = Acknowledged(device_id=device_id, request_ids=tuple(acknowledged))
            await self._backends.shared.bus.publish(device_channel(device_id), [event])
        return acknowledged

    async def wait(self, device_id: int, request_id: UUID, *, timeout_seconds: float) -> bytes | None:
        """The encoded final response, or None when it does not come in time."""
        try:
            async with asyncio.timeout(timeout_seconds), self._mailbox.listen(device_id, request_id) as listener:
                hearing = Hearing(listener, self._clock)
                heard = Heard(is_due=True)
                while True:
                    for event in heard.events:
                        if isinstance(event, ResponseReady) and event.body:
                            return event.body
                    if heard.may_end and (body := await self._final(device_id, request_id)) is not None:
                        return body
                    if self.is_draining:
                        return None
                    heard = await hearing.hear()
        except TimeoutError:
            return await self._final(device_id, request_id)

    async def wait_undelivered(self, device_id: int, *, timeout_seconds: float, limit: int) -> Sequence[StoredResponse]:
        """Answers not acknowledged, as soon as there are some; none when none come in time."""
        async with self._mailbox.listen(device_id) as listener:
            hearing = Hearing(listener, self._clock)
            heard = Heard(is_due=True)
            deadline = self._clock.monotonic() + timeout_seconds
            while True:
                left_seconds = max(0.0, deadline - self._clock.monotonic())
                if heard.may_end or not left_seconds:
                    responses = (await self.undelivered(device_id, limit=limit)).answers
                    if responses or self.is_draining or not left_seconds:
                        return responses
                heard = await hearing.hear(at_most_seconds=left_seconds)

    async def _announce_cancelled(self, device_id: int, request_id: UUID) -> None:
        event = StateChanged(request_id=request_id, device_id=device_id, status=RequestState.CANCELLED)
        await self._backends.shared.bus.publish(device_channel(device_id), [event])
        # Workers hear this one.
        await self._backends.shared.bus.publish(FLEET_CHANNEL, [event])

    async def _final(self, device_id: int, request_id: UUID) -> bytes | None:
        try:
            status = await self._backends.ledger_of(device_id).records.status(request_id, device_id)
        except UnavailableError:
            return None
        if status is None or status.response is None:
            return None
        return bytes(msgspec.Raw(status.response))
