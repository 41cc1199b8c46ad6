"""Turns the server's error replies back into the errors they were made of. Source: RFC 9457.

The other direction is the server's (`fieldpost.web.problems`); the names are the same, so this needs no table of its own.
"""

import math

import msgspec

from fieldpost import errors
from fieldpost.messages.problems import problem_type
from fieldpost.messages.responses import Problem

#: The class for a reply that names no problem known here, by its status; what is not listed goes by its hundred.
_BY_STATUS: dict[int, type[errors.FieldpostError]] = {
    400: errors.MalformedRequestError,
    401: errors.UnauthenticatedError,
    403: errors.ForbiddenError,
    404: errors.NotFoundError,
    406: errors.NotAcceptableError,
    408: errors.UnavailableError,
    409: errors.ConflictError,
    413: errors.RequestTooLargeError,
    415: errors.UnsupportedMediaTypeError,
    422: errors.InvalidRequestError,
    425: errors.UnavailableError,
    429: errors.OverloadedError,
    503: errors.UnavailableError,
    507: errors.StorageFullError,
}
#: Characters of a reply that is no problem document, to show what came instead.
_MAX_EXCERPT = 200


def raise_for(status: int, retry_after: str | None, content: bytes) -> None:
    """Returns when the status is one of success.

    Args:
        retry_after: the header, when there is one; only whole seconds are understood.

    Raises:
        FieldpostError: of the class that the problem's type names, or else that the status means. One that is
            retryable carries `retry_after_seconds`.
    """
    if 200 <= status < 300:
        return
    document = _document(content)
    if document is None:
        raise _made(_class_for(status), f"HTTP {status}: {_excerpt(content)}".rstrip(": "), (), retry_after)
    cls = _classes().get(document.type) or _class_for(status)
    raise _made(cls, document.detail or document.title, document.errors, retry_after)


def error_of(document: Problem, *, retry_after_seconds: float | None = None) -> errors.FieldpostError:
    """The error that a problem document stands for, when it came without a status of its own."""
    cls = _classes().get(document.type) or _class_for(document.status)
    header = None if retry_after_seconds is None else str(math.ceil(retry_after_seconds))
    return _made(cls, document.detail or document.title, document.errors, header)


def _made(
    cls: type[errors.FieldpostError], detail: str, members: tuple[str, ...], retry_after: str | None
) -> errors.FieldpostError:
    error = cls(detail)
    if detail == error.title:
        error = cls()
    if members:
        error.data["errors"] = members
    seconds = _seconds(retry_after)
    if isinstance(error, errors.UnavailableError) and seconds is not None:
        error.retry_after_seconds = seconds
    return error


def _document(content: bytes) -> Problem | None:
    try:
        return msgspec.json.decode(content, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _seconds(retry_after: str | None) -> float | None:
    text = (retry_after or "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _class_for(status: int) -> type[errors.FieldpostError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return errors.OutcomeUnknownError
    return errors.RejectedError if status >= 400 else errors.FieldpostError


def _excerpt(content: bytes) -> str:
    return " ".join(content[:_MAX_EXCERPT].decode("utf-8", "replace").split())


def _classes() -> dict[str, type[errors.FieldpostError]]:
    return {problem_type(_slug(cls)): cls for cls in _below(errors.FieldpostError)}


def _below(cls: type[errors.FieldpostError]) -> list[type[errors.FieldpostError]]:
    return [cls, *(below for child in cls.__subclasses__() for below in _below(child))]


def _slug(cls: type[errors.FieldpostError]) -> str:
    name = cls.__name__.removesuffix("Error")
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")
