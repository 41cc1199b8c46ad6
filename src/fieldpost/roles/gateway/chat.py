"""`/v1/chat/completions` and `/v1/models`: OpenAI's clients, unchanged, over the same durable way as everything else."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
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
    UnavailableError,
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
from fieldpost.messages.events import Event, ResponseChunk, ResponseReady, StateChanged
from fieldpost.messages.problems import problem
from fieldpost.messages.requests import Channel, ChatMessage, Input, RequestBody
from fieldpost.messages.responses import Output, Problem, Response, Usage
from fieldpost.ports.backends import Backends
from fieldpost.roles.gateway.following import may_end
from fieldpost.services.answers import Answers
from fieldpost.services.intake import Intake
from fieldpost.services.mailbox import Listener, Mailbox
from fieldpost.services.streaming import AttemptChangedError, Growing
from fieldpost.services.waiting import within
from fieldpost.settings import ChatSettings
from fieldpost.web import sse
from fieldpost.web.operations import IDEMPOTENCY_KEY, Call, Caller, Operation, Parameter, Reply
from fieldpost.web.problems import openai_error, problem_of

encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Response).decode

_decode_request = msgspec.json.Decoder(ChatRequest).decode
_NOT_HERE = ("tools", "functions", "audio", "modalities", "logprobs", "n")

#: How often the ledger is asked although nothing was heard.
_RECHECK_SECONDS = 2.0
_DONE = b"data: [DONE]\n\n"
_CANCELLED = problem("cancelled", "The request was cancelled.", 409)
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
                decode=_read,
                parameters=[IDEMPOTENCY_KEY],
                answers={200: ("The completion, or its chunks", ChatCompletion, "application/json,text/event-stream")},
                problems=(404, 409, 500, 502, 503, 504, 507),
                example={"model": self._models[0], "messages": [{"role": "user", "content": "How long may I drive?"}]},
                refinements={"ChatRequest": {"properties": {"model": {"enum": list(self._models)}}}},
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
                path="/v1/models/{id:path}",
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
        messages = tuple(ChatMessage(role=message.role, content=message.text()) for message in request.messages)
        body = RequestBody(model=request.model, input=Input(messages=messages))
        accepted = await self._intake.accept(
            call.device,
            body,
            channel=Channel.HTTP,
            idempotency_key=call.idempotency_key(),
            parameters=request.parameters(),
        )
        return accepted.request_id

    async def _start_stream(self, call: Call, request: ChatRequest) -> Reply:
        state = _Stream(model=request.model, created=int(self._clock.now().timestamp()))
        stream = self._stream(call, request, state)
        # Until it is accepted, what goes wrong has a status of its own.
        await anext(stream)

        async def acknowledge() -> None:
            if state.is_whole:
                await self._answers.acknowledge(call.device.device_id, [state.request_id])

        return Reply(content_type=sse.CONTENT_TYPE, headers=sse.HEADERS, stream=stream, on_sent=acknowledge)

    async def _stream(self, call: Call, request: ChatRequest, state: "_Stream") -> AsyncIterator[bytes]:
        """The events of a stream; first, when the request is accepted, nothing."""
        # Heard from before it is accepted: no piece can be missed.
        async with self._mailbox.listen(call.device.device_id) as listener:
            state.request_id = await self._accept(call, request)
            yield b""
            yield state.chunk(Delta(role="assistant", content=""))
            try:
                async with aclosing(self._pieces(call.device.device_id, listener, state)) as pieces:
                    async for piece in pieces:
                        yield piece
            except AttemptChangedError:
                yield _error_event(_BROKEN_OFF)
                return
            except FieldpostError as error:
                yield _error_event(problem_of(error))
                return
        output = state.output
        if output is None:
            yield _error_event(state.error)
            return
        yield state.chunk(Delta(), finish_reason=output.finish_reason)
        if request.stream_options is not None and request.stream_options.include_usage:
            yield state.usage(output.usage or Usage())
        state.is_whole = True
        yield _DONE

    async def _pieces(self, device_id: int, listener: Listener, state: "_Stream") -> AsyncGenerator[bytes, None]:
        """The text as it grows, and keep-alives; returns when `state` has the outcome."""
        growing = Growing()
        response: Response | None = None
        started = said = self._clock.monotonic()
        while response is None:
            if self._answers.is_draining or self._clock.monotonic() - started > self._timeout_seconds:
                raise _too_late(state.request_id, is_draining=self._answers.is_draining)
            heard = await within(listener.receive(), min(_RECHECK_SECONDS, self._timeout_seconds))
            for event in heard or ():
                if isinstance(event, ResponseChunk) and event.request_id == state.request_id:
                    if text := growing.take(event):
                        said = self._clock.monotonic()
                        yield state.chunk(Delta(content=text))
                elif _is_about(event, state.request_id) and may_end(event):
                    response = await self._response(device_id, state.request_id, event)
            if not heard:
                response = await self._response(device_id, state.request_id, None)
            if self._clock.monotonic() - said > sse.KEEP_ALIVE_SECONDS:
                said = self._clock.monotonic()
                yield sse.KEEP_ALIVE
        state.output, state.error = response.output, response.error or _CANCELLED
        if response.output is not None and (rest := growing.finish(response.output.text)):
            yield state.chunk(Delta(content=rest))

    async def _response(self, device_id: int, request_id: UUID, event: object) -> Response | None:
        if isinstance(event, ResponseReady) and event.body:
            return _decode(event.body)
        try:
            status = await self._answers.status(device_id, request_id)
        except (NotFoundError, UnavailableError):
            # Not yet, or not now; it is asked again until the time is up.
            return None
        return None if status.response is None else _decode(msgspec.Raw(status.response))


def _read(raw: bytes) -> ChatRequest:
    try:
        request = _decode_request(raw)
    except msgspec.ValidationError as error:
        for name in _NOT_HERE:
            if f"`$.{name}" in str(error):
                raise InvalidRequestError(f"{name} is not possible here", errors=(name,)) from error
        raise
    if request.logprobs:
        raise InvalidRequestError("logprobs is not possible here", errors=("logprobs",))
    return request


class _Stream:
    """What all chunks of one stream have in common."""

    request_id: UUID
    #: The end of it, once it is known.
    output: Output | None = None
    error: Problem = _CANCELLED
    is_whole = False

    def __init__(self, *, model: str, created: int) -> None:
        self._model = model
        self._created = created

    def chunk(self, delta: Delta, *, finish_reason: str | None = None) -> bytes:
        """One event."""
        return self._event((ChunkChoice(delta=delta, finish_reason=finish_reason),), None)

    def usage(self, usage: Usage) -> bytes:
        """The last event before the end, when it was asked for."""
        return self._event((), usage)

    def _event(self, choices: tuple[ChunkChoice, ...], usage: Usage | None) -> bytes:
        chunk = ChatCompletionChunk(
            id=f"chatcmpl-{self.request_id}",
            model=self._model,
            created=self._created,
            choices=choices,
            usage=usage,
        )
        return b"data: " + encode(chunk) + b"\n\n"


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


def _is_about(event: Event, request_id: UUID) -> bool:
    return isinstance(event, ResponseReady | StateChanged) and event.request_id == request_id


def _too_late(request_id: UUID, *, is_draining: bool) -> FieldpostError:
    if is_draining:
        return DrainingError(f"request {request_id} goes on; its answer waits for the device")
    return BackendTimeoutError(f"request {request_id} goes on; its answer waits for the device")
