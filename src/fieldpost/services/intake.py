"""The one intake behind all doors: checks a request, gives it an id, and has the broker confirm it.

No database on this path. Doors authenticate first (`credentials`) and turn errors into their own words (`web.problems`).
"""

import random
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import (
    BackendTimeoutError,
    DrainingError,
    FieldpostError,
    IdempotencyConflictError,
    InvalidRequestError,
    UnavailableError,
    UnknownModelError,
)
from fieldpost.messages.devices import Credential
from fieldpost.messages.identity import body_hash, keyed_id, time_id
from fieldpost.messages.requests import Channel, Request, RequestBody
from fieldpost.observability import Metrics, get_logger, handling
from fieldpost.ports.backends import Backends
from fieldpost.services.queues import requests_queue
from fieldpost.services.remembering import Remembered, recall, remember
from fieldpost.services.troubles import Troubles
from fieldpost.services.waiting import within
from fieldpost.settings import Settings
from fieldpost.tracing import fresh, read

#: Requests whose outcome is open, remembered so that their key is not taken for another one.
_MAX_OPEN = 10_000
#: A caller who waits for an answer waits this long at most for what the ledger knows of its key.
_LOOK_UP_SECONDS = 2.0

log = get_logger()

_encode = msgspec.msgpack.Encoder().encode


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is safe on disk; `duplicate` when this door already knew it."""

    request_id: UUID
    body_hash: bytes
    #: W3C trace context, under which the request goes on: the first one's, of a duplicate.
    traceparent: str = ""
    #: None of a duplicate.
    accepted_at: datetime | None = None
    duplicate: bool = False


class Intake:
    """Accepts requests until it drains."""

    def __init__(
        self,
        *,
        settings: Settings,
        backends: Backends,
        clock: Clock,
        source: random.Random,
        metrics: Metrics,
        troubles: Troubles | None = None,
    ) -> None:
        self._troubles = troubles or Troubles(clock)
        self.default_model = settings.model.name or ("library" if not settings.model.url else "model")
        self._backends = backends
        self._tracer = backends.tracer
        self._clock = clock
        self._source = source
        self._accepted = {channel: metrics.accepted.labels(channel.value) for channel in Channel}
        #: Keyed requests whose outcome is open, and what they ask.
        self._open: dict[UUID, bytes] = {}
        self._is_draining = False

    def drain(self) -> None:
        """Refuses everything from now on."""
        self._is_draining = True

    async def accept(
        self,
        device: Credential,
        body: RequestBody,
        *,
        channel: Channel,
        idempotency_key: str | None = None,
        parameters: dict[str, Any] | None = None,
        file_name: str | None = None,
        traceparent: str | None = None,
        is_awaited: bool = False,
    ) -> Accepted:
        """Returns when the request is on the broker's disk.

        Args:
            idempotency_key: from outside the body (a header, a frame's ref, a file); must agree with the body's.
            is_awaited: the caller waits for the answer: then a key that this door does not know is looked up in the
                ledger too, so that nobody gets the answer to another question.
            traceparent: W3C trace context as it was sent; without one, or a valid one, a trace begins here.

        Raises:
            InvalidRequestError: not exactly one of prompt and messages, keys that differ, an unknown model.
            IdempotencyConflictError: the key is known for another request.
            UnavailableError: nothing was accepted, except for BackendTimeoutError, which leaves it unknown.
        """
        if self._is_draining:
            raise DrainingError
        with self._tracer.span("accept", read(traceparent), channel=channel.value) as carried:
            carried = carried or fresh(self._source)
            request = self._request(device, body, channel, idempotency_key, parameters or {}, file_name, carried)
            with handling(request.id, carried):
                return await self._take(request, is_awaited=is_awaited)

    async def _take(self, request: Request, *, is_awaited: bool) -> Accepted:
        if is_awaited and request.idempotency_key is not None:
            await self._refuse_another(request)
        if request.idempotency_key is not None and (known := await self._known(request)) is not None:
            log.debug("request_known", channel=request.channel.value)
            return Accepted(
                request_id=request.id,
                body_hash=request.body_hash,
                traceparent=known.traceparent or request.traceparent,
                duplicate=True,
            )
        await self._publish(request)
        # From here on it is accepted: nothing that follows may say otherwise.
        self._accepted[request.channel].inc()
        log.debug("request_accepted", channel=request.channel.value)
        await self._remember(request)
        return Accepted(
            request_id=request.id,
            body_hash=request.body_hash,
            traceparent=request.traceparent,
            accepted_at=request.accepted_at,
        )

    async def _publish(self, request: Request) -> None:
        """Has the broker confirm the request; while the outcome is open its key stands for this request alone."""
        if request.idempotency_key is not None:
            self._open[request.id] = request.body_hash
            if len(self._open) > _MAX_OPEN:
                del self._open[next(iter(self._open))]
        shard = self._backends.shards.shard_of(request.device_id)
        try:
            await self._backends.broker.publish(requests_queue(shard), [_encode(request)])
        except BackendTimeoutError as error:
            self._troubles.note("intake", error)
            raise BackendTimeoutError(
                f"request {request.id}",
                retry_after_seconds=error.retry_after_seconds,
                request_id=str(request.id),
            ) from error
        except FieldpostError as error:
            self._troubles.note("intake", error)
            # Refused for certain. After a time-out, or when nobody waits for the outcome any more, it stays open.
            self._open.pop(request.id, None)
            raise

    async def _remember(self, request: Request) -> None:
        try:
            await remember([request], self._backends.shared.values)
        except FieldpostError as error:
            log.warning("request_not_remembered", summed=True, error=repr(error))
        # Not when this was cut short: then its key stands for it here alone.
        self._open.pop(request.id, None)

    async def recall(self, request_id: UUID, device_id: int) -> Remembered | None:
        """What is remembered of a request of this device that the ledger may not have yet."""
        remembered = await recall(request_id, self._backends.shared.values)
        return remembered if remembered is not None and remembered.device_id == device_id else None

    def _request(
        self,
        device: Credential,
        body: RequestBody,
        channel: Channel,
        outer_key: str | None,
        parameters: dict[str, Any],
        file_name: str | None,
        traceparent: str,
    ) -> Request:
        key = _one_key(body.idempotency_key, outer_key)
        if (body.input.prompt is None) == (body.input.messages is None):
            raise InvalidRequestError("input needs exactly one of prompt and messages", errors=("input",))
        model = body.model or self.default_model
        if model not in self._backends.model_names:
            raise UnknownModelError(repr(model[:100]), errors=("model",))
        now = self._clock.now()
        deadline_at = None if body.deadline_seconds is None else now + timedelta(seconds=body.deadline_seconds)
        return Request(
            id=time_id(now, self._source) if key is None else keyed_id(device.device_id, key),
            device_id=device.device_id,
            channel=channel,
            model=model,
            kind=body.kind,
            priority=body.priority,
            input=body.input,
            accepted_at=now,
            deadline_at=deadline_at,
            # Without a key no other request can have this id, so there is nothing to tell apart.
            body_hash=b"" if key is None else asked_hash(body, parameters=parameters),
            idempotency_key=key,
            cache=body.cache,
            parameters=parameters,
            file_name=file_name,
            traceparent=traceparent,
        )

    async def _refuse_another(self, request: Request) -> None:
        """Raises when the ledger is there and has another request under this key."""
        records = self._backends.ledger_of(request.device_id).records
        try:
            standings = await within(records.standings([request.id]), _LOOK_UP_SECONDS)
        except UnavailableError:
            return
        standing = (standings or {}).get(request.id)
        if standing is not None and standing.body_hash != request.body_hash:
            raise _conflict(request)

    async def _known(self, request: Request) -> Remembered | None:
        remembered = await self.recall(request.id, request.device_id)
        known_hash = remembered.body_hash if remembered else self._open.get(request.id)
        if known_hash is not None and known_hash != request.body_hash:
            raise _conflict(request)
        return remembered


def _conflict(request: Request) -> IdempotencyConflictError:
    return IdempotencyConflictError("the first request under this key stands", request_id=str(request.id))


def asked_hash(body: RequestBody, *, parameters: dict[str, Any]) -> bytes:
    """What tells requests under one key apart: everything in a body but the key; the default model may change."""
    asked = (body.model, body.kind, body.input, body.priority, body.deadline_seconds, body.cache, parameters)
    return body_hash(_encode(asked))


def _one_key(inner: str | None, outer: str | None) -> str | None:
    if inner is not None and outer is not None and inner != outer:
        raise InvalidRequestError("two different idempotency keys", errors=("idempotency_key",))
    return inner if outer is None else outer
