"""`/v1/chat/completions` and `/v1/models`: OpenAI's clients, unchanged, over the same durable way as everything else."""

import re
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import BackendTimeoutError, FieldpostError, InvalidRequestError, UnknownModelError
from fieldpost.messages.chat import AnswerMessage, ChatCompletion, ChatRequest, Choice, ModelCard, ModelList
from fieldpost.messages.requests import Channel, ChatMessage, Input, RequestBody
from fieldpost.messages.responses import Output, Response, Usage
from fieldpost.ports.backends import Backends
from fieldpost.roles.gateway.completion_stream import CANCELLED, CompletionStream, too_late
from fieldpost.services.answers import Answers
from fieldpost.services.intake import Intake
from fieldpost.services.mailbox import Mailbox
from fieldpost.settings import ChatSettings
from fieldpost.web import sse
from fieldpost.web.decoding import decoder
from fieldpost.web.operations import IDEMPOTENCY_KEY, TRACEPARENT, Call, Caller, Operation, Parameter, Reply
from fieldpost.web.problems import openai_error, openai_error_reply

encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Response).decode
_decode_request = decoder(ChatRequest)

#: Members of OpenAI's request that would change the answer, and that nothing here can honour.
_NOT_HERE = {
    "tools": "no tools can be called from here",
    "tool_choice": "no tools can be called from here",
    "functions": "no functions can be called from here",
    "function_call": "no functions can be called from here",
    "web_search_options": "the web is not searched from here",
    "audio": "answers are text only",
    "modalities": "answers are text only",
    "logprobs": "probabilities are not told",
    "top_logprobs": "probabilities are not told",
    "n": "there is one answer to a question",
}
#: What the type of a turn cannot say.
_SAYS_SOMETHING = [
    {"required": ["content"], "properties": {"content": {"type": ["string", "array"]}}},
    {
        "required": ["refusal"],
        "properties": {"role": {"const": "assistant"}, "refusal": {"type": "string", "minLength": 1}},
    },
]


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
        self._models = backends.model_names
        self._plain_models = backends.plain_models
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
                parameters=[IDEMPOTENCY_KEY, TRACEPARENT],
                answers={200: ("The completion, or its chunks", ChatCompletion, "application/json,text/event-stream")},
                problems=(404, 409, 500, 502, 503, 504, 507),
                example={"model": self._models[0], "messages": [{"role": "user", "content": "How long may I drive?"}]},
                refinements={
                    "ChatRequest": {
                        "properties": {"model": {"enum": list(self._models)}},
                        "anyOf": self._forms(),
                    },
                    "IncomingMessage": {"anyOf": _SAYS_SOMETHING},
                },
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

    def _forms(self) -> list[dict[str, Any]]:
        """Which models may be told the form of their answer."""
        text = {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"type": {"const": "text"}}}]}
        others = [name for name in self._models if name not in self._plain_models]
        plain: dict[str, Any] = {"properties": {"response_format": text}}
        return [plain, {"properties": {"model": {"enum": others}}}] if others else [plain]

    async def _list_models(self, _call: Call) -> Reply:
        return Reply(body=encode(ModelList(data=tuple(ModelCard(id=name) for name in self._models))))

    async def _show_model(self, call: Call) -> Reply:
        name = call.path("id")
        if name not in self._models:
            raise UnknownModelError(repr(name[:100]), errors=("model",))
        return Reply(body=encode(ModelCard(id=name)))

    async def _complete(self, call: Call) -> Reply:
        try:
            return await (self._start_stream if call.body.stream else self._answer)(call, call.body)
        except BackendTimeoutError as error:
            if call.idempotency_key() is not None:
                raise
            # It may have been accepted, and without a key it would be another request.
            return _last_word(openai_error_reply(error))

    async def _answer(self, call: Call, request: ChatRequest) -> Reply:
        request_id = await self._accept(call, request)
        # It is on disk; nobody who waits holds it in memory too.
        del request
        call.body = None
        device_id = call.device.device_id
        try:
            body = await self._answers.wait(device_id, request_id, timeout_seconds=self._timeout_seconds)
            if body is None:
                raise too_late(request_id, is_draining=self._answers.is_draining)
        except FieldpostError as error:
            return _last_word(openai_error_reply(error))
        return _reply(_decode(body), on_sent=lambda: self._answers.acknowledge(device_id, [request_id]))

    async def _accept(self, call: Call, request: ChatRequest) -> UUID:
        if request.wants_json and request.model in self._plain_models:
            raise InvalidRequestError(
                f"{request.model} answers in plain text; it cannot be told a response_format",
                errors=("response_format",),
            )
        messages = tuple(ChatMessage(role=message.role, content=message.text()) for message in request.messages)
        body = RequestBody(model=request.model, input=Input(messages=messages))
        accepted = await self._intake.accept(
            call.device,
            body,
            channel=Channel.HTTP,
            idempotency_key=call.idempotency_key(),
            parameters=request.parameters(),
            traceparent=call.header(b"traceparent"),
            is_awaited=True,
        )
        return accepted.request_id

    async def _start_stream(self, call: Call, request: ChatRequest) -> Reply:
        stream = CompletionStream(
            accept=lambda: self._accept(call, call.body),
            device_id=call.device.device_id,
            request=request,
            timeout_seconds=self._timeout_seconds,
            clock=self._clock,
            answers=self._answers,
            mailbox=self._mailbox,
        )
        events = stream.events()
        # Until it is accepted, what goes wrong has a status of its own.
        await anext(events)
        call.body = None

        async def acknowledge() -> None:
            if stream.is_whole:
                await self._answers.acknowledge(call.device.device_id, [stream.request_id])

        return Reply(content_type=sse.CONTENT_TYPE, headers=sse.HEADERS, stream=events, on_sent=acknowledge)


def _read(raw: bytes) -> ChatRequest:
    try:
        request = _decode_request(raw)
    except msgspec.ValidationError as error:
        member = re.match(r"\w*", str(error).rpartition(" - at `$.")[2])
        if member is not None and member[0] in _NOT_HERE:
            raise _not_here(member[0]) from error
        raise
    if request.logprobs:
        raise _not_here("logprobs")
    return request


def _not_here(name: str) -> InvalidRequestError:
    return InvalidRequestError(f"{name} is not possible here: {_NOT_HERE[name]}", errors=(name,))


def _completion(response: Response, output: Output) -> ChatCompletion:
    return ChatCompletion(
        id=f"chatcmpl-{response.request_id}",
        created=int(response.completed_at.timestamp()),
        model=response.model,
        choices=(Choice(message=AnswerMessage(content=output.text), finish_reason=output.finish_reason),),
        usage=output.usage or Usage(),
    )


def _reply(response: Response, *, on_sent: Callable[[], Awaitable[object]]) -> Reply:
    """The final answer, good or bad: sent whole, the device has it."""
    if response.output is not None:
        return Reply(body=encode(_completion(response, response.output)), on_sent=on_sent)
    document = response.error or CANCELLED
    return _last_word(Reply(status=document.status, body=encode(openai_error(document)), on_sent=on_sent))


def _last_word(reply: Reply) -> Reply:
    """Has OpenAI's clients not ask again by themselves: without a key that would be a second request."""
    return msgspec.structs.replace(reply, headers=[*reply.headers, (b"x-should-retry", b"false")])
