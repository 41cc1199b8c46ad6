"""The watcher: the folder door. Takes dropped files that stand still to the intake, and moves them when they are safe.

A file leaves `Requests/` only when the ledger has its request, or with its refusal beside it. Whatever fails for a
passing reason stays where it is and is tried again; after a restart everything left is published again, under the same
ids. Answers are written by the processor.
"""

import asyncio
from collections.abc import Sequence

from fieldpost.clock import Clock
from fieldpost.errors import UnavailableError
from fieldpost.observability import get_logger
from fieldpost.policy.settling import Settling, is_skipped
from fieldpost.ports.backends import Backends
from fieldpost.ports.folders import Drop
from fieldpost.roles.watcher.lanes import in_lanes
from fieldpost.roles.watcher.leaving import Leaving
from fieldpost.roles.watcher.retries import Retries
from fieldpost.roles.watcher.taking import Taking
from fieldpost.services.credentials import Credentials
from fieldpost.services.intake import Intake
from fieldpost.services.leases import HeldLease
from fieldpost.settings import Settings

#: While there is something to do, and after hints, the folders are looked at up to so many times as often.
_BUSY = 10

log = get_logger()


class Watcher:
    """All devices' folders."""

    name = "watcher"

    def __init__(
        self,
        *,
        settings: Settings,
        backends: Backends,
        clock: Clock,
        intake: Intake,
        credentials: Credentials,
        instance: str = "watcher",
    ) -> None:
        self._settings = settings.folder
        self._folders = backends.folders
        self._clock = clock
        self._credentials = credentials
        self._taking = Taking(folders=backends.folders, intake=intake, credentials=credentials)
        self._retries = Retries(clock=clock, max_kept=settings.folder.batch)
        self._in_hand = Leaving(backends=backends, retries=self._retries, reject=self._taking.reject)
        self._settling: Settling[tuple[int, str], Drop] = Settling(
            settle_seconds=settings.folder.settle_seconds, max_places=4 * settings.folder.batch
        )
        # Of several watchers one watches. Two at once, when a lease changed hands, do no harm: a file is known by its key.
        self._lease = HeldLease(
            leases=backends.shared.leases,
            clock=clock,
            name="watcher",
            holder=instance,
            ttl_seconds=settings.dispatch.lease_seconds,
        )
        self._hint = asyncio.Event()
        self._looking = asyncio.Lock()
        self._is_first_look = True
        self._is_away_told = False
        self._is_draining = False

    async def run(self) -> None:
        """Watches until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take_hints())
            while True:
                self._hint.clear()
                is_busy = await self._look()
                await self._clock.sleep(self._settings.scan_seconds / _BUSY)
                if not is_busy:
                    await self._pause(self._settings.scan_seconds * (1 - 1 / _BUSY))

    async def drain(self) -> None:
        """Takes nothing more, and returns when what was begun has ended; the rest is found again after the next start."""
        self._is_draining = True
        async with self._looking:
            await self._lease.release()

    async def _take_hints(self) -> None:
        while True:
            async for _ in self._folders.changes():
                self._hint.set()
            await self._clock.sleep(self._settings.scan_seconds)

    async def _pause(self, seconds: float) -> None:
        """Returns at the next hint, after `seconds` at the latest."""
        async with asyncio.TaskGroup() as tasks:
            waits = [tasks.create_task(self._clock.sleep(seconds)), tasks.create_task(self._wait_for_hint())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def _wait_for_hint(self) -> None:
        await self._hint.wait()

    async def _look(self) -> bool:
        """One look at the folders; returns whether something moved on, so that another look is worth it soon."""
        async with self._looking:
            # Until all devices are known, none may be called unknown.
            if self._is_draining or not self._credentials.is_loaded or not await self._lease.is_held():
                return False
            try:
                moved = await self._in_hand.move_recorded()
                drops = await self._folders.scan(limit=self._settings.batch)
            except UnavailableError as error:
                self._tell_away(error)
                return False
            self._is_away_told = False
            chosen = self._choose(drops)
            await in_lanes(chosen, self._take)
            return bool(moved or chosen)

    def _choose(self, drops: Sequence[Drop]) -> Sequence[Drop]:
        """Those that stand still, are not in hand and not to be tried later, as many as there is room for."""
        now_seconds = self._clock.monotonic()
        self._retries.keep_only(drops)
        settled = [drop for drop in drops if not is_skipped(drop.name) and self._has_settled(drop, now_seconds)]
        self._is_first_look = False
        room = max(0, self._settings.batch - len(self._in_hand))
        waiting = (drop for drop in settled if drop not in self._in_hand)
        return [drop for drop in waiting if not self._retries.is_later(drop, now_seconds)][:room]

    def _has_settled(self, drop: Drop, now_seconds: float) -> bool:
        # What lay there before the start may have stood still all the while; its own time says for how long.
        age_seconds = self._clock.now().timestamp() - drop.modified_ns / 10**9 if self._is_first_look else 0.0
        return self._settling.has_settled(
            (drop.device_id, drop.name),
            drop,
            is_empty=drop.is_regular and drop.size_bytes == 0,
            now_seconds=now_seconds,
            age_seconds=max(0.0, age_seconds),
        )

    async def _take(self, drop: Drop) -> None:
        """Takes one file in, or refuses it; one that fails never stops the others."""
        if self._is_draining:
            return
        try:
            taken = await self._taking.take(drop)
        except Exception as error:  # noqa: BLE001 whatever it is, the file stays and is tried again
            self._retries.later(drop, error)
        else:
            if taken is not None:
                self._in_hand.add(drop, taken)

    def _tell_away(self, error: UnavailableError) -> None:
        if not self._is_away_told:
            log.warning("watcher_waits", backend="folders", error=repr(error))
        self._is_away_told = True
