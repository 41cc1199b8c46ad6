"""Spans told to any collector that speaks OTLP over HTTP, by OpenTelemetry (the extra `otel`).

They are sent in the background, in batches; what the collector does not take in time is dropped, oldest first.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from fieldpost.clock import Clock
from fieldpost.observability import get_logger

#: Spans that wait for the collector at most.
MAX_WAITING = 2048
#: One batch, every so often or when there are so many.
_BATCH = 512
_EVERY_SECONDS = 1.0
#: How long one batch is tried.
_EXPORT_SECONDS = 5.0
#: How long a stop waits for what was not sent yet.
_CLOSE_SECONDS = 3.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

log = get_logger()


class OpenTelemetryTracer:
    """See `ports.tracing.Tracer`."""

    is_on = True

    def __init__(self, provider: TracerProvider, clock: Clock) -> None:
        self._tracer = provider.get_tracer("fieldpost")
        self._clock = clock

    @contextlib.contextmanager
    def span(
        self, name: str, traceparent: str, *, started_at: datetime | None = None, **attributes: str | int
    ) -> Iterator[str]:
        """See the port."""
        span = self._tracer.start_span(
            name,
            context=_part_of(traceparent),
            kind=SpanKind.SERVER if name == "accept" else SpanKind.INTERNAL,
            attributes=attributes,
            start_time=_nanoseconds(started_at or self._clock.now()),
        )
        try:
            yield _traceparent(span)
        except BaseException as error:
            # Its name only: what an error says may be what a device asked.
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            span.end(_nanoseconds(self._clock.now()))


@contextlib.asynccontextmanager
async def open_tracer(endpoint: str, clock: Clock, *, instance: str) -> AsyncIterator[OpenTelemetryTracer]:
    """A tracer whose last spans are sent when the context ends, if the collector takes them soon."""
    provider = TracerProvider(
        sampler=ParentBased(ALWAYS_ON),
        resource=Resource.create({"service.name": "fieldpost", "service.instance.id": instance}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint, timeout=_EXPORT_SECONDS)
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=MAX_WAITING,
            max_export_batch_size=_BATCH,
            schedule_delay_millis=1000 * _EVERY_SECONDS,
        )
    )
    with _troubles_in_our_log():
        try:
            yield OpenTelemetryTracer(provider, clock)
        finally:
            await _close(provider)


async def _close(provider: TracerProvider) -> None:
    """In a thread of its own that nothing waits for at exit: a collector may be silent."""
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def close() -> None:
        provider.shutdown()
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=close, name="otel-close", daemon=True).start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await closed.wait()


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log.warning("trace_export_failed", error=record.getMessage())


@contextlib.contextmanager
def _troubles_in_our_log() -> Iterator[None]:
    """Batches that could not be sent; not each span that was dropped, nor each try."""
    vendor, handler = logging.getLogger("opentelemetry"), _Handler(logging.ERROR)
    propagate = vendor.propagate
    vendor.addHandler(handler)
    vendor.propagate = False
    try:
        yield
    finally:
        vendor.removeHandler(handler)
        vendor.propagate = propagate


def _part_of(traceparent: str) -> Context:
    """Of nothing, not of what the vendor takes for current, when there is no traceparent."""
    if not traceparent:
        return Context()
    _, trace_id, parent_id, flags = traceparent.split("-")
    parent = SpanContext(int(trace_id, 16), int(parent_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _traceparent(span: Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & TraceFlags.SAMPLED:02x}"


def _nanoseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND * 1000
