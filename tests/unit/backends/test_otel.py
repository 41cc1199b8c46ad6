"""What a collector is told, over a real socket."""

import pytest

from fieldpost.backends.otel import open_tracer
from fieldpost.tracing import read, trace_id_of
from tests.support.clock import FakeClock
from tests.support.collector import collecting

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SENT = f"00-{TRACE}-00f067aa0ba902b7-01"


async def test_a_span_is_part_of_what_came_and_what_goes_on_is_part_of_it(clock: FakeClock) -> None:
    began_at = clock.now()

    with collecting() as collector:
        async with open_tracer(collector.url, clock, instance="one") as tracer:
            with tracer.span("accept", SENT, channel="http") as inner:
                clock.advance(2)
                with tracer.span("attempt", inner, started_at=began_at, attempt=3) as innermost:
                    pass
        told = collector.of(TRACE)

    accept, attempt = told["accept"], told["attempt"]
    assert (inner, innermost) == (f"00-{TRACE}-{accept.span_id}-01", f"00-{TRACE}-{attempt.span_id}-01")
    assert ("00f067aa0ba902b7", accept.span_id) == (accept.parent_id, attempt.parent_id)
    assert ({"channel": "http"}, {"attempt": 3}) == (accept.attributes, attempt.attributes)
    assert (2, 2, "one") == (accept.seconds, attempt.seconds, accept.instance)
    assert not accept.is_failed


async def test_without_a_trace_one_begins(clock: FakeClock) -> None:
    with collecting() as collector:
        async with open_tracer(collector.url, clock, instance="one") as tracer:
            with tracer.span("accept", "") as first, tracer.span("accept", "") as second:
                pass
        told = collector.spans

    assert first == read(first) != ""
    assert {trace_id_of(first), trace_id_of(second)} == {span.trace_id for span in told}
    assert len({span.trace_id for span in told}) == 2
    assert {""} == {span.parent_id for span in told}


async def test_what_its_caller_does_not_record_is_not_told_and_goes_on_so(clock: FakeClock) -> None:
    with collecting() as collector:
        async with open_tracer(collector.url, clock, instance="one") as tracer:
            with tracer.span("accept", SENT[:-2] + "00") as carried:
                pass

    assert collector.spans == []
    assert (TRACE, "00") == (trace_id_of(carried), carried[-2:])


async def test_an_error_ends_a_span_as_failed_and_goes_on(clock: FakeClock) -> None:
    with collecting() as collector:
        async with open_tracer(collector.url, clock, instance="one") as tracer:
            with pytest.raises(ZeroDivisionError), tracer.span("attempt", SENT):
                raise ZeroDivisionError

    assert collector.of(TRACE)["attempt"].is_failed
