"""What the ledger is told and tells: frozen values, which its ports (`fieldpost.ports.ledger`) speak of."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from fieldpost.messages.requests import Channel, Request, RequestState, RequestStatus
from fieldpost.messages.responses import Response, StoredResponse


class RecordOutcome(StrEnum):
    """What became of a request that met the ledger."""

    NEW = "new"
    #: The same request again: nothing changed.
    DUPLICATE = "duplicate"
    #: The same id with another body: kept as a dead letter, the first stands.
    CONFLICT = "conflict"
    #: New, but its cancellation had come first.
    CANCELLED = "cancelled"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that could not be answered or read, kept with its reason."""

    id: int
    reason: str
    created_at: datetime
    #: The message or request as it was, as text.
    body: str
    request_id: UUID | None = None
    device_id: int | None = None


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The right to work on a request until the claim runs out; `attempt` proves it."""

    request: Request
    attempt: int
    #: Attempts so far that ended without an answer.
    failures: int


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """A final answer to record, if `attempt` is still the current one."""

    request_id: UUID
    attempt: int
    response: Response
    #: Why the request goes to the dead letters too, when it does.
    dead_letter: str | None = None


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that failed and may be tried again from `not_before`, if it is still the current one."""

    request_id: UUID
    attempt: int
    not_before: datetime


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A request that has just reached its final state."""

    request_id: UUID
    device_id: int
    channel: Channel
    state: RequestState
    file_name: str | None
    body: bytes


class Reaped(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep over the ledger changed."""

    #: Claims that ran out: queued again.
    requeued: Sequence[UUID]
    #: Deadlines that passed, and requests that killed their workers too often.
    finished: Sequence[Finished]


class AnswerPage(msgspec.Struct, frozen=True, kw_only=True):
    """Answers that fit, and whether there are more after the last of them."""

    answers: Sequence[StoredResponse]
    is_more: bool


class FilePage(msgspec.Struct, frozen=True, kw_only=True):
    """Folder answers that fit, and whether there are more after the last of them.

    Shape of an entry: the answer, when it was completed.
    """

    answers: Sequence[tuple[Finished, datetime]]
    is_more: bool


class RequestPage(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that fit, and whether there are more after the last of them.

    Shape of an entry: device id, request, status.
    """

    entries: Sequence[tuple[int, Request, RequestStatus]]
    is_more: bool


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """That a request has ended, without its answer."""

    request_id: UUID
    device_id: int
    completed_at: datetime


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What tells a request in the ledger from others under its id, and where its answer goes."""

    accepted_at: datetime
    body_hash: bytes
    file_name: str | None
    is_acknowledged: bool


class Reads(msgspec.Struct):
    """How many reads of a database there were, by where they were answered; whoever answers them counts."""

    primary: int = 0
    replica: int = 0


class WaitingFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that asked for what another file, or another door, had asked already."""

    request_id: UUID
    device_id: int
    file_name: str
    #: Its request has a final answer, or is there no more.
    is_ended: bool
