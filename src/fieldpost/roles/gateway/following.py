"""Following one request as server-sent events, until its answer."""

from collections.abc import AsyncIterator
from uuid import UUID

import msgspec

from fieldpost.messages.events import Event, ResponseChunk, ResponseReady, StateChanged
from fieldpost.messages.requests import RequestState
from fieldpost.services.answers import Answers
from fieldpost.services.mailbox import Mailbox
from fieldpost.services.waiting import within
from fieldpost.web import sse

encode = msgspec.json.Encoder().encode

#: How often the ledger is asked although nothing was heard.
_RECHECK_SECONDS = 2.0


async def follow(device_id: int, request_id: UUID, *, answers: Answers, mailbox: Mailbox) -> AsyncIterator[bytes]:
    """`status` and `chunk` events as they come, then `response`; ends early when the process drains."""
    async with mailbox.listen(device_id) as listener:
        status = await answers.status(device_id, request_id)
        yield _status_event(request_id, status.status, status.attempts)
        quiet_seconds = 0.0
        while not status.status.is_final and not answers.is_draining:
            heard = await within(listener.receive(), _RECHECK_SECONDS)
            events = [event for event in heard or () if is_about(event, request_id)]
            for event in events:
                if isinstance(event, StateChanged | ResponseChunk):
                    yield _event(event)
            if heard is None:
                quiet_seconds += _RECHECK_SECONDS
            elif events:
                quiet_seconds = 0.0
            if quiet_seconds >= sse.KEEP_ALIVE_SECONDS:
                yield sse.KEEP_ALIVE
                quiet_seconds = 0.0
            if not heard or any(map(may_end, events)):
                status = await answers.status(device_id, request_id)
        if status.response is not None:
            yield sse.event("response", bytes(msgspec.Raw(status.response)))


def may_end(event: Event) -> bool:
    """Whether after this event there is a final answer to ask for."""
    return isinstance(event, ResponseReady) or (isinstance(event, StateChanged) and event.status.is_final)


def is_about(event: Event, request_id: UUID) -> bool:
    """Whether the event is about this request."""
    return isinstance(event, StateChanged | ResponseChunk | ResponseReady) and event.request_id == request_id


def _event(event: StateChanged | ResponseChunk) -> bytes:
    if isinstance(event, StateChanged):
        return _status_event(event.request_id, event.status, event.attempt)
    fields = {"request_id": event.request_id, "attempt": event.attempt, "index": event.index, "text": event.text}
    return sse.event("chunk", encode(fields))


def _status_event(request_id: UUID, status: RequestState, attempt: int) -> bytes:
    return sse.event("status", encode({"request_id": request_id, "status": status, "attempt": attempt}))
