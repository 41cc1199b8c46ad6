"""From a shard's result queue into its ledger, and the news to whoever waits for it."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

import msgspec

from fieldpost.clock import Clock
from fieldpost.messages.events import Event, ResponseReady, device_channel
from fieldpost.messages.requests import Channel
from fieldpost.messages.responses import AttemptResult
from fieldpost.observability import Metrics, get_logger, handling
from fieldpost.ports.backends import Backends
from fieldpost.ports.ledger_values import Finish, Finished, Retry
from fieldpost.services.consuming import BatchConsumer
from fieldpost.services.dispatching import Dispatcher
from fieldpost.services.endings import ending
from fieldpost.services.filing import Filing
from fieldpost.services.queues import results_queue
from fieldpost.services.troubles import Troubles
from fieldpost.settings import Settings


class _Summary(msgspec.Struct, frozen=True):
    """Of a Response, what is measured and told; the rest of it is stepped over, not read."""

    model: str
    accepted_at: datetime
    completed_at: datetime
    traceparent: str = ""


_decode_summary = msgspec.json.Decoder(_Summary).decode

log = get_logger()


class Announcing:
    """Tells of final answers: hubs and waiting calls over the bus, folders through filing."""

    def __init__(self, *, settings: Settings, backends: Backends, filing: Filing, metrics: Metrics) -> None:
        self._max_event_bytes = settings.recording.max_event_bytes
        self._bus = backends.shared.bus
        self._filing = filing
        self._tracer = backends.tracer
        self._metrics = metrics

    async def announce(self, finished: Sequence[Finished]) -> None:
        """Hints only: what does not arrive is found in the ledger."""
        events: defaultdict[str, list[Event]] = defaultdict(list)
        summaries = [_decode_summary(entry.body) for entry in finished]
        for entry, summary in zip(finished, summaries, strict=True):
            self._measure(entry, summary)
            to_folder = entry.channel is Channel.FOLDER
            events[device_channel(entry.device_id)].append(
                ResponseReady(
                    request_id=entry.request_id,
                    device_id=entry.device_id,
                    to_folder=to_folder,
                    body=entry.body if len(entry.body) <= self._max_event_bytes else b"",
                )
            )
            if to_folder:
                self._filing.wake()
        for channel, channel_events in events.items():
            await self._bus.publish(channel, channel_events)
        if self._tracer.is_on:
            for summary in summaries:
                with self._tracer.span("deliver", summary.traceparent, started_at=summary.completed_at):
                    pass

    def _measure(self, entry: Finished, summary: _Summary) -> None:
        with handling(entry.request_id, summary.traceparent):
            log.debug("request_finished", state=entry.state.value)
        self._metrics.finished.labels(entry.state.value).inc()
        seconds = (summary.completed_at - summary.accepted_at).total_seconds()
        # A clock that was set back meanwhile is no negative time.
        self._metrics.answer_seconds.labels(summary.model, entry.state.value).observe(max(seconds, 0.0))


class Results:
    """One shard's results; a batch is acknowledged after its transaction, and announced after that."""

    def __init__(
        self,
        *,
        settings: Settings,
        backends: Backends,
        clock: Clock,
        shard: str,
        dispatcher: Dispatcher,
        announcing: Announcing,
        troubles: Troubles | None = None,
    ) -> None:
        self._settings = settings.worker
        self._ledger = backends.ledgers[shard]
        self._clock = clock
        self._dispatcher = dispatcher
        self._announcing = announcing
        self._consumer = BatchConsumer(
            broker=backends.broker,
            clock=clock,
            queue=results_queue(shard),
            batch=settings.recording.batch,
            troubles=troubles,
        )

    async def run(self) -> None:
        """Records until cancelled."""
        await self._consumer.run(AttemptResult, self._record, self._bury)

    async def _record(self, batch: Sequence[AttemptResult]) -> None:
        now = self._clock.now()
        endings = [ending(result, self._settings, now) for result in batch]
        finishes = [entry for entry in endings if isinstance(entry, Finish)]
        retries = [entry for entry in endings if isinstance(entry, Retry)]
        finished = await self._ledger.claims.finish(finishes, retries, now=now)
        await self._announcing.announce(finished)
        self._dispatcher.wake()

    async def _bury(self, body: bytes, reason: str) -> None:
        await self._ledger.records.bury(reason=reason, body=body, now=self._clock.now())
