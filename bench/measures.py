"""What is measured, round by round: peers beside each other, so that whatever slows the machine slows them all."""

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench import processes

CONNECTIONS = processes.DEVICES
PACE_PER_SECOND = 50

#: Names of the measures, in the order of the report.
STARLETTE = "bare Starlette"
INSERTS = "SQLite inserts, one row a commit"
GROUPED = f"SQLite inserts, {CONNECTIONS} rows a commit"
WAITING = "Fieldpost accepts, processing waits"
WORKING = "Fieldpost accepts, processing runs"
ANSWERED = "Fieldpost posts and answers"
PACED = f"Fieldpost posts and answers, {PACE_PER_SECOND} requests/s"

Sample = Mapping[str, float]
Samples = Mapping[str, Sequence[Sample]]


def measure(*, rounds: int, seconds: float, tell: Callable[[str], None]) -> Samples:
    """Every measure once a round, in turns that begin with another one each round."""
    samples: defaultdict[str, list[Sample]] = defaultdict(list)
    names = list(_MEASURES)
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            tell(f"round {turn + 1} of {rounds}: {name}")
            with tempfile.TemporaryDirectory(prefix="fieldpost-bench-") as directory:
                samples[name].append(_MEASURES[name](Path(directory), seconds))
    return samples


def median(samples: Samples, name: str, figure: str) -> float:
    """The median over the rounds."""
    return statistics.median(sample[figure] for sample in samples[name])


def ratio(samples: Samples, name: str, peer: str) -> float:
    """The median of the rounds' ratios of rates: each compares what was measured side by side."""
    pairs = zip(samples[name], samples[peer], strict=True)
    return statistics.median(one["per_second"] / other["per_second"] for one, other in pairs)


def _served(server: str, mode: str, amount: float) -> Callable[[Path, float], Sample]:
    def run(directory: Path, seconds: float) -> Sample:
        with processes.running(server, directory) as running:
            return processes.load(running, mode, amount, seconds)

    return run


def _inserted(rows_per_commit: int) -> Callable[[Path, float], Sample]:
    return lambda directory, seconds: processes.inserts(directory, rows_per_commit, seconds)


_MEASURES: Mapping[str, Callable[[Path, float], Sample]] = {
    STARLETTE: _served("starlette", "accepted", CONNECTIONS),
    WAITING: _served("fieldpost-waiting", "accepted", CONNECTIONS),
    WORKING: _served("fieldpost", "accepted", CONNECTIONS),
    INSERTS: _inserted(1),
    GROUPED: _inserted(CONNECTIONS),
    ANSWERED: _served("fieldpost", "answered", CONNECTIONS),
    PACED: _served("fieldpost", "paced", PACE_PER_SECOND),
}
