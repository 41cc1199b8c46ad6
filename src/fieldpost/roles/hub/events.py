"""`GET /v1/stream` as server-sent events: for devices whose networks end WebSockets. Acknowledging goes over HTTP."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import FieldpostError, NotAcceptableError
from fieldpost.messages.devices import Credential
from fieldpost.messages.events import ResponseChunk
from fieldpost.observability import get_logger
from fieldpost.roles.hub.feed import Voice
from fieldpost.roles.hub.session import Session
from fieldpost.web import sse
from fieldpost.web.operations import Call, Caller, Operation, Reply
from fieldpost.web.problems import problem_of

log = get_logger()

_PIECE_BYTES = 65_536

#: Opens a session of a device that speaks with a voice; refuses as `Sessions.place` does.
OpenSession = Callable[[Credential, Voice], AbstractAsyncContextManager[Session]]


class EventVoice:
    """Answers as events."""

    def answer(self, request_id: UUID, body: bytes) -> bytes:
        """A `response`; its id is the request's."""
        return sse.event("response", body, id=str(request_id))

    def chunk(self, chunk: ResponseChunk) -> bytes | None:  # noqa: ARG002 whole answers only
        """Nothing: pieces are for `/v1/requests/{id}/events`."""
        return None

    def leaving(self, reconnect_seconds: float) -> bytes:
        """A `draining`, and the time after which a browser's own client connects again."""
        data = msgspec.json.encode({"reconnect_seconds": reconnect_seconds})
        return b"retry: %d\n" % round(1000 * reconnect_seconds) + sse.event("draining", data)


class EventStream:
    """The operation; each call is a session of its own."""

    def __init__(self, *, open_session: OpenSession, clock: Clock) -> None:
        self._open_session = open_session
        self._clock = clock

    def operation(self) -> Operation:
        """The one there is."""
        return Operation(
            method="GET",
            path="/v1/stream",
            summary="Listens for answers",
            handler=self._listen,
            caller=Caller.DEVICE,
            answers={200: ("`hello`, `response`, `draining` and `error` events", None, "text/event-stream")},
            problems=(406, 503),
            waits=True,
            tag="responses",
        )

    async def _listen(self, call: Call) -> Reply:
        if "text/event-stream" not in (call.header(b"accept") or ""):
            raise NotAcceptableError("ask for a WebSocket, or for text/event-stream")
        if call.scope["method"] == "HEAD":
            return Reply(content_type=sse.CONTENT_TYPE, headers=sse.HEADERS, stream=sse.nothing())
        events = self._events(call.device)
        # Until there is a place for it, what goes wrong has a status of its own.
        await anext(events)
        return Reply(content_type=sse.CONTENT_TYPE, headers=sse.HEADERS, stream=events)

    async def _events(self, device: Credential) -> AsyncIterator[bytes]:
        async with self._open_session(device, EventVoice()) as session:
            yield b""
            yield sse.event("hello", msgspec.json.encode({"device_id": device.device_id}))
            try:
                async with aclosing(self._answers(session)) as answers:
                    async for answer in answers:
                        yield answer
            except FieldpostError as error:
                # A ledger that is away was asked again; what comes here does not pass.
                log.warning("events_ended", device_id=device.device_id, error=repr(error))
                yield sse.event("error", msgspec.json.encode(problem_of(error)))

    async def _answers(self, session: Session) -> AsyncGenerator[bytes, None]:
        feed = session.feed
        # Whatever was missed comes first.
        feed.window.is_behind = True
        said = self._clock.monotonic()
        while not session.is_over:
            is_more = await feed.catch_up()
            while (item := feed.outbox.take_now()) is not None:
                if item.answer_to is None or feed.window.is_on_its_way(item.answer_to):
                    said = self._clock.monotonic()
                    # In pieces, each of which waits for the one before: so the answer counts until it is on its way.
                    for start in range(0, len(item.payload), _PIECE_BYTES):
                        yield item.payload[start : start + _PIECE_BYTES]
            if self._clock.monotonic() - said >= sse.KEEP_ALIVE_SECONDS:
                said = self._clock.monotonic()
                yield sse.KEEP_ALIVE
            if not is_more:
                await feed.hear(sse.KEEP_ALIVE_SECONDS)
