"""The part of the report on the roles over real engines."""

from collections.abc import Sequence

from bench.cluster import measures
from bench.measures import Samples, median, ratio
from bench.tables import Aim, Part, Run, Table, at_least, below, compared, judged, refusals, shown

#: Processes whose CPU is told, as `measures` names them.
_PROCESSES = ("gateway", "hub", "processor", "worker", "RabbitMQ", "PostgreSQL", "Redis")
_WITH_LAG = (measures.WAY, measures.PACED, measures.READING)


def part(samples: Samples, run: Run) -> Part:
    """All of it."""
    return Part(
        title="Over real engines",
        tables=[judged(aims(samples)), compared(ratios(samples)), _figures(samples), _cpu(samples)],
        notes=_notes(samples, run),
        explanation=_EXPLANATION,
    )


def aims(samples: Samples) -> Sequence[Aim]:
    """The figures by which the roles are judged."""
    delay = max((measures.DELAY, measures.DELAYS), key=lambda name: median(samples, name, "per_second"))
    lag = 1000 * max(median(samples, name, "lag_p99_seconds") for name in _WITH_LAG)
    rate = f"at {measures.PER_SECOND} requests/s"
    return [
        at_least("gateway accepts, to aio-pika alone", ratio(samples, measures.GATEWAY, measures.AIO_PIKA), 0.5),
        at_least(f"gateway accepts, to {delay}", ratio(samples, measures.GATEWAY, delay), 6),
        at_least("whole way, to Celery's tasks", ratio(samples, measures.WAY, measures.CELERY), 4),
        below(f"whole way {rate}, p50", 1000 * median(samples, measures.PACED, "p50_seconds"), 30),
        below(f"whole way {rate}, p99", 1000 * median(samples, measures.PACED, "p99_seconds"), 150),
        below("replication lag under these loads, p99, the worst of them", lag, 100),
        at_least("reads served by replicas", _replica_share(samples), 0.9),
    ]


def ratios(samples: Samples) -> Sequence[tuple[str, float]]:
    """Further comparisons, without an aim."""
    pairs = [(measures.WAY, measures.GATEWAY), (measures.AIO_PIKA, measures.DELAY), (measures.DELAYS, measures.DELAY)]
    return [(f"{name}, to: {peer}", ratio(samples, name, peer)) for name, peer in pairs]


_EXPLANATION = """\
- One RabbitMQ node (one scheduler), a PostgreSQL primary whose commits one replica confirms, three Redis masters; all
  on the same cores as Fieldpost, the peers and the load. Disks are waited for. Each measure begins with an
  empty broker; Celery's results go to a plain Redis.
- *Gateway accepts*: one `fieldpost gateway`; each caller posts again as soon as it has its `202`, which comes after
  the quorum queue has confirmed. *aio-pika publishes*: as many callers in one process, which publish as long a body
  and wait for the confirm. *celery.delay*: one process, each thread waits for the confirm of a quorum queue. All
  three are pinned to one core, the gateway's load to another.
- *Whole way*: one process each of gateway, hub, processor and worker; posted to the gateway, answered by the echo
  model, recorded, `ResponseReady` at a WebSocket, acknowledged. Nothing is pinned.
- *Celery's tasks*: one process sends, one worker (prefork, one process) answers; results are counted in the Redis,
  and nobody fetches them. A task is acknowledged before it runs, Fieldpost's requests after their answer is recorded.
- *Replication lag*: 20 times a second, how long the replica takes to show what the primary had written.
- *Reads*: all of the four processes, those of the dispatcher and of health included, while each answer is also
  fetched by `GET`.
- CPU seconds are those of the whole measure, its warm-up second included; the load's are of the counted time.
"""


def _figures(samples: Samples) -> Table:
    header = ["measure", "per second", "p50 ms", "p95 ms", "p99 ms", "lag p99 ms"]
    lines = [
        [
            name,
            shown(samples, name, "per_second", 1, 0),
            shown(samples, name, "p50_seconds", 1000, 1),
            shown(samples, name, "p95_seconds", 1000, 1),
            shown(samples, name, "p99_seconds", 1000, 1),
            shown(samples, name, "lag_p99_seconds", 1000, 1),
        ]
        for name in samples
    ]
    return ("Rates and times", header, lines)


def _cpu(samples: Samples) -> Table:
    header = ["measure", *_PROCESSES, "Celery's worker", "load or peer"]
    lines = [
        [
            name,
            *(shown(samples, name, f"cpu {process}", 1, 1) for process in (*_PROCESSES, "worker of Celery")),
            shown(samples, name, "load_cpu_seconds", 1, 1),
        ]
        for name in samples
    ]
    return ("CPU seconds", header, lines)


def _replica_share(samples: Samples) -> float:
    replica = median(samples, measures.READING, "reads replica")
    return replica / max(1.0, replica + median(samples, measures.READING, "reads primary"))


def _notes(samples: Samples, run: Run) -> Sequence[str]:
    return [
        f"{run.rounds} rounds of {run.seconds:g} s for each measure, medians.",
        f"{measures.CALLERS} callers; on the whole way {measures.OUTSTANDING} requests without an answer at once.",
        *refusals(samples),
    ]
