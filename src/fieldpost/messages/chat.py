"""Chat completions on the wire, as OpenAI's clients write and read them; only what Fieldpost can honour.

Source: OpenAI API reference, "Create chat completion".
"""

from typing import Annotated, Any, Literal

import msgspec

from fieldpost.errors import InvalidRequestError
from fieldpost.messages.responses import Usage
from fieldpost.messages.texts import NO_NUL_PATTERN, Text

#: How deep a schema for the answer may be nested.
MAX_DEPTH = 64


class TextPart(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a message's content; other kinds (images, audio) are refused."""

    type: Literal["text"]
    text: Text


class IncomingMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One turn; an assistant's may be a refusal without content. Members that only matter to tools are not looked at."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[tuple[TextPart, ...], msgspec.Meta(min_length=1)] | None = None
    refusal: Annotated[str, msgspec.Meta(pattern=NO_NUL_PATTERN)] | None = None

    def __post_init__(self) -> None:
        """Something must be said."""
        if self.content is None and not (self.role == "assistant" and (self.refusal or "").strip()):
            raise ValueError("content is missing")

    def text(self) -> str:
        """What is said, as one string."""
        if self.content is None:
            return self.refusal or ""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream is sent."""

    include_usage: bool = False


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The form that the answer's text is to have; a schema is passed on as the model's server reads it."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


#: How much a model is to think, or to say: `low`, `medium`, … Which there are is its server's business.
Effort = Annotated[str, msgspec.Meta(min_length=1, max_length=40, pattern=NO_NUL_PATTERN)]


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/chat/completions`; what is not named here is neither looked at nor passed on."""

    model: str
    messages: Annotated[tuple[IncomingMessage, ...], msgspec.Meta(min_length=1, max_length=1000)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    presence_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | Annotated[tuple[str, ...], msgspec.Meta(max_length=4)] | None = None
    logit_bias: dict[str, Annotated[int, msgspec.Meta(ge=-100, le=100)]] | None = None
    reasoning_effort: Effort | None = None
    verbosity: Effort | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None
    modalities: tuple[Literal["text"], ...] | None = None
    #: What is not possible here may be sent empty, or as what is done anyway.
    logprobs: Annotated[bool, msgspec.Meta(extra_json_schema={"const": False})] | None = None
    top_logprobs: Literal[0] | None = None
    audio: None = None
    tools: tuple[()] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    functions: tuple[()] | None = None
    function_call: Literal["none", "auto"] | None = None
    web_search_options: None = None

    @property
    def wants_json(self) -> bool:
        """Whether the answer has to have a form that only some models can be told."""
        return self.response_format is not None and self.response_format.type != "text"

    def parameters(self) -> dict[str, Any]:
        """The sampling parameters that were given, as values that can be stored.

        Raises:
            InvalidRequestError: one is nested too deeply.
        """
        given = {name: getattr(self, name) for name in SAMPLING_PARAMETERS}
        return {name: _plain(value, name, 0) for name, value in given.items() if value is not None}


#: What is passed on to models.
SAMPLING_PARAMETERS = (
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "logit_bias",
    "reasoning_effort",
    "verbosity",
    "response_format",
    "user",
)


class AnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What the model said."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: str | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The one choice."""

    index: int = 0
    message: AnswerMessage
    finish_reason: str
    logprobs: None = None


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: Usage


class Delta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of an answer."""

    role: str | None = None
    content: str | None = None


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the one choice."""

    index: int = 0
    delta: Delta
    finish_reason: str | None = None
    logprobs: None = None


class ChatCompletionChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | None = None


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "fieldpost"


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """All models."""

    object: Literal["list"] = "list"
    data: tuple[ModelCard, ...]


def _plain(value: Any, name: str, depth: int) -> Any:
    """The value without types of ours, and with integers past 64 bits as floats, as most readers of JSON have them."""
    if depth > MAX_DEPTH:
        raise InvalidRequestError(f"{name} is nested too deeply", errors=(name,))
    if isinstance(value, msgspec.Struct):
        value = {key: item for key, item in msgspec.structs.asdict(value).items() if item is not None}
    if isinstance(value, dict):
        return {key: _plain(item, name, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, name, depth + 1) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(min(max(value, -(10**300)), 10**300))
    return value
