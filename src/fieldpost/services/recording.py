"""From a shard's request queue into its ledger, in batches, and on to the workers."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from fieldpost.clock import Clock
from fieldpost.messages.requests import Request
from fieldpost.observability import get_logger, handling
from fieldpost.ports.backends import Backends
from fieldpost.ports.ledger_values import RecordOutcome, Standing
from fieldpost.services.consuming import BatchConsumer
from fieldpost.services.dispatching import Dispatcher
from fieldpost.services.queues import requests_queue
from fieldpost.services.remembering import remember_recorded
from fieldpost.services.troubles import Troubles
from fieldpost.settings import Settings

log = get_logger()


class Recording:
    """One shard's recording; a batch is acknowledged after its transaction."""

    def __init__(
        self,
        *,
        settings: Settings,
        backends: Backends,
        clock: Clock,
        shard: str,
        dispatcher: Dispatcher,
        troubles: Troubles | None = None,
    ) -> None:
        self._records = backends.ledgers[shard].records
        self._values = backends.shared.values
        self._models = frozenset(backends.model_names)
        self._tracer = backends.tracer
        self._clock = clock
        self._dispatcher = dispatcher
        self._consumer = BatchConsumer(
            broker=backends.broker,
            clock=clock,
            queue=requests_queue(shard),
            batch=settings.recording.batch,
            troubles=troubles,
        )

    async def run(self) -> None:
        """Records until cancelled."""
        await self._consumer.run(Request, self._record, self._bury)

    async def _record(self, batch: Sequence[Request]) -> None:
        # Of several under one id the first one stands, as in the ledger.
        first: dict[UUID, Request] = {}
        for request in batch:
            first.setdefault(request.id, request)
        began_at = self._clock.now()
        chosen = await self._dispatcher.choose(request for request in first.values() if request.model in self._models)
        outcomes = await self._records.record(batch, dispatched=chosen, now=self._clock.now())
        new = {
            request_id: request for request_id, request in first.items() if outcomes[request_id] is RecordOutcome.NEW
        }
        # In the order in which they came: the oldest is worked on first.
        await self._dispatcher.publish(request for request_id, request in new.items() if request_id in chosen)
        if len(chosen) < len(new):
            self._dispatcher.wake()
        for request_id, outcome in outcomes.items():
            with handling(request_id, first[request_id].traceparent):
                if outcome is RecordOutcome.CONFLICT:
                    log.warning("idempotency_conflict", summed=True)
                else:
                    log.debug("request_recorded", outcome=outcome.value)
        conflicting = [request_id for request_id, outcome in outcomes.items() if outcome is RecordOutcome.CONFLICT]
        if conflicting:
            await self._remember_first(conflicting, first)
        if self._tracer.is_on:
            for request in first.values():
                with self._tracer.span("record", request.traceparent, started_at=began_at):
                    pass

    async def _remember_first(self, conflicting: Sequence[UUID], batch: Mapping[UUID, Request]) -> None:
        """Has the doors know again what the ledger has under these ids: a door that did not know took another for it."""
        standings = await self._records.standings(conflicting)
        await remember_recorded(_one_page(standings, batch), self._values)

    async def _bury(self, body: bytes, reason: str) -> None:
        await self._records.bury(reason=reason, body=body, now=self._clock.now())


async def _one_page(
    standings: Mapping[UUID, Standing], batch: Mapping[UUID, Request]
) -> AsyncIterator[Sequence[tuple[UUID, int, str, datetime, bytes]]]:
    yield [
        (request_id, batch[request_id].device_id, batch[request_id].model, standing.accepted_at, standing.body_hash)
        for request_id, standing in standings.items()
    ]
