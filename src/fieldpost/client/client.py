"""The SDK's client: posts, waits, asks, cancels, acknowledges and listens, as one device."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Iterable
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID

import msgspec

from fieldpost.client.address import find
from fieldpost.client.http import Http
from fieldpost.client.link import OnBroadcast, OnChunk, OnTrouble
from fieldpost.client.posting import Question, post_safely, prepare
from fieldpost.client.retrying import Retrying
from fieldpost.client.standing import Standing
from fieldpost.client.stream import Stream
from fieldpost.clock import Clock, SystemClock
from fieldpost.errors import CorruptDataError, FieldpostError, NoAnswerYetError, UnavailableError
from fieldpost.messages.requests import RequestState
from fieldpost.messages.responses import Response

T = TypeVar("T")

#: How long a call that may be made again is made again.
GIVE_UP_SECONDS = 60.0
#: How long `wait` tries to acknowledge the answer that it already has.
ACKNOWLEDGE_SECONDS = 5.0
#: Between two looks at a request whose stream of events ended without an answer.
_FOLLOW_AGAIN_SECONDS = 0.5


class _Posted(msgspec.Struct):
    id: UUID


class _Cancelled(msgspec.Struct):
    status: RequestState


class AsyncClient:
    """A device's connection to Fieldpost, for asyncio.

    Args:
        url: the server; by default from `FIELDPOST_URL`, else http://127.0.0.1:5000.
        key: the device's key; by default from `FIELDPOST_KEY`.
        give_up_seconds: calls that the server cannot serve right now are repeated for so long, with back-off
            1, 2, 4, … s and never sooner than its `Retry-After`.

    Raises:
        ConfigError: the URL cannot be one.
        UnauthenticatedError: the key cannot be one.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        give_up_seconds: float = GIVE_UP_SECONDS,
        clock: Clock | None = None,
        source: random.Random | None = None,
    ) -> None:
        self._address = find(url, key)
        self._give_up_seconds = give_up_seconds
        self._retrying = Retrying(
            clock=clock or SystemClock(),
            source=source or random.Random(),  # noqa: S311 spreads waits
        )
        self._http = Http(self._address)
        self._streams: set[Stream] = set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes every stream and connection."""
        for stream in tuple(self._streams):
            await stream.aclose()
        await self._http.aclose()

    async def post(
        self,
        question: Question,
        *,
        model: str | None = None,
        kind: str | None = None,
        priority: str | None = None,
        deadline_seconds: float | None = None,
        idempotency_key: str | None = None,
        cache: bool | None = None,
        traceparent: str | None = None,
    ) -> UUID:
        """Posts a request; returns its id when it is safe on the server's disk.

        Args:
            question: a prompt, or messages with `role` and `content`.
            idempotency_key: the same key means the same request, however often it is posted; random by default, so
                that what this call repeats is one request.
            traceparent: W3C trace context, when this is part of a trace; the server begins one otherwise.

        Raises:
            OutcomeUnknownError: given up after a try that may have been accepted; it names the id and the key.
            FieldpostError: refused, or given up; surely not accepted.
        """
        posting = prepare(
            self._address.device_id,
            question,
            model=model,
            kind=kind,
            priority=priority,
            deadline_seconds=deadline_seconds,
            idempotency_key=idempotency_key,
            cache=cache,
            traceparent=traceparent,
        )

        async def send() -> UUID:
            headers = {"traceparent": posting.traceparent} if posting.traceparent else {}
            reply = await self._http.call("POST", "/v1/requests", posting.encoded, headers=headers)
            return _decoded(reply, _Posted).id

        return await post_safely(posting, send, retrying=self._retrying, give_up_seconds=self._give_up_seconds)

    async def wait(self, request_id: UUID, *, timeout_seconds: float = 60.0, acknowledge: bool = True) -> Response:
        """The final answer, whatever it is (look at its `status`), acknowledged unless you do that yourself, later.

        When acknowledging fails, the answer is returned all the same, and may come again to a listener. Cancelled after
        the answer came, it may be acknowledged and not returned: `status` still has it.

        Raises:
            NoAnswerYetError: not in time; the request goes on, and waiting again is fine.
            NotFoundError: this device has no such request.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                response = await self._final(request_id, timeout_seconds)
        except TimeoutError:
            raise NoAnswerYetError(f"request {request_id}", request_id=request_id) from None
        except UnavailableError as error:
            raise NoAnswerYetError(f"request {request_id}; the last try: {error}", request_id=request_id) from error
        if acknowledge:
            with contextlib.suppress(FieldpostError):
                await self._acknowledge(request_id, give_up_seconds=ACKNOWLEDGE_SECONDS)
        return response

    async def ask(
        self,
        question: Question,
        *,
        timeout_seconds: float = 60.0,
        model: str | None = None,
        kind: str | None = None,
        priority: str | None = None,
        deadline_seconds: float | None = None,
        idempotency_key: str | None = None,
        cache: bool | None = None,
        traceparent: str | None = None,
    ) -> Response:
        """Posts and waits: see `post` and `wait`. `timeout_seconds` begins when the request is accepted."""
        request_id = await self.post(
            question,
            model=model,
            kind=kind,
            priority=priority,
            deadline_seconds=deadline_seconds,
            idempotency_key=idempotency_key,
            cache=cache,
            traceparent=traceparent,
        )
        return await self.wait(request_id, timeout_seconds=timeout_seconds)

    async def status(self, request_id: UUID) -> Standing:
        """Where a request stands; does not acknowledge."""
        return _decoded(await self._call("GET", f"/v1/requests/{request_id}"), Standing)

    async def cancel(self, request_id: UUID) -> RequestState:
        """Cancels a request; the state that resulted.

        Raises:
            StateConflictError: it had already ended.
        """
        return _decoded(await self._call("DELETE", f"/v1/requests/{request_id}"), _Cancelled).status

    async def acknowledge(self, request_ids: Iterable[UUID]) -> None:
        """Tells the server that the device has these answers; returns when that is recorded.

        Raises:
            StateConflictError: one has no answer yet.
        """
        for request_id in request_ids:
            await self._acknowledge(request_id, give_up_seconds=self._give_up_seconds)

    def connect(
        self,
        *,
        on_trouble: OnTrouble | None = None,
        on_chunk: OnChunk | None = None,
        on_broadcast: OnBroadcast | None = None,
    ) -> Stream:
        """A listener that can also post; use it as a context manager.

        Args:
            on_trouble: hears why there is no connection, each time that one is lost or cannot be made.
            on_chunk: hears pieces of answers in the making, of models that stream. They are a preview: a higher
                `attempt` starts anew, pieces may be missing, and the answer comes whole all the same.
            on_broadcast: hears what operators tell connected devices. Who is not connected then never does.
        """
        return Stream(
            self._address,
            retrying=self._retrying,
            give_up_seconds=self._give_up_seconds,
            on_trouble=on_trouble,
            on_chunk=on_chunk,
            on_broadcast=on_broadcast,
            opened=self._streams,
        )

    async def listen(
        self,
        *,
        on_trouble: OnTrouble | None = None,
        on_chunk: OnChunk | None = None,
        on_broadcast: OnBroadcast | None = None,
    ) -> AsyncGenerator[Response, None]:
        """Every answer for this device that is not acknowledged yet, then every further one, for ever.

        An answer is acknowledged when the next one is asked for. The one at which the loop is left is not, and comes
        again another time; to acknowledge that one too, use `connect`.
        Who listens again at once leaves it with `contextlib.aclosing`: acknowledgements are recorded then.

        Raises:
            FieldpostError: the server refuses this device for good. Being offline is no error.
        """
        async with self.connect(on_trouble=on_trouble, on_chunk=on_chunk, on_broadcast=on_broadcast) as stream:
            while True:
                response = await stream.receive()
                yield response
                stream.acknowledge(response)

    async def _call(self, method: str, path: str) -> bytes:
        return await self._retrying.run(lambda: self._http.call(method, path), give_up_seconds=self._give_up_seconds)

    async def _acknowledge(self, request_id: UUID, *, give_up_seconds: float) -> None:
        await self._retrying.run(
            lambda: self._http.call("POST", f"/v1/requests/{request_id}/ack"), give_up_seconds=give_up_seconds
        )

    async def _final(self, request_id: UUID, give_up_seconds: float) -> Response:
        while True:
            response = await self._retrying.run(lambda: self._follow(request_id), give_up_seconds=give_up_seconds)
            if response is not None:
                return response
            await self._retrying.clock.sleep(_FOLLOW_AGAIN_SECONDS)

    async def _follow(self, request_id: UUID) -> Response | None:
        """None when the stream of events ends, or breaks off, after it had begun: then it is worth another look soon."""
        has_begun = False
        try:
            async with contextlib.aclosing(self._http.events(f"/v1/requests/{request_id}/events")) as events:
                async for name, data in events:
                    has_begun = True
                    if name == "response":
                        return _decoded(data, Response)
        except UnavailableError:
            if not has_begun:
                raise
        return None


def _decoded(content: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise CorruptDataError(f"the server's reply cannot be read: {error}") from error
