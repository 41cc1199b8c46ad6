"""Responses: what a device gets back, the same on every door, and what a worker reports."""

from datetime import datetime
from uuid import UUID

import msgspec

from fieldpost.messages.requests import RequestState


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Problem details. Source: RFC 9457."""

    type: str
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    #: Which members of the request are wrong, or other data of the error.
    errors: tuple[str, ...] = ()


class Source(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A passage that an answer rests on."""

    file: str
    heading: str = ""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens, as the model's server counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Output(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model answered."""

    text: str
    finish_reason: str = "stop"
    sources: tuple[Source, ...] = ()
    usage: Usage | None = None


class Response(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The one final answer to a request; `output` when it succeeded, else `error`."""

    request_id: UUID
    status: RequestState
    model: str
    attempts: int
    accepted_at: datetime
    completed_at: datetime
    output: Output | None = None
    error: Problem | None = None
    #: Folder door: the file that asked.
    file_name: str | None = None
    #: W3C trace context of the request.
    traceparent: str = ""


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A final answer with what is needed to bring it to its device; `body` is an encoded Response."""

    request_id: UUID
    device_id: int
    completed_at: datetime
    body: bytes


class AttemptResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker reports of one attempt; exactly one of `output` and `error`."""

    request_id: UUID
    device_id: int
    attempt: int
    #: Attempts before this one that ended without an answer.
    failures: int
    model: str
    accepted_at: datetime
    file_name: str | None = None
    traceparent: str = ""
    output: Output | None = None
    error: Problem | None = None
    #: With `error`: whether another attempt may succeed, and the shortest wait before it.
    retryable: bool = False
    retry_after_seconds: float | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A work message: which request to claim; the ledger has the rest."""

    request_id: UUID
    device_id: int
