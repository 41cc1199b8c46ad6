"""`make bench`: intake, end-to-end rate and latency of the embedded product beside its peers; writes docs/benchmarks.md."""

import argparse
import os

from rich.console import Console

from bench import report
from bench.measures import measure


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measure")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is repeated")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works; writes nothing")
    chosen = parser.parse_args()
    if chosen.seconds < 1 or chosen.rounds < 1:
        parser.error("at least 1 second and 1 round")
    cores = len(os.sched_getaffinity(0))
    run = report.Run(
        rounds=1 if chosen.quick else chosen.rounds, seconds=2.0 if chosen.quick else chosen.seconds, cores=cores
    )
    console = Console(stderr=True)
    samples = measure(rounds=run.rounds, seconds=run.seconds, tell=console.print)
    report.show(samples, run)
    if not chosen.quick:
        console.print(f"written to {report.write(samples, run).name}")


if __name__ == "__main__":
    main()
