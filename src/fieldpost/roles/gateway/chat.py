"""`/v1/chat/completions` and `/v1/models`: OpenAI's clients, unchanged, over the same durable way as everything else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import (
    BackendTimeoutError,
    DrainingError,
    FieldpostError,
    InvalidRequestError,
    NotFoundError,
    UnknownModelError,
)
from fieldpost.messages.chat import (
    AnswerMessage,
    ChatCompletion,
    ChatCompletionChunk,
    ChatRequest,
    Choice,
    ChunkChoice,
    Delta,
    ModelCard,
    ModelList,
)
from fieldpost.messages.events import ResponseChunk, ResponseReady, StateChanged
from fieldpost.messages.problems import problem
from fieldpost.messages.requests import Channel, ChatMessage, Input, RequestBody
from fieldpost.messages.responses import Output, Problem, Response, Usage
from fieldpost.ports.backends import Backends
from fieldpost.services.answers import Answers
from fieldpost.services.intake import Intake
from fieldpost.services.mailbox import Listener, Mailbox
from fieldpost.services.streaming import AttemptChangedError, Growing
from fieldpost.services.waiting import within
from fieldpost.settings import ChatSettings
from fieldpost.web import sse
from fieldpost.web.operations import Call, Caller, Operation, Parameter, Reply
from fieldpost.web.problems import openai_error, problem_of

encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Response).decode

#: How often the ledger is asked although nothing was heard.
_RECHECK_SECONDS = 2.0
_DONE = b"data: [DONE]\n\n"
_CANCELLED = problem("cancelled", "The request was cancelled.", 409)
_BROKEN_OFF = problem("stream-broken-off", "The answer broke off.", 502, detail="another attempt began; ask again")


class ChatOperations:
    """The operations and their handlers."""

    def __init__(
        self,
        *,
        settings: ChatSettings,
        backends: Backends,
        clock: Clock,
        intake: Intake,
        answers: Answers,
        mailbox: Mailbox,
    ) -> None:
        self._timeout_seconds = settings.timeout_seconds
        self._models = tuple(backends.models)
        self._clock = clock
        self._intake = intake
        self._answers = answers
        self._mailbox = mailbox

    def operations(self) -> list[Operation]:
        """All of them."""
        shared: dict[str, Any] = {"caller": Caller.DEVICE, "openai_errors": True, "tag": "openai"}
        return [
            Operation(
                **shared,
                method="POST",
                path="/v1/chat/completions",
                summary="Answers a conversation, whole or as a stream",
                handler=self._complete,
                body=ChatRequest,
                answers={200: ("The completion, or its chunks", ChatCompletion, "application/json")},
                problems=(404, 409, 500, 502, 503, 504, 507),
                waits=True,
            ),
            Operation(
                **shared,
                method="GET",
                path="/v1/models",
                summary="Lists models",
                handler=self._list_models,
                answers={200: ("The models", ModelList, "application/json")},
            ),
            Operation(
                **shared,
                method="GET",
                path="/v1/models/{id}",
                summary="Shows a model",
                handler=self._show_model,
                parameters=[
                    Parameter(name="id", schema={"type": "string"}, description="The model's name", place="path")
                ],
                answers={200: ("The model", ModelCard, "application/json")},
                problems=(404,),
            ),
        ]

    async def _list_models(self, _call: Call) -> Reply:
        return Reply(body=encode(ModelList(data=tuple(ModelCard(id=name) for name in self._models))))

    async def _show_model(self, call: Call) -> Reply:
        name = call.path("id")
        if name not in self._models:
            raise UnknownModelError(f"there is no model {name[:100]!r}", errors=("model",))
        return Reply(body=encode(ModelCard(id=name)))

    async def _complete(self, call: Call) -> Reply:
        request: ChatRequest = call.body
        if request.stream:
            return await self._start_stream(call, request)
        request_id = await self._accept(call, request)
        device_id = call.device.device_id
        body = await self._answers.wait(device_id, request_id, timeout_seconds=self._timeout_seconds)
        if body is None:
            raise _too_late(request_id, is_draining=self._answers.is_draining)
        response = _decode(body)
        if response.output is None:
            return _failure(response)
        return Reply(
            body=encode(_completion(response, response.output)),
            on_sent=lambda: self._answers.acknowledge(device_id, [request_id]),
        )

    async def _accept(self, call: Call, request: ChatRequest) -> UUID:
        texts = [(message.role, message.text()) for message in request.messages]
        if not all(text for _, text in texts):
            raise InvalidRequestError("every message needs content", errors=("messages",))
        body = RequestBody(
            model=request.model,
            input=Input(messages=tuple(ChatMessage(role=role, content=text) for role, text in texts)),
        )
        accepted = await self._intake.accept(
            call.device,
            body,
            channel=Channel.HTTP,
            idempotency_key=call.header(b"idempotency-key"),
            parameters=request.parameters(),
        )
        return accepted.request_id

    async def _start_stream(self, call: Call, request: ChatRequest) -> Reply:
        device_id = call.device.device_id
        # Heard from before it is accepted: no piece can be missed.
        listening = self._mailbox.listen(device_id)
        listener = await listening.__aenter__()
        try:
            request_id = await self._accept(call, request)
        except BaseException:
            await listening.__aexit__(None, None, None)
            raise

        state = _Stream(request_id=request_id, model=request.model, created=int(self._clock.now().timestamp()))
        include_usage = request.stream_options is not None and request.stream_options.include_usage

        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in self._stream(device_id, listener, state, include_usage=include_usage):
                    yield piece
            finally:
                await listening.__aexit__(None, None, None)

        async def acknowledge() -> None:
            if state.is_whole:
                await self._answers.acknowledge(device_id, [request_id])

        return Reply(content_type=sse.CONTENT_TYPE, headers=sse.HEADERS, stream=pieces(), on_sent=acknowledge)

    async def _stream(
        self, device_id: int, listener: Listener, state: "_Stream", *, include_usage: bool
    ) -> AsyncIterator[bytes]:
        growing = Growing()
        yield state.chunk(Delta(role="assistant", content=""))
        try:
            async with asyncio.timeout(self._timeout_seconds):
                async for text in self._texts(device_id, listener, state, growing):
                    yield state.chunk(Delta(content=text))
            if state.output is None:
                yield _error_event(state.error)
                return
            if rest := growing.finish(state.output.text):
                yield state.chunk(Delta(content=rest))
        except AttemptChangedError:
            yield _error_event(_BROKEN_OFF)
            return
        except (TimeoutError, FieldpostError) as error:
            late = _too_late(state.request_id, is_draining=False)
            yield _error_event(problem_of(error if isinstance(error, FieldpostError) else late))
            return
        yield state.chunk(Delta(), finish_reason=state.output.finish_reason)
        if include_usage:
            yield state.usage(state.output.usage or Usage())
        state.is_whole = True
        yield _DONE

    async def _texts(
        self, device_id: int, listener: Listener, state: "_Stream", growing: Growing
    ) -> AsyncIterator[str]:
        """Pieces as they can be handed on, until the final response is known."""
        while True:
            events = await within(listener.receive(), _RECHECK_SECONDS)
            is_over = not events
            for event in events or ():
                is_mine = isinstance(event, ResponseChunk) and event.request_id == state.request_id
                if is_mine and (text := growing.take(event)):
                    yield text
                is_over = is_over or _is_end(event, state.request_id)
            if is_over and (response := await self._response(device_id, state.request_id)) is not None:
                state.output = response.output
                state.error = response.error or _CANCELLED
                return
            if self._answers.is_draining:
                raise DrainingError(f"request {state.request_id} goes on; its answer waits for the device")

    async def _response(self, device_id: int, request_id: UUID) -> Response | None:
        try:
            status = await self._answers.status(device_id, request_id)
        except NotFoundError:
            return None
        return None if status.response is None else _decode(msgspec.Raw(status.response))


class _Stream:
    """What all chunks of one stream have in common."""

    def __init__(self, *, request_id: UUID, model: str, created: int) -> None:
        self.request_id = request_id
        self.is_whole = False
        #: The end of it, once it is known.
        self.output: Output | None = None
        self.error: Problem = _CANCELLED
        self._fields: dict[str, Any] = {"id": f"chatcmpl-{request_id}", "model": model, "created": created}

    def chunk(self, delta: Delta, *, finish_reason: str | None = None) -> bytes:
        """One event."""
        choices = (ChunkChoice(delta=delta, finish_reason=finish_reason),)
        return b"data: " + encode(ChatCompletionChunk(**self._fields, choices=choices)) + b"\n\n"

    def usage(self, usage: Usage) -> bytes:
        """The last event before the end, when it was asked for."""
        return b"data: " + encode(ChatCompletionChunk(**self._fields, choices=(), usage=usage)) + b"\n\n"


def _completion(response: Response, output: Output) -> ChatCompletion:
    return ChatCompletion(
        id=f"chatcmpl-{response.request_id}",
        created=int(response.completed_at.timestamp()),
        model=response.model,
        choices=(Choice(message=AnswerMessage(content=output.text), finish_reason=output.finish_reason),),
        usage=output.usage or Usage(),
    )


def _failure(response: Response) -> Reply:
    document = response.error or _CANCELLED
    return Reply(status=document.status, body=encode(openai_error(document)))


def _error_event(document: Problem) -> bytes:
    return b"data: " + encode(openai_error(document)) + b"\n\n"


def _is_end(event: object, request_id: UUID) -> bool:
    if isinstance(event, ResponseReady):
        return event.request_id == request_id
    return isinstance(event, StateChanged) and event.request_id == request_id and event.status.is_final


def _too_late(request_id: UUID, *, is_draining: bool) -> FieldpostError:
    if is_draining:
        return DrainingError(f"request {request_id} goes on; its answer waits for the device")
    return BackendTimeoutError(f"request {request_id} goes on; its answer waits for the device")
