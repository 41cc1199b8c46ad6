"""What every process tells about itself: alive, able to serve, its numbers."""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from fieldpost.observability import Metrics
from fieldpost.web.operations import Call, Caller, Operation, Reply


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Alive."""

    status: Literal["alive"]


class Readiness(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether this process can serve, why not, and what of it does not work although it can."""

    status: Literal["ready", "not ready"]
    reasons: Sequence[str] = ()
    degraded: Sequence[str] = ()


def operations(
    metrics: Metrics, ready: Callable[[], Sequence[str]], degraded: Callable[[], Sequence[str]]
) -> list[Operation]:
    """Health, readiness, metrics: see `standing`."""

    async def numbers(_call: Call) -> Reply:
        return Reply(body=generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST.encode())

    return [
        *standing(ready, degraded),
        Operation(
            method="GET",
            path="/metrics",
            summary="Tells numbers in Prometheus' text format",
            handler=numbers,
            caller=Caller.ANYONE,
            answers={200: ("Numbers", None, "text/plain")},
            tag="process",
        ),
    ]


def standing(ready: Callable[[], Sequence[str]], degraded: Callable[[], Sequence[str]] = tuple) -> list[Operation]:
    """Health and readiness.

    Args:
        ready: the reasons why this process cannot serve; none when it can.
        degraded: what of it does not work although it can serve: no reason to take it out of the load balancer.
    """

    async def health(_call: Call) -> Reply:
        return Reply(body=b'{"status":"alive"}')

    async def readiness(_call: Call) -> Reply:
        reasons = tuple(ready())
        status: Literal["ready", "not ready"] = "not ready" if reasons else "ready"
        body = msgspec.json.encode(Readiness(status=status, reasons=reasons, degraded=tuple(degraded())))
        return Reply(status=503 if reasons else 200, body=body)

    return [
        Operation(
            method="GET",
            path="/health",
            summary="Tells that the process is alive",
            handler=health,
            caller=Caller.ANYONE,
            answers={200: ("Alive", Health, "application/json")},
            tag="process",
        ),
        Operation(
            method="GET",
            path="/ready",
            summary="Tells whether the process can serve",
            handler=readiness,
            caller=Caller.ANYONE,
            answers={
                200: ("It can", Readiness, "application/json"),
                503: ("It cannot, for these reasons", Readiness, "application/json"),
            },
            tag="process",
        ),
    ]
