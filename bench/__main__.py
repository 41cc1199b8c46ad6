"""`make bench`: intake, whole way, latency and hubs, embedded and over real engines; writes docs/benchmarks.md."""

import argparse
import os
import signal
import sys
from collections.abc import Callable

from rich.console import Console

from bench import embedded, measures, report
from bench.cluster import measures as cluster_measures
from bench.cluster import report as cluster
from bench.hubs import measures as hub_measures
from bench.hubs import report as hubs
from bench.tables import Part, Run


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measure")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is repeated")
    parser.add_argument("--only", choices=list(_PARTS), help="one part; writes nothing")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works; writes nothing")
    chosen = parser.parse_args()
    if chosen.seconds < 1 or chosen.rounds < 1:
        parser.error("at least 1 second and 1 round")
    # What was started is ended.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    run = Run(
        rounds=1 if chosen.quick else chosen.rounds,
        seconds=2.0 if chosen.quick else chosen.seconds,
        cores=len(os.sched_getaffinity(0)),
    )
    console = Console(stderr=True)
    parts = [_PARTS[name](run, console.print) for name in ([chosen.only] if chosen.only else _PARTS)]
    for part in parts:
        report.show(part)
    if not (chosen.quick or chosen.only):
        console.print(f"written to {report.write(parts, run).name}")


def _embedded(run: Run, tell: Callable[[str], None]) -> Part:
    return embedded.part(measures.measure(rounds=run.rounds, seconds=run.seconds, tell=tell), run)


def _cluster(run: Run, tell: Callable[[str], None]) -> Part:
    return cluster.part(cluster_measures.measure(rounds=run.rounds, seconds=run.seconds, tell=tell), run)


def _hubs(run: Run, tell: Callable[[str], None]) -> Part:
    return hubs.part(hub_measures.measure(rounds=run.rounds, seconds=run.seconds, tell=tell), run)


_PARTS = {"embedded": _embedded, "cluster": _cluster, "hubs": _hubs}

if __name__ == "__main__":
    main()
