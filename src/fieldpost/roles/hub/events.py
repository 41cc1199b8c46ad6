"""`GET /v1/stream` as server-sent events: for devices whose networks end WebSockets. Acknowledging goes over HTTP."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from uuid import UUID

import msgspec

from fieldpost.errors import FieldpostError, NotAcceptableError
from fieldpost.messages.devices import Credential
from fieldpost.messages.events import Broadcast, ResponseChunk
from fieldpost.observability import get_logger
from fieldpost.roles.hub.feed import Feed, Voice
from fieldpost.roles.hub.session import Session
from fieldpost.services.waiting import within
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

    def broadcast(self, broadcast: Broadcast) -> bytes:
        """A `broadcast`."""
        data = {"broadcast_id": broadcast.broadcast_id, "text": broadcast.text}
        return sse.event("broadcast", msgspec.json.encode(data))

    def leaving(self, reconnect_seconds: float) -> bytes:
        """A `draining`, and the time after which a browser's own client connects again."""
        data = msgspec.json.encode({"reconnect_seconds": reconnect_seconds})
        return b"retry: %d\n" % round(1000 * reconnect_seconds) + sse.event("draining", data)


class EventStream:
    """The operation; each call is a session of its own."""

    def __init__(self, *, open_session: OpenSession) -> None:
        self._open_session = open_session

    def operation(self) -> Operation:
        """The one there is."""
        return Operation(
            method="GET",
            path="/v1/stream",
            summary="Listens for answers",
            handler=self._listen,
            caller=Caller.DEVICE,
            answers={
                200: ("`hello`, `response`, `broadcast`, `draining` and `error` events", None, "text/event-stream")
            },
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
                log.warning("events_ended", summed=True, device_id=device.device_id, error=repr(error))
                yield sse.event("error", msgspec.json.encode(problem_of(error)))

    async def _answers(self, session: Session) -> AsyncGenerator[bytes, None]:
        feed = session.feed
        # Whatever was missed comes first.
        feed.window.is_behind = True
        async with _following(feed) as following:
            while not session.is_over and not following.done():
                item = await within(feed.outbox.take(), sse.KEEP_ALIVE_SECONDS)
                if item is None:
                    yield sse.KEEP_ALIVE
                elif item.answer_to is None or feed.window.is_on_its_way(item.answer_to):
                    # In pieces, each of which waits for the one before: so the answer counts until it is on its way.
                    for start in range(0, len(item.payload), _PIECE_BYTES):
                        yield item.payload[start : start + _PIECE_BYTES]
            if following.done():
                _raise_from(following)


@asynccontextmanager
async def _following(feed: Feed) -> AsyncIterator[asyncio.Task[None]]:
    """The feed brings while the context lasts; the outbox wakes who takes from it when it cannot go on."""
    # A task group may not last over a generator's yields: what ends the generator there would come out as a group.
    following = asyncio.create_task(feed.follow())  # noqa: TID251
    following.add_done_callback(lambda _: feed.outbox.wake())
    try:
        yield following
    finally:
        following.cancel()
        await asyncio.wait([following])


def _raise_from(following: asyncio.Task[None]) -> None:
    """What it ended with; the first, where several things went wrong."""
    error: BaseException | None = following.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        raise error
