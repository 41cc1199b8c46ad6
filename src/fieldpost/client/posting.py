"""What a device asks, made ready to be posted as often as it takes: one key, one id, whatever the door."""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from fieldpost import tracing
from fieldpost.client.retrying import Retrying
from fieldpost.errors import (
    BackendTimeoutError,
    FieldpostError,
    InvalidRequestError,
    OutcomeUnknownError,
    RequestTooLargeError,
)
from fieldpost.messages.identity import keyed_id
from fieldpost.messages.requests import MAX_BODY_BYTES, ChatMessage, RequestBody
from fieldpost.messages.texts import in_words

#: What may be asked: a prompt, or a conversation.
Question = str | Sequence[ChatMessage | Mapping[str, str]]


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """A request with its key, and the id that it has, or will have, on every door."""

    request_id: UUID
    body: RequestBody
    #: The body as JSON.
    encoded: bytes
    #: W3C trace context; empty for none.
    traceparent: str = ""


def prepare(
    device_id: int,
    question: Question,
    *,
    idempotency_key: str | None = None,
    traceparent: str | None = None,
    **options: Any,
) -> Posting:
    """Checks what is asked and gives it a key when it has none.

    Args:
        traceparent: goes beside the body; one that is not valid is left out.
        options: the other members of the body; those that are None are left out.

    Raises:
        InvalidRequestError: a member is wrong; it says which.
        RequestTooLargeError: more than a body may hold.
    """
    # The types promise it, but a device's program is rarely checked for types.
    given: object = question
    if isinstance(given, bytes) or not isinstance(given, Sequence):
        kind = type(given).__name__
        raise InvalidRequestError(f"a question is a text, or a list of messages with `role` and `content`; not {kind}")
    key = secrets.token_hex(16) if idempotency_key is None else idempotency_key
    asked = {"prompt": question} if isinstance(question, str) else {"messages": list(question)}
    members = {name: value for name, value in options.items() if value is not None}
    try:
        body = msgspec.convert({**members, "input": asked, "idempotency_key": key}, RequestBody)
        encoded = msgspec.json.encode(body)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise InvalidRequestError(in_words(str(error)).replace("`$.", "`")) from error
    if len(encoded) > MAX_BODY_BYTES:
        raise RequestTooLargeError(f"{len(encoded)} bytes; {MAX_BODY_BYTES} at most")
    return Posting(
        request_id=keyed_id(device_id, key), body=body, encoded=encoded, traceparent=tracing.read(traceparent)
    )


async def post_safely(
    posting: Posting, send: Callable[[], Awaitable[UUID]], *, retrying: Retrying, give_up_seconds: float
) -> UUID:
    """Sends until the request is accepted; the key makes sending it again safe.

    Raises:
        OutcomeUnknownError: given up, or refused, after a try that may have been accepted.
        FieldpostError: refused, or given up; surely not accepted.
    """
    may_be_accepted = False

    async def attempt() -> UUID:
        nonlocal may_be_accepted
        try:
            return await send()
        except (OutcomeUnknownError, BackendTimeoutError):
            may_be_accepted = True
            raise

    try:
        return await retrying.run(attempt, give_up_seconds=give_up_seconds)
    except FieldpostError as error:
        if may_be_accepted:
            raise _unknown(posting, error) from error
        _name(error, posting)
        raise


def _unknown(posting: Posting, last: FieldpostError) -> OutcomeUnknownError:
    key = posting.body.idempotency_key
    return OutcomeUnknownError(
        f"request {posting.request_id}, idempotency key {key}; the last try: {last}",
        request_id=posting.request_id,
        idempotency_key=key,
    )


def _name(error: FieldpostError, posting: Posting) -> None:
    """Tells which request was given up, also to those who only see the text; one that is refused is known to its caller."""
    error.data = error.data | {"request_id": posting.request_id, "idempotency_key": posting.body.idempotency_key}
    if error.retryable:
        error.detail = f"{error.detail} (request {posting.request_id})".strip()
