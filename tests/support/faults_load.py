"""Devices at work at every door of a cluster while parts of it die, and what they were promised compared with what came."""

import asyncio
import json
from collections.abc import Sequence

import httpx

from fieldpost.fleet.history import Event, check
from tests.faults.fleet import Fleet
from tests.support.clusters import RunningCluster
from tests.support.faults_doors import FolderDoor
from tests.support.server import Server
from tests.support.waiting import eventually

_DEVICES = 4
#: Four devices with two doors each: about ten requests a second.
_PAUSE_SECONDS = 0.75
_DROP_SECONDS = 1.0
#: What was accepted while something was away has its answer this long after all is back.
_CAUGHT_UP_SECONDS = 60.0


class Load:
    """Posts over HTTP, over WebSockets and into a folder until it settles."""

    def __init__(self, cluster: RunningCluster, server: Server, seed: int) -> None:
        self._cluster = cluster
        self._server = server
        keys = [server.add_device(name=f"truck {number}") for number in range(_DEVICES)]
        self.fleet = Fleet(server, keys, seed, pause_seconds=_PAUSE_SECONDS)
        self._listening = [str(device_id) for device_id, _ in keys]
        self._folder_device, _ = server.add_device(kind="office", name="folder only")
        self._folder = FolderDoor(server, self._folder_device)
        self._dropping = asyncio.Event()
        self._dropping.set()

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.fleet.run())
            tasks.create_task(self._drop())

    async def catch_up(self) -> None:
        """Returns when everything accepted until now has its answer.

        Raises:
            AssertionError: something has none.
        """
        accepted = self.fleet.accepted
        dropped = list(self._folder.dropped)
        try:
            await eventually(
                lambda: accepted <= self.fleet.delivered and not self._unanswered(dropped), seconds=_CAUGHT_UP_SECONDS
            )
        except AssertionError:
            missing = sorted(accepted - self.fleet.delivered)
            raise AssertionError(f"without an answer: {missing}, {self._unanswered(dropped)}") from None

    async def settle(self) -> None:
        """Nothing new is posted; all that is on its way arrives, and is acknowledged."""
        self._dropping.clear()
        await self.fleet.settle()
        await self.catch_up()
        # Not by what was heard: a hub that died may have recorded an `Ack` and not said so.
        await self._until_none(f"acknowledged_at is null and device_id in ({','.join(self._listening)})")

    async def check(self) -> None:
        """Compares promises with deliveries, and both with what the cluster says.

        Raises:
            AssertionError: a promise was broken.
        """
        verdict = check([*self.fleet.history, *self._folder_history()])
        assert verdict.is_kept, verdict
        assert not self.fleet.refused, self.fleet.refused[:3]
        assert self._dead_letters() == []
        await self.fleet.confirm_with_the_ledger()
        # Everything in the ledger has succeeded, also what was never confirmed; each file is there once.
        await self._until_none("state <> 2")
        assert self._count(f"device_id = {self._folder_device}") == len(self._folder.dropped)

    def _count(self, which: str) -> int:
        return int(self._cluster.sql(f"select count(*) from requests where {which}"))

    async def _until_none(self, which: str) -> None:
        """Asks in a thread: devices go on listening meanwhile."""

        async def is_none() -> bool:
            return await asyncio.to_thread(self._count, which) == 0

        await eventually(is_none, seconds=_CAUGHT_UP_SECONDS)

    async def _drop(self) -> None:
        while True:
            await self._dropping.wait()
            self._folder.drop()
            await asyncio.sleep(_DROP_SECONDS)

    def _unanswered(self, names: Sequence[str]) -> Sequence[str]:
        return [name for name in names if not self._folder.answer(name).exists()]

    def _folder_history(self) -> Sequence[Event]:
        """A file is promised an answer as soon as it lies there."""
        device = self._folder_device
        events = [Event(kind="accepted", device=device, request=name) for name in self._folder.dropped]
        for name in self._folder.dropped:
            answer = json.loads(self._folder.answer(name).read_text())
            assert answer["file_name"] == name, answer
            events.append(Event(kind="delivered", device=device, request=name, answer=answer["request_id"]))
        return events

    def _dead_letters(self) -> Sequence[object]:
        reply = httpx.get(f"{self._server.url}/admin/dead-letters", headers=self._server.operator, timeout=30)
        found: Sequence[object] = reply.json()["dead_letters"]
        return found
