"""Following one request as server-sent events, until its answer."""

from collections.abc import AsyncIterator
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import FieldpostError, UnavailableError
from fieldpost.messages.events import ResponseChunk, StateChanged
from fieldpost.messages.requests import RequestState, RequestStatus
from fieldpost.services.answers import Answers
from fieldpost.services.hearing import Heard, Hearing
from fieldpost.services.mailbox import Mailbox
from fieldpost.web import sse
from fieldpost.web.problems import problem_of

encode = msgspec.json.Encoder().encode


class Following:
    """One stream of events about one request."""

    def __init__(self, *, device_id: int, request_id: UUID, answers: Answers, mailbox: Mailbox, clock: Clock) -> None:
        self._device_id = device_id
        self._request_id = request_id
        self._answers = answers
        self._mailbox = mailbox
        self._clock = clock

    async def events(self) -> AsyncIterator[bytes]:
        """`status` and `chunk` events as they come, then `response`; ends early when the process drains.

        What goes wrong for good ends it with an `error` event; a ledger that is away is asked again.
        """
        try:
            async with self._mailbox.listen(self._device_id, self._request_id) as listener:
                hearing = Hearing(listener, self._clock)
                heard = Heard(is_due=True)
                is_begun = False
                said_at = self._clock.monotonic()
                while not self._answers.is_draining:
                    for event in heard.events:
                        if isinstance(event, StateChanged | ResponseChunk):
                            said_at = self._clock.monotonic()
                            yield _event(event)
                    status = await self._status() if heard.may_end else None
                    if status is not None and not is_begun:
                        is_begun = True
                        yield _status_event(self._request_id, status.status, status.attempts)
                    if status is not None and status.status.is_final:
                        if status.response is not None:
                            yield sse.event("response", bytes(msgspec.Raw(status.response)))
                        return
                    if self._clock.monotonic() - said_at >= sse.KEEP_ALIVE_SECONDS:
                        said_at = self._clock.monotonic()
                        yield sse.KEEP_ALIVE
                    heard = await hearing.hear()
        except FieldpostError as error:
            yield sse.event("error", encode(problem_of(error)))

    async def _status(self) -> RequestStatus | None:
        try:
            return await self._answers.status(self._device_id, self._request_id)
        except UnavailableError:
            return None


def _event(event: StateChanged | ResponseChunk) -> bytes:
    if isinstance(event, StateChanged):
        return _status_event(event.request_id, event.status, event.attempt)
    fields = {"request_id": event.request_id, "attempt": event.attempt, "index": event.index, "text": event.text}
    return sse.event("chunk", encode(fields))


def _status_event(request_id: UUID, status: RequestState, attempt: int) -> bytes:
    return sse.event("status", encode({"request_id": request_id, "status": status, "attempt": attempt}))
