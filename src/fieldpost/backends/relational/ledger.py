"""The ledger's ports over statements and an executor; each call is one transaction."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from fieldpost.backends.relational import claims, deliveries, dispatching, recording, retention, waiting_files
from fieldpost.backends.relational.rows import Executor
from fieldpost.grouping import Grouped
from fieldpost.messages.requests import Priority, Request, RequestState, RequestStatus
from fieldpost.messages.responses import Job, Problem
from fieldpost.ports.ledger import Ledger
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

#: Calls whose acknowledgements are one transaction, each of a frame's ids at most.
_ACKNOWLEDGED_AT_ONCE = 256


def relational_ledger(executor: Executor) -> Ledger:
    """One shard's ledger over one database."""
    return Ledger(
        records=RelationalRecords(executor),
        claims=RelationalClaims(executor),
        dispatch=RelationalDispatch(executor),
        deliveries=RelationalDeliveries(executor),
        waiting_files=RelationalWaitingFiles(executor),
    )


def _is_final(status: RequestStatus | None) -> bool:
    # It never changes again, so that it is true wherever it is read.
    return status is not None and status.status.is_final


def _always(_result: object) -> bool:
    return True


# What a replica does not show yet is found by the next sweep; what it still shows may have been delivered meanwhile.
def _is_empty(page: Sequence[WaitingFile]) -> bool:
    return not page


def _has_no_answers(page: FilePage) -> bool:
    return not page.answers


class RelationalRecords:
    """See `ports.ledger.Records`."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def reach(self) -> None:
        """See the port."""
        # A write, since reads go on where none is taken any more; one that no replica needs to confirm.
        await self._executor.write(recording.reach, needs_replica=False)

    async def record(
        self, requests: Sequence[Request], *, dispatched: Collection[UUID], now: datetime
    ) -> Mapping[UUID, RecordOutcome]:
        """See the port."""
        return await self._executor.write(lambda connection: recording.record(connection, requests, dispatched, now))

    async def bury(self, *, reason: str, body: bytes, now: datetime) -> None:
        """See the port."""
        await self._executor.write(lambda connection: recording.bury(connection, reason, body, now))

    async def cancel(self, request_id: UUID, device_id: int, *, expected: bool, now: datetime) -> RequestStatus | None:
        """See the port."""
        return await self._executor.write(
            lambda connection: recording.cancel(connection, request_id, device_id, expected, now)
        )

    async def status(self, request_id: UUID, device_id: int) -> RequestStatus | None:
        """See the port."""
        return await self._executor.read(
            lambda connection: recording.status(connection, request_id, device_id), believed=_is_final
        )

    async def page(
        self,
        device_id: int | None,
        *,
        state: RequestState | None,
        before: tuple[datetime, UUID] | None,
        limit: int,
        limit_bytes: int,
    ) -> RequestPage:
        """See the port."""
        return await self._executor.read(
            lambda connection: recording.page(connection, device_id, state, before, limit, limit_bytes),
            believed=_always,
        )

    async def standings(self, request_ids: Sequence[UUID]) -> Mapping[UUID, Standing]:
        """See the port."""
        return await self._executor.read(lambda connection: recording.standings(connection, request_ids))

    async def dead_letters(self, *, before: int | None, limit: int) -> Sequence[DeadLetter]:
        """See the port."""
        return await self._executor.read(
            lambda connection: recording.read_dead_letters(connection, before, limit), believed=_always
        )

    async def purge(self, *, acknowledged_before: datetime, undelivered_before: datetime, limit: int) -> int:
        """See the port."""
        return await self._executor.write(
            lambda connection: retention.purge(connection, acknowledged_before, undelivered_before, limit),
            needs_replica=False,
        )


class RelationalClaims:
    """See `ports.ledger.Claims`."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def claim(
        self, request_ids: Sequence[UUID], *, holder: str, now: datetime, until: datetime
    ) -> Sequence[Claim]:
        """See the port."""
        return await self._executor.write(lambda connection: claims.claim(connection, request_ids, holder, now, until))

    async def renew(self, attempts: Mapping[UUID, int], *, now: datetime, until: datetime) -> Collection[UUID]:
        """See the port."""
        return await self._executor.write(
            lambda connection: claims.renew(connection, attempts, now, until), needs_replica=False
        )

    async def release(self, attempts: Mapping[UUID, int], *, now: datetime) -> None:
        """See the port."""
        await self._executor.write(lambda connection: claims.release(connection, attempts, now), needs_replica=False)

    async def finish(
        self, finishes: Sequence[Finish], retries: Sequence[Retry], *, now: datetime
    ) -> Sequence[Finished]:
        """See the port."""
        return await self._executor.write(lambda connection: claims.finish(connection, finishes, retries, now))


class RelationalDispatch:
    """See `ports.ledger.Dispatch`."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def is_waiting(self, model: str, priority: Priority, *, now: datetime) -> bool:
        """See the port."""
        return await self._executor.read(
            lambda connection: dispatching.is_waiting(connection, model, priority, now), believed=_always
        )

    async def take(
        self, model: str, priority: Priority, *, after_device: int, limit: int, now: datetime
    ) -> Sequence[Job]:
        """See the port."""
        return await self._executor.write(
            lambda connection: dispatching.take(connection, model, priority, after_device, limit, now),
            needs_replica=False,
        )

    async def dispatched(self, model: str, priority: Priority, *, limit: int) -> int:
        """See the port."""
        return await self._executor.read(lambda connection: dispatching.dispatched(connection, model, priority, limit))

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
        """See the port."""
        return await self._executor.write(
            lambda connection: dispatching.undispatch(
                connection, model, priority, in_queue, dispatched_before, surely_before, limit
            ),
            needs_replica=False,
        )

    async def queued_for_others(self, models: Collection[str]) -> Mapping[str, int]:
        """See the port."""
        return await self._executor.read(
            lambda connection: dispatching.queued_for_others(connection, models), believed=_always
        )

    async def reap(
        self, *, max_deaths: int, too_many_deaths: Problem, expired: Problem, now: datetime, limit: int
    ) -> Reaped:
        """See the port."""
        return await self._executor.write(
            lambda connection: dispatching.reap(connection, max_deaths, too_many_deaths, expired, now, limit)
        )


class RelationalDeliveries:
    """See `ports.ledger.Deliveries`."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        # Devices acknowledge one by one, and thousands of them at once.
        self._acknowledging = Grouped(self._acknowledge, max_calls=_ACKNOWLEDGED_AT_ONCE)

    async def undelivered(
        self,
        device_id: int,
        *,
        after: tuple[datetime, UUID] | None,
        leaving_out: Collection[UUID],
        limit: int,
        limit_bytes: int,
    ) -> AnswerPage:
        """See the port."""
        return await self._executor.read(
            lambda connection: deliveries.undelivered(connection, device_id, after, leaving_out, limit, limit_bytes)
        )

    async def completed(
        self, device_ids: Sequence[int], *, after: tuple[datetime, UUID], limit: int
    ) -> Sequence[Completion]:
        """See the port."""
        return await self._executor.read(
            lambda connection: deliveries.completed(connection, device_ids, after, limit), believed=_always
        )

    async def unacknowledged(self, request_ids: Sequence[UUID], device_id: int) -> Collection[UUID]:
        """See the port."""
        return await self._executor.read(
            lambda connection: deliveries.unacknowledged(connection, request_ids, device_id)
        )

    async def undelivered_files(
        self, *, limit: int, limit_bytes: int, leaving_out: Collection[int] = (), is_sweep: bool = False
    ) -> FilePage:
        """See the port."""
        return await self._executor.read(
            lambda connection: deliveries.undelivered_files(connection, limit, limit_bytes, leaving_out),
            believed=_has_no_answers if is_sweep else None,
        )

    async def acknowledge(self, request_ids: Sequence[UUID], device_id: int, *, now: datetime) -> Collection[UUID]:
        """See the port."""
        return await self._acknowledging.call(
            deliveries.Acknowledgement(device_id=device_id, request_ids=request_ids, now=now)
        )

    async def _acknowledge(self, all_of_them: Sequence[deliveries.Acknowledgement]) -> Sequence[Collection[UUID]]:
        now = max(each.now for each in all_of_them)
        return await self._executor.write(lambda connection: deliveries.acknowledge(connection, all_of_them, now))


class RelationalWaitingFiles:
    """See `ports.ledger.WaitingFiles`."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def add(self, request_id: UUID, device_id: int, file_name: str) -> None:
        """See the port."""
        await self._executor.write(lambda connection: waiting_files.add(connection, request_id, device_id, file_name))

    async def page(
        self, *, after: tuple[UUID, str] | None, limit: int, is_sweep: bool = False
    ) -> Sequence[WaitingFile]:
        """See the port."""
        return await self._executor.read(
            lambda connection: waiting_files.page(connection, after, limit), believed=_is_empty if is_sweep else None
        )

    async def remove(self, request_id: UUID, file_name: str) -> None:
        """See the port."""
        await self._executor.write(lambda connection: waiting_files.remove(connection, request_id, file_name))
