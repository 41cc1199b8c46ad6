"""What all measuring processes have in common, peers too: the warm-up, and figures of times."""

from collections.abc import Sequence

#: Not counted: connections are made, caches and pools are filled.
WARM_UP_SECONDS = 1.0

#: What a server that sends to all of its WebSockets sends: as long as a short answer of Fieldpost in its frame.
NEWS = "n" * 332


def figures(times: Sequence[float], *, took: float) -> dict[str, float]:
    """Rate and quantiles of what took so long each, in seconds."""
    ordered = sorted(times) or [0.0]
    return {
        "per_second": len(times) / took,
        "p50_seconds": ordered[len(ordered) // 2],
        "p95_seconds": ordered[int(len(ordered) * 0.95)],
        "p99_seconds": ordered[int(len(ordered) * 0.99)],
    }
