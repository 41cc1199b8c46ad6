"""What is measured of servers of WebSockets, round by round, beside each other."""

import resource
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from bench.hubs.servers import FIELDPOST, running
from bench.measures import Sample, Samples
from bench.processes import cores, output

#: Names in the report, by those of `bench.hubs.dialects`; the order of the report.
SERVERS: Mapping[str, str] = {
    FIELDPOST: "Fieldpost",
    "websockets": "bare websockets",
    "picows": "bare picows",
    "socketio": "python-socketio",
    "channels": "Django Channels",
}
FAN_OUT, ECHO, ANSWERED, CONNECTING, IDLE, FLEET = "fan-out", "echo", "answered", "connecting", "idle", "fleet"

LISTENERS = 1_000
CALLERS = 64
IDLE_CONNECTIONS = 2_000
#: Held by one process at once.
FLEET_CONNECTIONS = 10_000
#: Open files of the load and of the server beside these connections.
_OTHER_FILES = 500


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is measured of each of these servers."""

    mode: str
    amount: int
    servers: Sequence[str] = tuple(SERVERS)
    #: Whose keys are given to the load.
    devices: int = 64


MEASURES: Mapping[str, Measure] = {
    FAN_OUT: Measure(mode="fan-out", amount=LISTENERS, devices=1),
    ECHO: Measure(mode="echo", amount=CALLERS),
    ANSWERED: Measure(mode="answered", amount=CALLERS, servers=(FIELDPOST,)),
    CONNECTING: Measure(mode="connecting", amount=CALLERS, devices=500),
    IDLE: Measure(mode="idle", amount=IDLE_CONNECTIONS, devices=IDLE_CONNECTIONS),
    FLEET: Measure(mode="idle", amount=FLEET_CONNECTIONS, servers=(FIELDPOST,), devices=IDLE_CONNECTIONS),
}


def named(measure: str, server: str = FIELDPOST) -> str:
    """What the samples of a measure of a server are kept under."""
    return f"{measure}: {SERVERS[server]}"


def measure(*, rounds: int, seconds: float, tell: Callable[[str], None]) -> Samples:
    """Every measure of every server once a round, in turns that begin with another server each round."""
    possible = _connections_possible()
    samples: defaultdict[str, list[Sample]] = defaultdict(list)
    for turn in range(rounds):
        for kind, each in MEASURES.items():
            if each.amount > possible:
                tell(f"{kind}: open files are limited to {possible}")
                continue
            start = turn % len(each.servers)
            for server in (*each.servers[start:], *each.servers[:start]):
                name = named(kind, server)
                tell(f"round {turn + 1} of {rounds}: {name}")
                with tempfile.TemporaryDirectory(prefix="fieldpost-bench-") as directory:
                    samples[name].append(_measured(server, each, Path(directory), seconds))
                tell(f"  {samples[name][-1]['per_second']:.0f}/s")
    names = [named(kind, server) for kind, each in MEASURES.items() for server in each.servers]
    return {name: samples[name] for name in names if name in samples}


def per_core(samples: Samples, name: str) -> float:
    """How many for each second of CPU that the server took: what one core would do, whatever else ran beside it."""
    return statistics.median(sample["per_second"] / sample["server_cpu_fraction"] for sample in samples[name])


def ratio_per_core(samples: Samples, name: str, peer: str) -> float:
    """The median of the rounds' ratios: each compares what was measured side by side."""
    pairs = zip(samples[name], samples[peer], strict=True)
    return statistics.median(
        one["per_second"] / one["server_cpu_fraction"] * other["server_cpu_fraction"] / other["per_second"]
        for one, other in pairs
    )


def _measured(server: str, measure: Measure, directory: Path, seconds: float) -> Sample:
    with running(server, directory, devices=measure.devices) as found:
        arguments = ["bench.hubs.load", server, str(found.port), str(found.pid), str(found.keys)]
        return output([*arguments, measure.mode, str(measure.amount), str(seconds)], seconds, affinity=cores()[1])


def _connections_possible() -> int:
    """Of one process; what is started has the same limit."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    return (sys.maxsize if limit == resource.RLIM_INFINITY else limit) - _OTHER_FILES
