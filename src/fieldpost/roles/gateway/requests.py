"""`/v1/requests`: post, look up, list, cancel, acknowledge, follow."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import ConflictError, InvalidRequestError, StateConflictError
from fieldpost.messages.cursors import read_cursor, write_cursor
from fieldpost.messages.requests import Channel, RequestBody, RequestState, RequestStatus
from fieldpost.messages.responses import Response
from fieldpost.roles.gateway.following import Following
from fieldpost.services.answers import Answers
from fieldpost.services.intake import Intake
from fieldpost.services.mailbox import Mailbox
from fieldpost.settings import ServerSettings
from fieldpost.web import sse
from fieldpost.web.operations import (
    AFTER_CURSOR,
    IDEMPOTENCY_KEY,
    TRACEPARENT,
    Call,
    Caller,
    Operation,
    Parameter,
    Reply,
)
from fieldpost.web.preferences import wait_seconds

Headers = Sequence[tuple[bytes, bytes]]

encode = msgspec.json.Encoder().encode

_ID = Parameter(name="id", schema={"type": "string", "format": "uuid"}, description="The request's id", place="path")
_PREFER = Parameter(
    name="Prefer",
    schema={"type": "string", "examples": ["wait=10"]},
    description="`wait=N`: wait up to N seconds for the response",
    place="header",
)


class AcceptedBody(msgspec.Struct, frozen=True, kw_only=True):
    """What `202` says."""

    id: UUID
    status: RequestState


class StatusPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of requests, newest first."""

    requests: Sequence[RequestStatus]
    next: str | None


class AcknowledgedBody(msgspec.Struct, frozen=True, kw_only=True):
    """What is acknowledged now."""

    acknowledged: Sequence[UUID]


class RequestOperations:
    """The operations and their handlers."""

    def __init__(
        self,
        *,
        settings: ServerSettings,
        models: Sequence[str],
        intake: Intake,
        answers: Answers,
        mailbox: Mailbox,
        clock: Clock,
    ) -> None:
        self._max_wait_seconds = settings.max_wait_seconds
        self._models = models
        self._intake = intake
        self._answers = answers
        self._mailbox = mailbox
        self._clock = clock

    def operations(self) -> list[Operation]:
        """All of them; the most used first."""
        device: dict[str, Any] = {"caller": Caller.DEVICE, "path": "/v1/requests"}
        one: dict[str, Any] = {"caller": Caller.DEVICE, "path": "/v1/requests/{id}", "parameters": [_ID]}
        return [
            Operation(
                **device,
                method="POST",
                summary="Posts a request",
                handler=self._post,
                body=RequestBody,
                parameters=[IDEMPOTENCY_KEY, TRACEPARENT, _PREFER],
                answers={
                    202: ("It is safe on disk", AcceptedBody, "application/json"),
                    200: ("With `Prefer: wait`: the response", Response, "application/json"),
                },
                problems=(409, 503, 504, 507),
                waits_if_preferred=True,
                example={"input": {"prompt": "How long may a driver drive in one day?"}},
                refinements=self._refinements(),
            ),
            Operation(
                **device,
                method="GET",
                summary="Lists requests, newest first",
                handler=self._list,
                parameters=[
                    Parameter(
                        name="status",
                        schema={"type": "string", "enum": [state.value for state in RequestState]},
                        description="Only requests in this state",
                    ),
                    AFTER_CURSOR,
                    Parameter(
                        name="limit",
                        schema={"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
                        description="Requests on a page",
                    ),
                ],
                answers={200: ("A page", StatusPage, "application/json")},
                problems=(422, 503),
            ),
            Operation(
                **one,
                method="GET",
                summary="Tells where a request stands",
                handler=self._get,
                answers={200: ("The status", RequestStatus, "application/json")},
                problems=(404, 503),
            ),
            Operation(
                **one,
                method="DELETE",
                summary="Cancels a request",
                handler=self._cancel,
                answers={
                    200: ("It is cancelled", RequestStatus, "application/json"),
                    202: ("It is cancelled as soon as it is recorded", AcceptedBody, "application/json"),
                },
                problems=(404, 409, 503, 507),
            ),
            Operation(
                caller=Caller.DEVICE,
                path="/v1/requests/{id}/ack",
                parameters=[_ID],
                method="POST",
                summary="Acknowledges an answer: it is not brought again",
                handler=self._acknowledge,
                answers={200: ("Acknowledged", AcknowledgedBody, "application/json")},
                problems=(404, 409, 503, 507),
            ),
            Operation(
                caller=Caller.DEVICE,
                path="/v1/requests/{id}/events",
                parameters=[_ID],
                method="GET",
                summary="Follows a request until its answer",
                handler=self._events,
                answers={200: ("`status`, `chunk` and `response` events", None, "text/event-stream")},
                problems=(404, 503),
                waits=True,
            ),
        ]

    def _refinements(self) -> dict[str, Any]:
        """What the types cannot say: exactly one of two members, the models there are."""
        nothing = {"type": "null"}
        one_of = [
            {"required": ["prompt"], "properties": {"prompt": {"type": "string"}, "messages": nothing}},
            {"required": ["messages"], "properties": {"messages": {"type": "array"}, "prompt": nothing}},
        ]
        return {
            "Input": {"oneOf": one_of},
            "RequestBody": {"properties": {"model": {"anyOf": None, "enum": [*self._models, None]}}},
            "RequestStatus": {"properties": {"response": {"$ref": "#/components/schemas/Response"}}},
        }

    async def _post(self, call: Call) -> Reply:
        seconds = wait_seconds(call.header(b"prefer"), cap=self._max_wait_seconds)
        key = call.idempotency_key()
        if key is not None and call.body.idempotency_key not in (None, key):
            raise ConflictError("header and body name different idempotency keys", errors=("idempotency_key",))
        accepted = await self._intake.accept(
            call.device,
            call.body,
            channel=Channel.HTTP,
            idempotency_key=key,
            traceparent=call.header(b"traceparent"),
            is_awaited=seconds is not None,
        )
        trace = (b"traceparent", accepted.traceparent.encode())
        if seconds is None:
            state = RequestState.QUEUED
            if accepted.duplicate:
                state = await self._answers.state(call.device.device_id, accepted.request_id)
            return _accepted(accepted.request_id, trace, state=state)
        # It is on disk; nobody who waits holds it in memory too.
        call.body = None
        applied = (b"preference-applied", b"wait=%d" % int(seconds))
        return await self._wait(call.device.device_id, accepted.request_id, seconds, [applied, trace])

    async def _wait(self, device_id: int, request_id: UUID, seconds: float, headers: Headers) -> Reply:
        body = await self._answers.wait(device_id, request_id, timeout_seconds=seconds)
        if body is None:
            return _accepted(request_id, *headers)
        return Reply(
            body=body,
            headers=[(b"location", b"/v1/requests/%s" % str(request_id).encode()), *headers],
            on_sent=lambda: self._answers.acknowledge(device_id, [request_id]),
        )

    async def _list(self, call: Call) -> Reply:
        text, after = call.query("status"), call.query("after")
        try:
            state = None if text is None else RequestState(text)
        except ValueError:
            raise InvalidRequestError("status is not one of the states", errors=("status",)) from None
        limit = call.number("limit", default=50, lowest=1, highest=200)
        page = await self._answers.page(
            call.device.device_id,
            state=state,
            before=None if after is None else read_cursor(after),
            limit=limit,
        )
        statuses = [status for _, _, status in page.entries]
        following = write_cursor(statuses[-1].accepted_at, statuses[-1].id) if page.is_more else None
        return Reply(body=encode(StatusPage(requests=statuses, next=following)))

    async def _get(self, call: Call) -> Reply:
        return Reply(body=encode(await self._answers.status(call.device.device_id, call.request_id())))

    async def _cancel(self, call: Call) -> Reply:
        request_id = call.request_id()
        status = await self._answers.cancel(call.device.device_id, request_id)
        if status is None:
            return Reply(status=202, body=encode(AcceptedBody(id=request_id, status=RequestState.CANCELLED)))
        return Reply(body=encode(status))

    async def _acknowledge(self, call: Call) -> Reply:
        request_id, device_id = call.request_id(), call.device.device_id
        acknowledged = await self._answers.acknowledge(device_id, [request_id])
        if not acknowledged:
            status = await self._answers.status(device_id, request_id)
            if not status.status.is_final:
                raise StateConflictError("it has no answer yet")
        return Reply(body=encode(AcknowledgedBody(acknowledged=tuple(acknowledged))))

    async def _events(self, call: Call) -> Reply:
        request_id, device_id = call.request_id(), call.device.device_id
        await self._answers.status(device_id, request_id)
        following = Following(
            device_id=device_id,
            request_id=request_id,
            answers=self._answers,
            mailbox=self._mailbox,
            clock=self._clock,
        )
        stream = sse.nothing() if call.scope["method"] == "HEAD" else following.events()
        return Reply(content_type=sse.CONTENT_TYPE, headers=sse.HEADERS, stream=stream)


def _accepted(request_id: UUID, *headers: tuple[bytes, bytes], state: RequestState = RequestState.QUEUED) -> Reply:
    text = str(request_id).encode()
    return Reply(
        status=202,
        body=b'{"id":"%s","status":"%s"}' % (text, state.value.encode()),
        headers=((b"location", b"/v1/requests/" + text), *headers),
    )
