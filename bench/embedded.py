"""The part of the report on the embedded product: its aims, ratios, figures and how they were measured."""

import sqlite3
from collections.abc import Sequence

from bench import measures
from bench.measures import Samples
from bench.tables import Aim, Part, Run, Table, at_least, below, compared, judged, refusals, shown

#: Above this the load generator may have been the limit.
_BUSY_LOAD_FRACTION = 0.9


def part(samples: Samples, run: Run) -> Part:
    """All of it."""
    return Part(
        title="Embedded",
        tables=[judged(aims(samples)), compared(ratios(samples)), _figures(samples)],
        notes=_notes(samples, run),
        explanation=_EXPLANATION,
    )


def aims(samples: Samples) -> Sequence[Aim]:
    """The figures by which the embedded product is judged."""
    waiting = measures.ratio(samples, measures.WAITING, measures.STARLETTE)
    working = measures.ratio(samples, measures.WORKING, measures.STARLETTE)
    p50 = 1000 * measures.median(samples, measures.PACED, "p50_seconds")
    return [
        at_least("accepted while processing waits, to bare Starlette", waiting, 0.4),
        at_least("accepted while processing runs, to bare Starlette", working, 0.25),
        below(f"posting to answer ready at {measures.PACE_PER_SECOND} requests/s, p50", p50, 15),
    ]


def ratios(samples: Samples) -> Sequence[tuple[str, float]]:
    """Further comparisons, without an aim."""
    pairs = [
        (measures.WAITING, measures.INSERTS),
        (measures.WAITING, measures.GROUPED),
        (measures.WORKING, measures.GROUPED),
        (measures.ANSWERED, measures.STARLETTE),
        (measures.ANSWERED, measures.WAITING),
    ]
    return [(f"{name}, to: {peer}", measures.ratio(samples, name, peer)) for name, peer in pairs]


_EXPLANATION = """\
- Every server is a process of its own, pinned to one core with all its threads; the load generator, raw sockets and a
  fixed request, is another on another core. Each measure starts a fresh server on an empty directory.
- *Bare Starlette* reads the same body, checks it with the same types and answers as much, and keeps nothing.
- *SQLite inserts* commit rows as long as the request, with the same durability (WAL, `synchronous=FULL`).
- *Accepts*: each connection posts again as soon as it has its `202`, which comes after the request is on disk.
- *Posts and answers*: each connection posts with `Prefer: wait` and posts again when it has its answer; the model
  answers at once, so this is Fieldpost's own cost: recorded, dispatched, claimed, answered, recorded, delivered.
- At a fixed rate a call is timed from when it should have been sent. The first second of each measure does not count.
"""


def _figures(samples: Samples) -> Table:
    header = ["measure", "per second", "p50 ms", "p95 ms", "p99 ms", "server's CPU", "load's CPU"]
    lines = [
        [
            name,
            shown(samples, name, "per_second", 1, 0),
            shown(samples, name, "p50_seconds", 1000, 1),
            shown(samples, name, "p95_seconds", 1000, 1),
            shown(samples, name, "p99_seconds", 1000, 1),
            shown(samples, name, "server_cpu_fraction", 1, 2),
            shown(samples, name, "load_cpu_fraction", 1, 2),
        ]
        for name in samples
    ]
    return ("Rates and times", header, lines)


def _notes(samples: Samples, run: Run) -> Sequence[str]:
    notes = [
        f"{run.rounds} rounds of {run.seconds:g} s for each measure, medians, {measures.CONNECTIONS} connections.",
        f"SQLite {sqlite3.sqlite_version}.",
        *refusals(samples),
    ]
    for name, found in samples.items():
        is_busy = measures.median(samples, name, "load_cpu_fraction") > _BUSY_LOAD_FRACTION
        if "server_cpu_fraction" in found[0] and is_busy:
            notes.append(f"{name}: the load generator was busy all the time and may have been the limit.")
    return notes
