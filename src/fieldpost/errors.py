"""The one tree of errors; a class's docstring is its message, its attributes are its data.

    FieldpostError
    ├── ConfigError
    ├── RejectedError                      the caller's fault: not accepted, sending it again does not help
    │   ├── MalformedRequestError
    │   ├── InvalidRequestError
    │   │   └── UnknownModelError
    │   ├── RequestTooLargeError
    │   ├── UnsupportedMediaTypeError
    │   │   └── UnsupportedEncodingError
    │   ├── NotAcceptableError
    │   ├── UnauthenticatedError
    │   ├── ForbiddenError
    │   │   └── DeviceDisabledError
    │   ├── NotFoundError
    │   ├── ConflictError
    │   │   └── IdempotencyConflictError
    │   └── StateConflictError
    ├── UnavailableError                   ours, for now: retryable, with `retry_after_seconds`
    │   ├── BackendUnavailableError
    │   ├── BackendTimeoutError            the outcome is unknown; the same key makes sending again safe
    │   ├── OutcomeUnknownError            as seen by a client: the reply is missing, or says so
    │   ├── UnreachableError               as seen by a client: no server to speak to
    │   ├── ConnectionLostError            as seen by a listener
    │   ├── NoAnswerYetError               as seen by a client: accepted, still without its answer
    │   ├── QueueFullError
    │   ├── OverloadedError
    │   │   └── TooManyCallsError
    │   ├── StartingError
    │   ├── DrainingError
    │   └── StorageFullError
    ├── CorruptDataError
    ├── DataDirectoryInUseError
    ├── PortInUseError
    ├── OutputError                        what a command printed did not get there
    ├── BackupError
    ├── DropChangedError                   a file changed between two looks at it
    └── ModelError                         a model's attempt ended without an answer
        ├── ModelUnavailableError          retryable
        └── ModelRefusedError

Two tables turn errors into outcomes: `fieldpost.web.problems` (HTTP and WebSocket) and
`fieldpost.services.outcomes` (acknowledge, requeue or dead letter). There is no third.
"""

from typing import ClassVar


class FieldpostError(Exception):
    """Something went wrong."""

    #: Whether the same call may succeed later, unchanged.
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "", **data: object) -> None:
        self.detail = detail
        self.data = data
        super().__init__(detail)

    def __str__(self) -> str:
        """What went wrong in one sentence."""
        return in_full(self.title, self.detail)

    @property
    def title(self) -> str:
        """The first line of the class's docstring, the same for every occurrence."""
        return (type(self).__doc__ or "").strip().splitlines()[0]


def in_full(title: str, detail: str) -> str:
    """What went wrong in one sentence: a detail adds to its title, and does not say it again.

    >>> in_full("There is no model of this name.", "'x'")
    "There is no model of this name: 'x'"
    """
    return f"{title.removesuffix('.')}: {detail}" if detail else title


class ConfigError(FieldpostError):
    """The settings are not usable."""


class RejectedError(FieldpostError):
    """The request was refused and not accepted."""


class MalformedRequestError(RejectedError):
    """The request cannot be read."""


class InvalidRequestError(RejectedError):
    """The request can be read, but asks for something that is not possible."""


class UnknownModelError(InvalidRequestError):
    """There is no model of this name."""


class RequestTooLargeError(RejectedError):
    """The request is larger than allowed."""


class UnsupportedMediaTypeError(RejectedError):
    """The body is of a type that is not understood here."""


class UnsupportedEncodingError(UnsupportedMediaTypeError):
    """The body is compressed or otherwise encoded, which is not understood here."""


class NotAcceptableError(RejectedError):
    """None of the types that are asked for can be sent."""


class UnauthenticatedError(RejectedError):
    """A valid key is needed."""


class ForbiddenError(RejectedError):
    """This key may not do that."""


class DeviceDisabledError(ForbiddenError):
    """This device is disabled."""


class NotFoundError(RejectedError):
    """There is nothing of this name here."""


class ConflictError(RejectedError):
    """This contradicts what is already there."""


class IdempotencyConflictError(ConflictError):
    """This idempotency key was already used for another request."""


class StateConflictError(RejectedError):
    """This does not go with the state that the request is in."""


class UnavailableError(FieldpostError):
    """Fieldpost cannot do this right now; try again."""

    retryable = True

    def __init__(self, detail: str = "", *, retry_after_seconds: float = 1.0, **data: object) -> None:
        super().__init__(detail, **data)
        self.retry_after_seconds = retry_after_seconds


class BackendUnavailableError(UnavailableError):
    """An engine behind Fieldpost is away; nothing was accepted."""


class BackendTimeoutError(UnavailableError):
    """An engine did not confirm in time; the outcome is unknown, sending the same again is safe."""


class OutcomeUnknownError(UnavailableError):
    """The outcome is unknown; sending the same again with the same idempotency key is safe."""


class UnreachableError(UnavailableError):
    """The server cannot be reached; nothing was accepted."""


class ConnectionLostError(UnavailableError):
    """The connection was lost; answers wait on the server meanwhile."""


class NoAnswerYetError(UnavailableError):
    """The answer did not come in time; the request goes on."""


class QueueFullError(UnavailableError):
    """The queue is full; nothing was accepted."""


class OverloadedError(UnavailableError):
    """Too much is in hand already; nothing was accepted."""


class TooManyCallsError(OverloadedError):
    """This device has too many calls in hand; this one was not accepted."""


class StartingError(UnavailableError):
    """This instance is starting; another one, or this one soon, will answer."""


class DrainingError(UnavailableError):
    """This instance is shutting down; another one, or the next one, will answer."""


class StorageFullError(UnavailableError):
    """The disk is full; nothing was accepted."""


class CorruptDataError(FieldpostError):
    """Stored data cannot be read."""


class DataDirectoryInUseError(FieldpostError):
    """Another Fieldpost process is using this data directory."""


class PortInUseError(FieldpostError):
    """Another process already listens on this port."""


class OutputError(FieldpostError):
    """The output cannot be written."""


class BackupError(FieldpostError):
    """The data directory cannot be copied."""


class DropChangedError(FieldpostError):
    """A dropped file changed while it was being taken; it counts as a new one."""


class ModelError(FieldpostError):
    """The model did not answer."""

    def __init__(self, detail: str = "", *, retry_after_seconds: float | None = None, **data: object) -> None:
        super().__init__(detail, **data)
        self.retry_after_seconds = retry_after_seconds


class ModelUnavailableError(ModelError):
    """The model is away, overloaded or broke off; another attempt may succeed."""

    retryable = True


class ModelRefusedError(ModelError):
    """The model refuses this request; another attempt would end the same way."""
