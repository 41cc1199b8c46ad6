"""Requests: the body a device posts, the envelope that crosses processes, the state that devices see."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec

from fieldpost.messages.texts import NAME_PATTERN, NO_NUL_PATTERN, Text
from fieldpost.tracing import LENGTH

#: A request body in bytes, everything included; larger input is an attachment.
MAX_BODY_BYTES = 2**20
#: Seconds; ten years, so that every deadline fits a date.
MAX_DEADLINE_SECONDS = 10 * 365 * 86_400


class Channel(StrEnum):
    """The door through which a request came, and through which its answer goes."""

    HTTP = "http"
    WEBSOCKET = "websocket"
    FOLDER = "folder"


class Priority(StrEnum):
    """Which requests go first when there is not room for all."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class RequestState(StrEnum):
    """`queued → processing → succeeded | failed | expired | cancelled`; the last four are final."""

    QUEUED = "queued"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether this state never changes again."""
        return self not in (RequestState.QUEUED, RequestState.PROCESSING)


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One turn of a conversation, as in the OpenAI API."""

    role: Annotated[str, msgspec.Meta(pattern="^(system|developer|user|assistant)$")]
    content: Text


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is asked: exactly one of `prompt` and `messages` (the intake checks that)."""

    prompt: Text | None = None
    messages: Annotated[tuple[ChatMessage, ...], msgspec.Meta(min_length=1, max_length=1000)] | None = None

    def as_messages(self) -> tuple[ChatMessage, ...]:
        """The conversation form, whichever form was posted."""
        if self.messages is not None:
            return self.messages
        return (ChatMessage(role="user", content=self.prompt or ""),)


IdempotencyKey = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=NO_NUL_PATTERN)]


class RequestBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a device posts, through any door."""

    input: Input
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=NO_NUL_PATTERN)] | None = None
    kind: Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=NAME_PATTERN)] | None = None
    priority: Priority = Priority.NORMAL
    deadline_seconds: Annotated[float, msgspec.Meta(gt=0, le=MAX_DEADLINE_SECONDS)] | None = None
    idempotency_key: IdempotencyKey | None = None
    cache: bool = True


class Envelope(RequestBody, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a device drops as a file: a body, and what other doors take beside it."""

    #: W3C trace context; one that is not valid is ignored.
    traceparent: str | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request on its way: what doors publish and the ledger keeps."""

    id: UUID
    device_id: int
    channel: Channel
    model: str
    priority: Priority
    input: Input
    accepted_at: datetime
    #: SHA-256 over all that is asked for, and how: tells whether a reused key means the same request.
    #: Empty without a key.
    body_hash: bytes
    kind: str | None = None
    deadline_at: datetime | None = None
    idempotency_key: str | None = None
    cache: bool = True
    #: Sampling parameters for the model, as chat completions name them.
    parameters: dict[str, Any] = {}
    #: Folder door: the name of the dropped file, which names the answer's file.
    file_name: str | None = None
    #: W3C trace context; empty in what was accepted before there was one.
    traceparent: Annotated[str, msgspec.Meta(max_length=LENGTH)] = ""


class RequestStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a request stands, as `GET /v1/requests/{id}` shows it."""

    id: UUID
    status: RequestState
    model: str
    accepted_at: datetime
    attempts: int = 0
    deadline_at: datetime | None = None
    completed_at: datetime | None = None
    acknowledged_at: datetime | None = None
    response: msgspec.Raw | None = None
