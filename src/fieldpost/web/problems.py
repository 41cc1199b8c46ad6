"""One of the two tables that turn errors into outcomes: what HTTP and WebSocket say. The other is `services.outcomes`.

Source: RFC 9457 (problem details), RFC 9110 (status codes).
"""

import math
from collections.abc import Sequence

import msgspec

from fieldpost import errors
from fieldpost.messages.problems import problem, problem_type
from fieldpost.messages.responses import Problem
from fieldpost.messages.texts import in_words
from fieldpost.web.operations import Reply

#: The most specific class that stands here decides.
STATUS: dict[type[errors.FieldpostError], int] = {
    errors.MalformedRequestError: 400,
    errors.UnauthenticatedError: 401,
    errors.ForbiddenError: 403,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.StateConflictError: 409,
    errors.RequestTooLargeError: 413,
    errors.NotAcceptableError: 406,
    errors.UnsupportedMediaTypeError: 415,
    errors.InvalidRequestError: 422,
    errors.RejectedError: 400,
    errors.BackendTimeoutError: 504,
    errors.StorageFullError: 507,
    errors.TooManyCallsError: 429,
    errors.UnavailableError: 503,
    errors.FieldpostError: 500,
}
_SUFFIX = "Error"


def problem_of(error: Exception, *, instance: str = "") -> Problem:
    """The problem document for an error; an error that is not ours says nothing about itself."""
    if not isinstance(error, errors.FieldpostError):
        detail = "the outcome is unknown; sending the same again with the same idempotency key is safe"
        return problem(
            "internal-error", "Something went wrong inside Fieldpost.", 500, detail=detail, instance=instance
        )
    status = next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)
    members = error.data.get("errors", ())
    return Problem(
        type=problem_type(_slug(type(error))),
        title=error.title,
        status=status,
        detail=error.detail,
        instance=instance,
        errors=tuple(str(member) for member in members) if isinstance(members, tuple) else (),
    )


def retry_after_seconds(error: Exception) -> int | None:
    """Whole seconds for `Retry-After`, when waiting helps."""
    if isinstance(error, errors.UnavailableError):
        return max(1, math.ceil(error.retry_after_seconds))
    return None


def invalid_body(error: msgspec.MsgspecError) -> errors.RejectedError:
    """What is wrong with a body that msgspec refused; names the member."""
    if isinstance(error, msgspec.ValidationError):
        said = in_words(str(error))
        message, at, path = said.rpartition(" - at `")
        member = path.rstrip("`").removeprefix("$").lstrip(".") if at else ""
        return errors.InvalidRequestError(said, errors=(member or message or said,))
    return errors.MalformedRequestError(str(error))


def error_reply(error: Exception, *, instance: str = "") -> Reply:
    """The reply for an error, with the headers that its status asks for."""
    document = problem_of(error, instance=instance)
    return problem_reply(document, headers=_headers(error))


def problem_reply(document: Problem, *, headers: Sequence[tuple[bytes, bytes]] = ()) -> Reply:
    """A problem document as a reply."""
    return Reply(
        status=document.status,
        body=msgspec.json.encode(document),
        headers=headers,
        content_type=b"application/problem+json",
    )


def elsewhere(document: Problem, *, headers: Sequence[tuple[bytes, bytes]]) -> Reply:
    """A problem document that OpenAI's clients read too: they show nothing but `error.message`."""
    body = msgspec.json.encode({**msgspec.to_builtins(document), **openai_error(document)})
    return msgspec.structs.replace(problem_reply(document, headers=headers), body=body)


def openai_error_reply(error: Exception, *, instance: str = "") -> Reply:
    """The reply for an error in the shape that OpenAI's clients read."""
    document = problem_of(error, instance=instance)
    status = 404 if isinstance(error, errors.UnknownModelError) else document.status
    return Reply(status=status, body=msgspec.json.encode(openai_error(document)), headers=_headers(error))


def openai_error(document: Problem) -> dict[str, object]:
    """A problem in OpenAI's words."""
    kind = "invalid_request_error" if document.status < 500 else "server_error"
    slug = document.type.rpartition(":")[2]
    code = {"unknown-model": "model_not_found", "unauthenticated": "invalid_api_key"}.get(slug, slug.replace("-", "_"))
    param = document.errors[0] if document.errors else None
    message = errors.in_full(document.title, document.detail)
    return {"error": {"message": message, "type": kind, "code": code, "param": param}}


def unsupported_media_type(media_type: str) -> errors.RejectedError:
    """Bodies are JSON."""
    return errors.UnsupportedMediaTypeError(f"{media_type[:100]!r}; send application/json")


def unsupported_encoding(coding: str) -> errors.RejectedError:
    """Bodies come as they are."""
    return errors.UnsupportedEncodingError(f"{coding[:100]!r}; send it without Content-Encoding")


def _headers(error: Exception) -> list[tuple[bytes, bytes]]:
    headers: list[tuple[bytes, bytes]] = []
    seconds = retry_after_seconds(error)
    if seconds is not None:
        headers.append((b"retry-after", b"%d" % seconds))
    if isinstance(error, errors.UnauthenticatedError):
        headers.append((b"www-authenticate", b'Bearer realm="fieldpost"'))
    if isinstance(error, errors.UnsupportedEncodingError):
        headers.append((b"accept-encoding", b"identity"))
    return headers


def _slug(cls: type[errors.FieldpostError]) -> str:
    name = cls.__name__.removesuffix(_SUFFIX)
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")
