"""The figures as tables: on the screen, and in docs/benchmarks.md with the ratios first."""

import platform
import sqlite3
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench import measures
from bench.measures import Samples

_DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_PACKAGES = ("starlette", "uvicorn", "uvloop", "httptools", "msgspec", "sqlalchemy")
_WIDTH = 120
#: Above this the load generator may have been the limit.
_BUSY_LOAD_FRACTION = 0.9


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """One figure that has an aim."""

    what: str
    value: float
    aim: str
    is_met: bool
    unit: str = "×"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """How it was measured."""

    rounds: int
    seconds: float
    cores: int


def aims(samples: Samples) -> Sequence[Aim]:
    """The figures by which Fieldpost is judged."""
    waiting = measures.ratio(samples, measures.WAITING, measures.STARLETTE)
    working = measures.ratio(samples, measures.WORKING, measures.STARLETTE)
    p50 = 1000 * measures.median(samples, measures.PACED, "p50_seconds")
    return [
        Aim(
            what="accepted while processing waits, to bare Starlette",
            value=waiting,
            aim="≥ 0.40",
            is_met=waiting >= 0.4,
        ),
        Aim(
            what="accepted while processing runs, to bare Starlette",
            value=working,
            aim="≥ 0.25",
            is_met=working >= 0.25,
        ),
        Aim(
            what=f"posting to answer ready at {measures.PACE_PER_SECOND} requests/s, p50",
            value=p50,
            aim="< 15",
            is_met=p50 < 15,
            unit="ms",
        ),
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


def show(samples: Samples, run: Run) -> None:
    """Prints it."""
    console = Console()
    console.width = max(console.width, _WIDTH)
    for title, header, lines in _tables(samples):
        table = Table(*header, title=title, title_justify="left")
        for line in lines:
            table.add_row(*line)
        console.print(table)
    for note in _notes(samples, run):
        console.print(note)


def write(samples: Samples, run: Run) -> Path:
    """Writes it to docs/benchmarks.md."""
    text = [
        "# Benchmarks",
        "",
        "Made by `make bench`; figures of its latest run. Peers are measured in the same run, in turns. Absolute figures",
        "say something of the machine, ratios of Fieldpost.",
        "",
    ]
    for title, header, lines in _tables(samples):
        text += [f"## {title}", "", _row(header), _row(["---"] * len(header)), *map(_row, lines), ""]
    text += ["## How it was measured", "", *(f"- {note}" for note in _notes(samples, run)), "", *_EXPLANATION, ""]
    _DOCUMENT.write_text("\n".join(text), encoding="utf-8")
    return _DOCUMENT


_EXPLANATION = [
    "- Every server is a process of its own, pinned to one core with all its threads; the load generator, raw sockets and a",
    "  fixed request, is another on another core. Each measure starts a fresh server on an empty directory.",
    "- *Bare Starlette* reads the same body, checks it with the same types and answers as much, and keeps nothing.",
    "- *SQLite inserts* commit rows as long as the request, with the same durability (WAL, `synchronous=FULL`).",
    "- *Accepts*: each connection posts again as soon as it has its `202`, which comes after the request is on disk.",
    "- *Posts and answers*: each connection posts with `Prefer: wait` and posts again when it has its answer; the model",
    "  answers at once, so this is Fieldpost's own cost: recorded, dispatched, claimed, answered, recorded, delivered.",
    "- At a fixed rate a call is timed from when it should have been sent. The first second of each measure does not count.",
]


def _tables(samples: Samples) -> Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
    judged = [
        (aim.what, f"{aim.value:.2f} {aim.unit}", f"{aim.aim} {aim.unit}", "met" if aim.is_met else "not met")
        for aim in aims(samples)
    ]
    compared = [(what, f"{value:.2f} ×") for what, value in ratios(samples)]
    return [
        ("Aims", ["figure", "median", "aim", ""], judged),
        ("Further ratios", ["figure", "median"], compared),
        (
            "Rates and times",
            ["measure", "per second", "p50 ms", "p95 ms", "p99 ms", "server's CPU", "load's CPU"],
            [_figures(samples, name) for name in samples],
        ),
    ]


def _figures(samples: Samples, name: str) -> Sequence[str]:
    def shown(figure: str, factor: float, places: int) -> str:
        if figure not in samples[name][0]:
            return "–"
        return f"{factor * measures.median(samples, name, figure):.{places}f}"

    return [
        name,
        shown("per_second", 1, 0),
        shown("p50_seconds", 1000, 1),
        shown("p95_seconds", 1000, 1),
        shown("p99_seconds", 1000, 1),
        shown("server_cpu_fraction", 1, 2),
        shown("load_cpu_fraction", 1, 2),
    ]


def _notes(samples: Samples, run: Run) -> Sequence[str]:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    notes = [
        f"{run.rounds} rounds of {run.seconds:g} s for each measure, medians, {measures.CONNECTIONS} connections.",
        f"{run.cores} cores, {_processor()}, Linux {platform.release().partition('-')[0]}.",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {versions}.",
    ]
    for name, found in samples.items():
        refused = sum(sample.get("refused", 0) for sample in found)
        if refused:
            notes.append(f"{name}: {refused:.0f} requests were refused.")
        if (
            "server_cpu_fraction" in found[0]
            and measures.median(samples, name, "load_cpu_fraction") > _BUSY_LOAD_FRACTION
        ):
            notes.append(f"{name}: the load generator was busy all the time and may have been the limit.")
    return notes


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
