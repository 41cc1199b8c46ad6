"""What a run comes to: counts, times and the verdict. Pure."""

import math
from collections.abc import Mapping, Sequence

import msgspec

from fieldpost.fleet.history import Event, Verdict, check


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from asking to the answer in hand; None where there was no answer to measure."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as it is printed."""

    devices: int
    seconds: float
    sent: int
    accepted: int
    answered: int
    #: Of the answered: answers that say why there is none.
    failed: int
    lost: Sequence[str]
    #: Two different answers, or delivered again after the acknowledgement was recorded.
    duplicated: Sequence[str]
    #: Answers to what this device never asked.
    unexpected: Sequence[str]
    #: How often each reason was given.
    refused: Mapping[str, int]
    #: Sent, and neither accepted, answered nor refused: no promise was made.
    unknown: int
    #: Answers that waited for their device to come back; not in the latencies.
    late: int
    reconnects: int
    #: By door, and `total`.
    latency_seconds: Mapping[str, Latency]

    @property
    def is_kept(self) -> bool:
        """Whether every promise was kept, and at least one was made."""
        return self.accepted > 0 and not (self.lost or self.duplicated or self.unexpected)


def summarize(
    history: Sequence[Event],
    *,
    devices: int,
    seconds: float,
    failed: int,
    refused: Mapping[str, int],
    late: int,
    reconnects: int,
    latencies: Mapping[str, Sequence[float]],
) -> Summary:
    """Judges the history, and counts; an answer shows that its request was accepted, whether the server said so or not."""
    verdict = check(history)
    sent = {event.request for event in history if event.kind == "unknown"}
    answered = sent & {event.request for event in history if event.kind == "delivered"}
    accepted = {event.request for event in history if event.kind == "accepted"} | answered
    return Summary(
        devices=devices,
        seconds=round(seconds, 1),
        sent=len(sent),
        accepted=len(accepted),
        answered=len(answered),
        failed=failed,
        lost=verdict.lost,
        duplicated=_duplicated(verdict),
        unexpected=verdict.unexpected,
        refused=dict(refused),
        unknown=max(0, len(sent) - len(accepted) - sum(refused.values())),
        late=late,
        reconnects=reconnects,
        latency_seconds=_latency_by_door(latencies),
    )


def percentile(ordered: Sequence[float], fraction: float) -> float | None:
    """The nearest rank: the smallest value that so many are not above.

    >>> [percentile([1.0, 2.0, 3.0, 4.0], fraction) for fraction in (0.0, 0.5, 0.51, 1.0)]
    [1.0, 2.0, 3.0, 4.0]
    """
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)] if ordered else None


def _duplicated(verdict: Verdict) -> list[str]:
    return list(dict.fromkeys([*verdict.contradicted, *verdict.repeated]))


def _latency_by_door(latencies: Mapping[str, Sequence[float]]) -> dict[str, Latency]:
    total = [seconds for values in latencies.values() for seconds in values]
    return {door: _latency(values) for door, values in {**latencies, "total": total}.items()}


def _latency(values: Sequence[float]) -> Latency:
    ordered = sorted(values)
    p50, p95, p99 = (percentile(ordered, fraction) for fraction in (0.50, 0.95, 0.99))
    return Latency(count=len(ordered), p50=p50, p95=p95, p99=p99)
