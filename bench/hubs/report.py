"""The part of the report on hubs: servers of WebSockets beside each other."""

from collections.abc import Sequence

from bench.hubs import measures
from bench.hubs.measures import (
    ANSWERED,
    CONNECTING,
    ECHO,
    FAN_OUT,
    FLEET,
    IDLE,
    MEASURES,
    SERVERS,
    named,
    per_core,
    ratio_per_core,
)
from bench.hubs.servers import FIELDPOST
from bench.measures import Samples, median
from bench.tables import Aim, Part, Run, Table, at_least, below, compared, judged, shown

_RATES = (FAN_OUT, ECHO, ANSWERED, CONNECTING)
_MEMORY = (IDLE, FLEET)
#: Above this the load generator may have been the limit.
_BUSY_LOAD_FRACTION = 0.9


def part(samples: Samples, run: Run) -> Part:
    """All of it."""
    return Part(
        title="Hubs",
        tables=[judged(aims(samples)), compared(ratios(samples)), _rates(samples), _memory(samples)],
        notes=_notes(samples, run),
        explanation=_EXPLANATION,
    )


def aims(samples: Samples) -> Sequence[Aim]:
    """The figures by which hubs are judged."""
    fan_out = named(FAN_OUT)
    found = [
        at_least(f"fan-out, to {SERVERS[peer]}", ratio_per_core(samples, fan_out, named(FAN_OUT, peer)), least)
        for peer, least in (("websockets", 0.7), ("socketio", 3.0), ("channels", 3.0))
    ]
    for kind in filter(lambda kind: named(kind) in samples, _MEMORY):
        kilobytes = median(samples, named(kind), "bytes_per_connection") / 1000
        found.append(below(f"memory of each of {MEASURES[kind].amount} idle connections", kilobytes, 25, unit="KB"))
    if named(FLEET) in samples:
        held = min(sample["held"] for sample in samples[named(FLEET)])
        found.append(at_least("connections held by one process", held, MEASURES[FLEET].amount, unit=""))
    return [*found, at_least("new connections, one core", per_core(samples, named(CONNECTING)), 2000, unit="/s")]


def ratios(samples: Samples) -> Sequence[tuple[str, float]]:
    """Further comparisons, without an aim."""
    peers = [server for server in SERVERS if server != FIELDPOST]
    pairs = [(FAN_OUT, "picows"), *((kind, peer) for kind in (ECHO, CONNECTING) for peer in peers)]
    return [
        (f"{kind}, to {SERVERS[peer]}", ratio_per_core(samples, named(kind), named(kind, peer))) for kind, peer in pairs
    ]


_EXPLANATION = f"""\
- Every server is one process, pinned to one core with all its threads, its loop uvloop; the load, raw sockets and frames
  made by hand, is pinned to another. *For each core* is the rate by the server's CPU seconds, the kernel's work for
  it included; ratios compare that. Nobody compresses; all speak over loopback, without TLS.
- *Fieldpost* is the whole embedded product, all roles in one process. *Bare websockets* is the library alone, *bare
  picows* another one in C, the limit; *python-socketio* and *Django Channels* (its layer in memory) run under uvicorn,
  as Fieldpost does. None of them asks for a key, keeps anything, or bounds what waits for a slow reader.
- *Fan-out*: {measures.LISTENERS} connections, frames of about 330 bytes to all of them; the next is asked for when all
  have one, four are under way. Peers send theirs to all they hold. Fieldpost's is an answer: a request is posted over
  one more connection, recorded, answered by the echo model (once for all those frames), and its `ResponseReady` goes to
  all connections of that one device, each of which checks that it is new; nobody acknowledges, and no sweep is due.
  Times are from asking to when the last connection has it.
- *Echo*: {measures.CALLERS} connections, each sends a small text when it has the one before back; `Ping` and `Pong` with
  a nonce for Fieldpost. *Answered*: `Request`, `Accepted`, `ResponseReady`, `Ack` and `Acked`, with the echo model.
- *Connecting*: {measures.CALLERS} at once, each from `connect` over the handshake to the first frame (Fieldpost checks
  the key, reads what was missed and says `Hello`), closed then without a word.
- *Memory*: what the process's resident set grows by, for each connection; a device each, up to
  {measures.IDLE_CONNECTIONS} devices. The kernel's buffers are not in it.
"""


def _rates(samples: Samples) -> Table:
    header = ["measure", "per second", "for each core", "p50 ms", "p99 ms", "server's CPU", "load's CPU"]
    lines = [
        [
            name,
            shown(samples, name, "per_second", 1, 0),
            f"{per_core(samples, name):.0f}",
            shown(samples, name, "p50_seconds", 1000, 1),
            shown(samples, name, "p99_seconds", 1000, 1),
            shown(samples, name, "server_cpu_fraction", 1, 2),
            shown(samples, name, "load_cpu_fraction", 1, 2),
        ]
        for name in _names(samples, _RATES)
    ]
    return ("Rates and times", header, lines)


def _memory(samples: Samples) -> Table:
    header = ["measure", "connections", "KB for each", "held", "opened per second", "server's CPU, idle"]
    lines = [
        [
            name,
            str(MEASURES[name.partition(":")[0]].amount),
            shown(samples, name, "bytes_per_connection", 1 / 1000, 1),
            shown(samples, name, "held", 1, 0),
            shown(samples, name, "per_second", 1, 0),
            shown(samples, name, "server_cpu_fraction", 1, 2),
        ]
        for name in _names(samples, _MEMORY)
    ]
    return ("Idle connections", header, lines)


def _names(samples: Samples, kinds: Sequence[str]) -> Sequence[str]:
    return [name for name in samples if name.partition(":")[0] in kinds]


def _notes(samples: Samples, run: Run) -> Sequence[str]:
    notes = [f"{run.rounds} rounds of {run.seconds:g} s for each measure, medians."]
    if named(FLEET) not in samples:
        notes.append(f"Open files are limited: {MEASURES[FLEET].amount} connections were not tried.")
    notes += [
        f"{name}: the load generator was busy all the time and may have been the limit."
        for name in samples
        if median(samples, name, "load_cpu_fraction") > _BUSY_LOAD_FRACTION
    ]
    return notes
