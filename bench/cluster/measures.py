"""What is measured over the real engines, round by round, beside its peers."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.cluster.roles import Roles, make_devices, running
from bench.cluster.stage import Stage, stage, used
from bench.measures import Sample, Samples
from bench.processes import PEERS_PYTHON, cores, output, start
from fieldpost.cluster.processes import descendants

#: Callers that wait for their confirm at once: the gateway's and aio-pika's.
CALLERS = 64
#: Requests without an answer at once, on the whole way.
OUTSTANDING = 256
PER_SECOND = 200
READING_PER_SECOND = 100
#: Of one process that sends to Celery: each waits for its confirm.
THREADS = 8

#: Names of the measures, in the order of the report.
GATEWAY = "gateway accepts"
AIO_PIKA = "aio-pika publishes"
DELAY = "celery.delay, one thread"
DELAYS = f"celery.delay, {THREADS} threads"
WAY = "whole way"
CELERY = "Celery's tasks"
PACED = f"whole way, {PER_SECOND} requests/s"
READING = f"whole way and a GET, {READING_PER_SECOND} requests/s"

_ALL = ("gateway", "hub", "processor", "worker")
_PEERS = "bench.peers."
#: A worker of Celery declares its queues first.
_WORKER_SECONDS = 8.0


def measure(*, rounds: int, seconds: float, tell: Callable[[str], None]) -> Samples:
    """Every measure once a round, in turns that begin with another one each round."""
    samples: defaultdict[str, list[Sample]] = defaultdict(list)
    names = list(_MEASURES)
    tell("starting RabbitMQ, PostgreSQL and Redis")
    with stage() as engines:
        with _directory() as directory:
            make_devices(engines, directory)
        for turn in range(rounds):
            start_at = turn % len(names)
            for name in names[start_at:] + names[:start_at]:
                tell(f"round {turn + 1} of {rounds}: {name}")
                with _directory() as directory:
                    found = _MEASURES[name](engines, directory, seconds)
                samples[name].append(found)
                tell(f"  {found['per_second']:.0f}/s")
    return {name: samples[name] for name in names}


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fieldpost-bench-") as directory:
        yield Path(directory)


def _gateway(engines: Stage, directory: Path, seconds: float) -> Sample:
    """One core for the gateway, the other for the load; the engines take what is left."""
    with running(engines, directory, ["gateway"], affinity=cores()[0]) as roles:
        arguments = [
            "bench.load",
            str(roles.port("gateway")),
            str(engines.keys),
            "accepted",
            str(CALLERS),
            str(seconds),
        ]
        return _counted(engines, roles, seconds, lambda: output(arguments, seconds, affinity=cores()[1]))


def _aio_pika(engines: Stage, _directory: Path, seconds: float) -> Sample:
    arguments = [f"{_PEERS}aio_pika_publishing", engines.empty_broker(), "published", str(CALLERS), str(seconds)]
    return _counted(
        engines, None, seconds, lambda: output(arguments, seconds, affinity=cores()[0], python=PEERS_PYTHON)
    )


def _delays(threads: int) -> Callable[[Stage, Path, float], Sample]:
    def run(engines: Stage, _directory: Path, seconds: float) -> Sample:
        arguments = _celery(engines.empty_broker(), engines, "publish", str(threads), str(seconds))
        return _counted(
            engines, None, seconds, lambda: output(arguments, seconds, affinity=cores()[0], python=PEERS_PYTHON)
        )

    return run


def _celery_tasks(engines: Stage, directory: Path, seconds: float) -> Sample:
    broker = engines.empty_broker()
    worker = start(_celery(broker, engines, "worker"), python=PEERS_PYTHON, log=directory / "worker.log")
    try:
        time.sleep(_WORKER_SECONDS)
        arguments = _celery(broker, engines, "answered", str(THREADS), str(seconds))
        before = used(worker.pid)
        found = _counted(engines, None, seconds, lambda: output(arguments, seconds, python=PEERS_PYTHON))
        return {**found, "cpu worker of Celery": used(worker.pid) - before}
    finally:
        _end(worker)


def _end(worker: "subprocess.Popen[bytes]") -> None:
    """Ends a Celery worker with all it has in hand: asked to finish that, it takes longer than anyone waits."""
    below = descendants(worker.pid)
    worker.send_signal(signal.SIGQUIT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(_WORKER_SECONDS)
    worker.kill()
    worker.wait()
    for pid in below:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _celery(broker: str, engines: Stage, *words: str) -> list[str]:
    return [f"{_PEERS}celery_tasks", broker, engines.results_url, *words]


def _way(mode: str, amount: int) -> Callable[[Stage, Path, float], Sample]:
    """All processes and engines share all cores, and the load takes what it needs of them."""

    def run(engines: Stage, directory: Path, seconds: float) -> Sample:
        with running(engines, directory, _ALL) as roles:
            ports = [str(roles.port("gateway")), str(roles.port("hub"))]
            arguments = ["bench.cluster.way", *ports, str(engines.keys), mode, str(amount), str(seconds)]
            lag = start(["bench.cluster.lag", *engines.databases, str(seconds)])
            found = _counted(engines, roles, seconds, lambda: output(arguments, seconds))
            found |= _lag(lag.communicate(timeout=60)[0])
            roles.stop()
            reads = roles.reads()
            return {**found, **{f"reads {served_by}": count for served_by, count in reads.items()}}

    return run


def _lag(text: bytes) -> dict[str, float]:
    found: dict[str, float] = json.loads(text)
    return {"lag_p50_seconds": found["p50_seconds"], "lag_p99_seconds": found["p99_seconds"]}


def _counted(
    engines: Stage, roles: Roles | None, seconds: float, run: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """What was found, and what CPU seconds each took meanwhile, warm-up included."""

    def count() -> dict[str, float]:
        return {**engines.cpu_seconds(), **({} if roles is None else roles.cpu_seconds())}

    before = count()
    found = run()
    taken = {f"cpu {name}": used_by_now - before[name] for name, used_by_now in count().items()}
    load = found.get("load_cpu_fraction", 0.0) * seconds
    return {**found, **taken, "load_cpu_seconds": load}


_MEASURES: Mapping[str, Callable[[Stage, Path, float], Sample]] = {
    GATEWAY: _gateway,
    AIO_PIKA: _aio_pika,
    DELAY: _delays(1),
    DELAYS: _delays(THREADS),
    WAY: _way("closed", OUTSTANDING),
    CELERY: _celery_tasks,
    PACED: _way("paced", PER_SECOND),
    READING: _way("reading", READING_PER_SECOND),
}
