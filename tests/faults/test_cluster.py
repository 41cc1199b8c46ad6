"""Nodes may die: parts of a whole cluster are killed and frozen under load; service comes back, promises are kept.

The long versions print how long each fault kept fresh requests waiting: `docs/faults.md` keeps a run.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence

import pytest

from tests.support.cluster_server import ClusterServer
from tests.support.clusters import RunningCluster, running_cluster
from tests.support.faults import Fault, Faults, Harm, Recovery, row
from tests.support.faults_doors import Door, FolderDoor, HttpDoor, WebSocketDoor
from tests.support.faults_load import Load
from tests.support.waiting import eventually

_SETTINGS = {
    "FIELDPOST_MODEL_URL": "echo:",
    "FIELDPOST_MODEL_NAME": "echo",
    "FIELDPOST_FOLDER_SCAN_SECONDS": "0.5",
    "FIELDPOST_FOLDER_SETTLE_SECONDS": "0.2",
    "FIELDPOST_LOG_FORMAT": "json",
}

#: One of everything, nothing stands in for it: it comes back by itself.
SMALL = [
    Fault(part="gateway-1", harm=Harm.KILL),
    Fault(part="rabbitmq-1", harm=Harm.KILL),
    Fault(part="processor-1", harm=Harm.KILL),
    Fault(part="redis-1", harm=Harm.KILL, door="websocket"),
    Fault(part="worker-1", harm=Harm.KILL),
    Fault(part="primary", harm=Harm.KILL),
    Fault(part="hub-1", harm=Harm.KILL, door="websocket"),
]

_ROLES = [
    Fault(part=part, harm=harm, door=door)
    for part, door in (("gateway-1", "http"), ("processor-1", "http"), ("worker-1", "http"), ("hub-1", "websocket"))
    for harm in (Harm.KILL, Harm.FREEZE)
]
_ALONE = [
    Fault(part=part, harm=harm, door=door)
    for part, door in (
        ("watcher-1", "folder"),
        ("rabbitmq-1", "http"),
        ("redis-1", "websocket"),
        ("pgbouncer-1", "http"),
        ("nginx", "http"),
    )
    for harm in (Harm.KILL, Harm.THAW)
]
_DATABASE = [
    Fault(part="primary", harm=Harm.KILL),
    Fault(part="primary", harm=Harm.THAW),
    Fault(part="primary node", harm=Harm.LOSE),
    Fault(part="primary node", harm=Harm.FREEZE),
    Fault(part="replica", harm=Harm.KILL),
    Fault(part="replica", harm=Harm.THAW),
]
DEFAULT = [*_ROLES, *_ALONE, Fault(part="nginx worker", harm=Harm.KILL), *_DATABASE]

#: Three nodes of every engine: others stand in.
FULL = [
    *(Fault(part=f"rabbitmq-{number}", harm=Harm.LOSE) for number in (1, 2, 3)),
    *(Fault(part=f"rabbitmq-{number}", harm=Harm.FREEZE) for number in (1, 2, 3)),
    Fault(part="redis-1", harm=Harm.LOSE, door="websocket"),
    Fault(part="redis-2", harm=Harm.FREEZE, door="websocket"),
    Fault(part="etcd-1", harm=Harm.LOSE),
    Fault(part="primary node", harm=Harm.LOSE),
]


@pytest.mark.timeout(300)
def test_a_small_cluster_keeps_its_promises_while_one_part_after_another_is_killed() -> None:
    _harm(SMALL, "--small", seed=1)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_cluster_keeps_its_promises_while_every_part_is_killed_and_frozen() -> None:
    _harm(DEFAULT, seed=2)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_full_cluster_goes_on_without_any_one_node() -> None:
    _harm(FULL, "--full", seed=3)


def _harm(planned: Sequence[Fault], *options: str, seed: int) -> None:
    with running_cluster(*options, settings=_SETTINGS) as cluster:
        load, faults = _prepare(cluster, seed)
        asyncio.run(_inflict(planned, load, faults))


async def _inflict(planned: Sequence[Fault], load: Load, faults: Faults) -> None:
    working = asyncio.create_task(load.run())
    recoveries: list[Recovery] = []
    try:
        await eventually(lambda: bool(load.fleet.delivered))
        for fault in planned:
            accepted_before = len(load.fleet.accepted)
            recoveries.append(await faults.inflict(fault))
            print(row(recoveries[-1]), flush=True)  # noqa: T201 kept in docs/faults.md
            await load.catch_up()
            # A fault that met no load would prove nothing.
            assert len(load.fleet.accepted) > accepted_before
        await load.settle()
        assert not working.done(), working.exception()
        await load.check()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def _prepare(cluster: RunningCluster, seed: int) -> tuple[Load, Faults]:
    server = ClusterServer(cluster)
    _, http_key = server.add_device(kind="office", name="fresh over HTTP")
    _, socket_key = server.add_device(kind="office", name="fresh over WebSocket")
    folder_id, _ = server.add_device(kind="office", name="fresh files")
    doors: Mapping[str, Door] = {
        "http": HttpDoor(server, http_key),
        "websocket": WebSocketDoor(server, socket_key),
        "folder": FolderDoor(server, folder_id),
    }
    return Load(cluster, server, seed), Faults(cluster, doors, random.Random(seed))
