"""One HTTP operation as data: what makes its route is also what describes it in the OpenAPI document."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec

from fieldpost.errors import InvalidRequestError, NotFoundError
from fieldpost.messages.cursors import CURSOR_PATTERN
from fieldpost.messages.devices import Credential


class Caller(StrEnum):
    """Whose key an operation needs."""

    DEVICE = "device"
    OPERATOR = "operator"
    ANYONE = "anyone"


class Call:
    """One call of an operation: who calls, with what."""

    __slots__ = ("_query", "body", "device", "is_begun", "is_sent", "scope")

    def __init__(self, scope: MutableMapping[str, Any], *, device: Credential | None, body: Any) -> None:
        self.scope = scope
        self._query: dict[str, str] | None = None
        self.device: Credential = device  # type: ignore[assignment]
        self.body = body
        #: Whether anything of a reply was sent.
        self.is_begun = False
        #: Whether the reply went out whole while the caller was there.
        self.is_sent = False

    def header(self, name: bytes) -> str | None:
        """A header by its lower-case name; several of one name are joined by commas."""
        return header(self.scope, name)

    def query(self, name: str) -> str | None:
        """A query parameter, the last one of that name."""
        if self._query is None:
            self._query = dict(parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True))
        return self._query.get(name)

    def path(self, name: str) -> str:
        """A piece of the path."""
        return str(self.scope["path_params"][name])

    def request_id(self) -> UUID:
        """The id in the path.

        Raises:
            NotFoundError: what stands there is not an id, so nothing has it.
        """
        text = self.path("id")
        try:
            return UUID(text)
        except ValueError:
            raise NotFoundError(f"request {text[:64]!r}") from None

    def idempotency_key(self) -> str | None:
        """The `Idempotency-Key` header.

        Raises:
            InvalidRequestError: not 1 to 255 characters of UTF-8, or a NUL among them.
        """
        sent = self.header(b"idempotency-key")
        if sent is None:
            return None
        try:
            key = sent.encode("latin-1").decode()
        except UnicodeDecodeError:
            key = ""
        if not 1 <= len(key) <= 255 or "\0" in key:
            raise InvalidRequestError("Idempotency-Key takes 1 to 255 characters", errors=("Idempotency-Key",))
        return key

    def number(self, name: str, *, default: int, lowest: int, highest: int) -> int:
        """A whole number among the query parameters.

        Raises:
            InvalidRequestError: not a number, or out of bounds.
        """
        text = self.query(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 19 or not lowest <= int(text) <= highest:
            raise InvalidRequestError(f"{name} must be a whole number from {lowest} to {highest}", errors=(name,))
        return int(text)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent back: a body, or a stream of pieces."""

    status: int = 200
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()
    content_type: bytes = b"application/json"
    stream: AsyncIterator[bytes] | None = None
    #: Runs once everything has been sent and the caller was still there.
    on_sent: Callable[[], Awaitable[object]] | None = None


Handler = Callable[[Call], Awaitable[Reply]]


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A query or header parameter; `schema` is JSON Schema."""

    name: str
    schema: Mapping[str, Any]
    description: str
    place: str = "query"


AFTER_CURSOR = Parameter(
    name="after",
    schema={"type": "string", "pattern": CURSOR_PATTERN},
    description="`next` of the page before",
)
IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    schema={"type": "string", "minLength": 1, "maxLength": 255},
    description="The same key again is the same request",
    place="header",
)
TRACEPARENT = Parameter(
    name="traceparent",
    schema={"type": "string"},
    description="W3C trace context; one that is not valid is ignored",
    place="header",
)


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP operation and its handler."""

    method: str
    path: str
    summary: str
    handler: Handler
    caller: Caller
    #: Type of the JSON body, None for none.
    body: Any = None
    #: Turns the body's bytes into `Call.body`; by default msgspec by `body`.
    decode: Callable[[bytes], Any] | None = None
    parameters: Sequence[Parameter] = ()
    #: Successful answers: status to (description, type or None, content type).
    answers: Mapping[int, tuple[str, Any, str]] = {}
    #: Statuses of the problems that can occur beside those that go with caller and body.
    problems: Sequence[int] = ()
    #: Whether the call may take long, so that a caller who leaves ends it: always, or when it carries `Prefer`.
    waits: bool = False
    waits_if_preferred: bool = False
    #: Shape of errors: problem documents, or what OpenAI's clients expect.
    openai_errors: bool = False
    tag: str = "requests"
    #: A body that would be accepted.
    example: Any = None
    #: By name of a type, what its schema says beyond the type (a JSON merge patch).
    refinements: Mapping[str, Any] = {}
    is_documented: bool = True
    #: What is said to those who use a method that this path does not have.
    other_methods: str = ""


#: Where a call's scope keeps its headers by name.
_BY_NAME = "fieldpost.headers"


def header(scope: MutableMapping[str, Any], name: bytes) -> str | None:
    """A request header by its lower-case name."""
    # A call asks for about ten, most of which are not there: all are looked through once.
    by_name: dict[bytes, bytes] | None = scope.get(_BY_NAME)
    if by_name is None:
        by_name = {}
        for key, value in scope["headers"]:
            by_name[key] = by_name[key] + b", " + value if key in by_name else value
        scope[_BY_NAME] = by_name
    found = by_name.get(name)
    return None if found is None else found.decode("latin-1")
