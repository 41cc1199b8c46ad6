"""The ledger: the database's record of requests and results, and the judge of who may answer.

One transaction per call, and what a call returns is on disk (on a replica too, where there is one). A final state
never changes. `attempt` is the fencing token: the ledger gives it out with a claim and takes results, renewals and
releases only for the current one. Every call is safe to repeat. `now` is given, never read.

All calls raise BackendUnavailableError, BackendTimeoutError or StorageFullError when the database is away, silent or full.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from fieldpost.messages.requests import Priority, Request, RequestState, RequestStatus
from fieldpost.messages.responses import Job, Problem
from fieldpost.ports.ledger_values import (
    AnswerPage,
    Claim,
    Completion,
    DeadLetter,
    FilePage,
    Finish,
    Finished,
    Reaped,
    RecordOutcome,
    RequestPage,
    Retry,
    Standing,
    WaitingFile,
)


class Records(Protocol):
    """Requests come in and are looked up."""

    async def reach(self) -> None:
        """Returns when the database that takes writes answers and has the ledger's tables; changes nothing, costs little."""
        ...

    async def record(
        self, requests: Sequence[Request], *, dispatched: Collection[UUID], now: datetime
    ) -> Mapping[UUID, RecordOutcome]:
        """Records new requests in one transaction; those in `dispatched` are marked as sent to a work queue."""
        ...

    async def bury(self, *, reason: str, body: bytes, now: datetime) -> None:
        """Keeps a message that cannot be read as a dead letter."""
        ...

    async def cancel(self, request_id: UUID, device_id: int, *, expected: bool, now: datetime) -> RequestStatus | None:
        """Cancels a request that has not ended, and returns how it stands.

        With `expected` a request that is not there yet is cancelled when it comes (a tombstone) and None is returned;
        without it None means that there is no such request of this device.
        """
        ...

    async def status(self, request_id: UUID, device_id: int) -> RequestStatus | None:
        """How a request of this device stands; None when there is no such request of this device."""
        ...

    async def page(
        self,
        device_id: int | None,
        *,
        state: RequestState | None,
        before: tuple[datetime, UUID] | None,
        limit: int,
        limit_bytes: int,
    ) -> RequestPage:
        """Requests newest first, of one device or of all; `before` is (accepted_at, id). It may be a moment behind.

        At most `limit` of them, and so many that requests and answers come to at most `limit_bytes`, but always one if
        there is one. A stored request that cannot be read is shown with an empty prompt.
        """
        ...

    async def standings(self, request_ids: Sequence[UUID]) -> Mapping[UUID, Standing]:
        """Those of the requests that the ledger has."""
        ...

    async def dead_letters(self, *, before: int | None, limit: int) -> Sequence[DeadLetter]:
        """Dead letters, newest first; like `page`, where there are replicas, perhaps without what came just now."""
        ...

    async def purge(self, *, acknowledged_before: datetime, undelivered_before: datetime, limit: int) -> int:
        """Removes a batch of what was kept long enough; fewer than `limit` means that no more is old enough now.

        That is: requests acknowledged before `acknowledged_before`, and tombstones as old; requests that ended before
        `undelivered_before` without an acknowledgement, and dead letters as old. Never one that has not ended.
        """
        ...


class Claims(Protocol):
    """Who works on what."""

    async def claim(
        self, request_ids: Sequence[UUID], *, holder: str, now: datetime, until: datetime
    ) -> Sequence[Claim]:
        """Claims the next attempt of those requests that are queued, due and inside their deadline; leaves out the rest."""
        ...

    async def renew(self, attempts: Mapping[UUID, int], *, now: datetime, until: datetime) -> Collection[UUID]:
        """Extends claims; returns those still held. Whoever is left out stops at once: cancelled, expired or reclaimed."""
        ...

    async def release(self, attempts: Mapping[UUID, int], *, now: datetime) -> None:
        """Hands claims back undone (a worker that drains): queued again at once, not held against the request."""
        ...

    async def finish(
        self, finishes: Sequence[Finish], retries: Sequence[Retry], *, now: datetime
    ) -> Sequence[Finished]:
        """Records what attempts came to; returns the requests that thereby ended. Stale attempts are left out.

        An attempt is stale once a newer one was claimed. An answer whose claim ran out, or was given back, still counts
        until then; a failure does not, since the request is in line already.
        """
        ...


class Dispatch(Protocol):
    """What waits for a worker, and what waited too long."""

    async def is_waiting(self, model: str, priority: Priority, *, now: datetime) -> bool:
        """Whether a request is due and in no work queue. It may be a moment behind: ask again later."""
        ...

    async def take(
        self, model: str, priority: Priority, *, after_device: int, limit: int, now: datetime
    ) -> Sequence[Job]:
        """Requests that were due and in no work queue, shared evenly between devices, beginning after `after_device`.

        They are marked as dispatched now, so that nobody else takes them. At most `limit`; a device's oldest first. Costs in
        proportion to `limit`, not to the backlog.
        """
        ...

    async def dispatched(self, model: str, priority: Priority, *, limit: int) -> int:
        """How many requests are dispatched and not yet claimed; not counted past `limit`."""
        ...

    async def undispatch(
        self,
        model: str,
        priority: Priority,
        *,
        in_queue: int,
        dispatched_before: datetime,
        surely_before: datetime,
        limit: int,
    ) -> int:
        """Marks requests as waiting again whose work message must be lost; returns how many.

        Those are the oldest dispatched before `dispatched_before` by which the ledger's count of dispatched and unclaimed
        requests exceeds `in_queue`, the depth of the work queue. Other shards' jobs stand in it too and can hide what is
        lost: so also those dispatched before `surely_before`, whatever the count. At most `limit`.
        """
        ...

    async def queued_for_others(self, models: Collection[str]) -> Mapping[str, int]:
        """How many requests are queued for models other than these, by model. It may be a moment behind."""
        ...

    async def reap(
        self, *, max_deaths: int, too_many_deaths: Problem, expired: Problem, now: datetime, limit: int
    ) -> Reaped:
        """Ends what is past its deadline, queues again what is claimed past its time, at most `limit` of each.

        A claim that ran out counts as a death of a worker; the `max_deaths`-th ends the request as failed and keeps a
        dead letter. A stored request that cannot be read ends like others, and keeps a dead letter with what is there.
        """
        ...


class Deliveries(Protocol):
    """Final answers until their devices have them; folder answers are the folder's."""

    async def undelivered(
        self,
        device_id: int,
        *,
        after: tuple[datetime, UUID] | None,
        leaving_out: Collection[UUID],
        limit: int,
        limit_bytes: int,
    ) -> AnswerPage:
        """Answers not yet acknowledged, in order of completion, without those in `leaving_out`.

        At most `limit` of them, and so many that their bodies come to at most `limit_bytes`, but always one if there is one.
        `after` is the last one's (completed_at, request_id).
        """
        ...

    async def completed(
        self, device_ids: Sequence[int], *, after: tuple[datetime, UUID], limit: int
    ) -> Sequence[Completion]:
        """Which requests of these devices ended after `after` and are not yet acknowledged, in order of completion.

        It may be a moment behind: ask again from a little before.
        """
        ...

    async def unacknowledged(self, request_ids: Sequence[UUID], device_id: int) -> Collection[UUID]:
        """Those of the requests that have a final answer of this device which is not yet acknowledged."""
        ...

    async def undelivered_files(
        self, *, limit: int, limit_bytes: int, leaving_out: Collection[int] = (), is_sweep: bool = False
    ) -> FilePage:
        """Folder answers not yet marked as delivered, oldest first.

        At most `limit` of them, and so many that their bodies come to at most `limit_bytes`, but always one if there is one.

        Args:
            leaving_out: devices whose answers are not meant.
            is_sweep: whoever asks does so again soon, so that what ended a moment ago may be left out.
        """
        ...

    async def acknowledge(self, request_ids: Sequence[UUID], device_id: int, *, now: datetime) -> Collection[UUID]:
        """Marks final answers of this device as delivered; returns those that now are, also if they already were."""
        ...


class WaitingFiles(Protocol):
    """Further files that want a request's answer, each under its own name; they acknowledge nothing."""

    async def add(self, request_id: UUID, device_id: int, file_name: str) -> None:
        """Notes that this file wants the answer too."""
        ...

    async def page(
        self, *, after: tuple[UUID, str] | None, limit: int, is_sweep: bool = False
    ) -> Sequence[WaitingFile]:
        """At most `limit` of them, in order of (request_id, file_name), those after `after`; costs no more than that.

        Args:
            is_sweep: as for `Deliveries.undelivered_files`.
        """
        ...

    async def remove(self, request_id: UUID, file_name: str) -> None:
        """This file has its answer."""
        ...


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """One shard's ledger: five small ports over one database."""

    records: Records
    claims: Claims
    dispatch: Dispatch
    deliveries: Deliveries
    waiting_files: WaitingFiles
