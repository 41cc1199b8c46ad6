"""One of the two tables that turn errors into outcomes: what HTTP and WebSocket say. The other is `services.outcomes`.

Source: RFC 9457 (problem details), RFC 9110 (status codes).
"""

import math

import msgspec

from fieldpost import errors
from fieldpost.messages.problems import problem, problem_type
from fieldpost.messages.responses import Problem

__all__ = ["STATUS", "invalid_body", "problem", "problem_of", "problem_type", "retry_after_seconds"]

#: The most specific class that stands here decides.
STATUS: dict[type[errors.FieldpostError], int] = {
    errors.MalformedRequestError: 400,
    errors.UnauthenticatedError: 401,
    errors.ForbiddenError: 403,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.StateConflictError: 409,
    errors.RequestTooLargeError: 413,
    errors.InvalidRequestError: 422,
    errors.RejectedError: 400,
    errors.BackendTimeoutError: 504,
    errors.StorageFullError: 507,
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
        message, _, path = str(error).partition(" - at `")
        member = path.rstrip("`").removeprefix("$").lstrip(".")
        return errors.InvalidRequestError(str(error), errors=(member,) if member else (message,))
    return errors.MalformedRequestError(str(error))


def _slug(cls: type[errors.FieldpostError]) -> str:
    name = cls.__name__.removesuffix(_SUFFIX)
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")
