"""The watcher: the folder door. Takes dropped files that stand still to the intake, and moves them when they are safe.

A file leaves `Requests/` only when the ledger has its request, or with its refusal beside it. Whatever fails for a
passing reason stays where it is and is tried again; after a restart everything left is published again, under the same
ids. Answers are written by the processor.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import (
    DeviceDisabledError,
    DropChangedError,
    FieldpostError,
    InvalidRequestError,
    NotFoundError,
    RequestTooLargeError,
    UnavailableError,
)
from fieldpost.messages.devices import Credential
from fieldpost.messages.requests import MAX_BODY_BYTES, Channel, RequestBody
from fieldpost.observability import get_logger
from fieldpost.policy.drop_content import DropKind, body_of, kind_of
from fieldpost.policy.settling import Settling, drop_key, is_skipped
from fieldpost.ports.backends import Backends
from fieldpost.ports.folders import Drop
from fieldpost.services.credentials import Credentials
from fieldpost.services.intake import Intake
from fieldpost.services.outcomes import Outcome, outcome_of
from fieldpost.settings import Settings
from fieldpost.web.problems import invalid_body, problem_of

#: Files on their way into the intake at once: enough to share the broker's flushes to the disk.
_LANES = 32
#: First wait before a file is tried again; doubles each time.
_FIRST_RETRY_SECONDS = 1.0
_MAX_RETRY_SECONDS = 60.0
#: While there is something to do, and after hints, the folders are looked at up to so many times as often.
_BUSY = 10

log = get_logger()


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """When a file that could not be taken is tried again, on the monotonic clock."""

    at_seconds: float
    pause_seconds: float


class Watcher:
    """All devices' folders."""

    name = "watcher"

    def __init__(
        self, *, settings: Settings, backends: Backends, clock: Clock, intake: Intake, credentials: Credentials
    ) -> None:
        self._settings = settings.folder
        self._backends = backends
        self._folders = backends.folders
        self._clock = clock
        self._intake = intake
        self._credentials = credentials
        self._settling: Settling[tuple[int, str], Drop] = Settling(
            settle_seconds=settings.folder.settle_seconds, max_places=4 * settings.folder.batch
        )
        #: Accepted, and not yet seen in the ledger.
        self._in_hand: dict[Drop, UUID] = {}
        self._retries: dict[Drop, Retry] = {}
        self._hint = asyncio.Event()
        self._looking = asyncio.Lock()
        self._is_first_look = True
        #: What is away, so that it is told once.
        self._away: set[str] = set()
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
            pass

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
            if self._is_draining or not self._credentials.is_loaded:
                return False
            try:
                moved = await self._move_recorded()
                drops = await self._folders.scan(limit=self._settings.batch)
            except UnavailableError as error:
                self._tell_away("folders", error)
                return False
            self._away.discard("folders")
            chosen = self._choose(drops)
            await self._in_lanes(chosen, self._take)
            return bool(moved or chosen)

    def _choose(self, drops: Sequence[Drop]) -> Sequence[Drop]:
        """Those that stand still, are not in hand and not to be tried later, as many as there is room for."""
        now_seconds = self._clock.monotonic()
        self._forget_retries(drops)
        settled = [drop for drop in drops if not is_skipped(drop.name) and self._has_settled(drop, now_seconds)]
        self._is_first_look = False
        room = max(0, self._settings.batch - len(self._in_hand))
        return [drop for drop in settled if drop not in self._in_hand and not self._is_later(drop, now_seconds)][:room]

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

    def _is_later(self, drop: Drop, now_seconds: float) -> bool:
        retry = self._retries.get(drop)
        return retry is not None and now_seconds < retry.at_seconds

    def _forget_retries(self, drops: Iterable[Drop]) -> None:
        """Files that are gone need no further try."""
        if len(self._retries) > self._settings.batch:
            seen = frozenset(drops)
            self._retries = {drop: retry for drop, retry in self._retries.items() if drop in seen}

    async def _in_lanes(self, drops: Sequence[Drop], step: Callable[[Drop], Awaitable[None]]) -> None:
        left = iter(drops)

        async def lane() -> None:
            for drop in left:
                await step(drop)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(_LANES, len(drops))):
                tasks.create_task(lane())

    async def _take(self, drop: Drop) -> None:
        """Takes one file in, or refuses it; one that fails never stops the others."""
        if self._is_draining:
            return
        try:
            try:
                await self._accept(drop)
            except FieldpostError as error:
                if outcome_of(error) is not Outcome.DEAD_LETTER:
                    raise
                await self._reject(drop, error)
        except DropChangedError:
            # A new version, which has to stand still first.
            return
        except Exception as error:  # noqa: BLE001 the one table decides
            self._try_later(drop, error)

    async def _accept(self, drop: Drop) -> None:
        device = await self._device(drop.device_id)
        kind = _kind(drop)
        content = await self._folders.read(drop, limit_bytes=MAX_BODY_BYTES)
        body = _body(kind, content)
        key = drop_key(drop.device_id, drop.name, hashlib.sha256(content).hexdigest(), drop.modified_ns)
        accepted = await self._intake.accept(
            device,
            body,
            channel=Channel.FOLDER,
            idempotency_key=body.idempotency_key or key,
            file_name=drop.name,
        )
        self._in_hand[drop] = accepted.request_id

    async def _device(self, device_id: int) -> Credential:
        """The device whose folder this is; asks the directory itself before a file is refused for good."""
        device = self._credentials.of(device_id)
        if device is None or device.disabled:
            await self._credentials.reload(device_id)
            device = self._credentials.of(device_id)
        if device is None:
            raise NotFoundError(f"there is no device {device_id}")
        if device.disabled:
            raise DeviceDisabledError(f"device {device_id} is disabled")
        return device

    async def _reject(self, drop: Drop, error: FieldpostError) -> None:
        if await self._folders.reject(drop, reason=msgspec.json.encode(problem_of(error))):
            log.info(
                "drop_rejected", device_id=drop.device_id, file=ascii(drop.name), reason=error.detail or error.title
            )

    def _try_later(self, drop: Drop, error: Exception) -> None:
        before = self._retries.get(drop)
        pause_seconds = _FIRST_RETRY_SECONDS if before is None else min(2 * before.pause_seconds, _MAX_RETRY_SECONDS)
        if isinstance(error, UnavailableError):
            pause_seconds = max(pause_seconds, error.retry_after_seconds)
        self._retries[drop] = Retry(at_seconds=self._clock.monotonic() + pause_seconds, pause_seconds=pause_seconds)
        if before is None:
            log.warning("drop_waits", device_id=drop.device_id, file=ascii(drop.name), error=repr(error))

    async def _move_recorded(self) -> int:
        """Moves what the ledger has to `Done/`; returns how many files."""
        by_shard: defaultdict[str, list[Drop]] = defaultdict(list)
        for drop in self._in_hand:
            by_shard[self._backends.shards.shard_of(drop.device_id)].append(drop)
        moved = 0
        for shard, drops in by_shard.items():
            try:
                moved += await self._move_recorded_of(shard, drops)
            except UnavailableError as error:
                self._tell_away(f"ledger.{shard}", error)
            else:
                self._away.discard(f"ledger.{shard}")
        return moved

    async def _move_recorded_of(self, shard: str, drops: Sequence[Drop]) -> int:
        records = self._backends.ledgers[shard].records
        recorded = await records.states([self._in_hand[drop] for drop in drops])
        moving = [drop for drop in drops if self._in_hand[drop] in recorded]
        await self._in_lanes(moving, self._move)
        return len(moving)

    async def _move(self, drop: Drop) -> None:
        # One that changed in between stays, and is taken as a new one; one that cannot be moved does not stop the others.
        del self._in_hand[drop]
        try:
            await self._folders.done(drop)
        except UnavailableError as error:
            self._try_later(drop, error)
        else:
            self._retries.pop(drop, None)

    def _tell_away(self, name: str, error: UnavailableError) -> None:
        if name not in self._away:
            log.warning("watcher_waits", backend=name, error=repr(error))
        self._away.add(name)


def _kind(drop: Drop) -> DropKind:
    """What a file is, as far as can be said without reading it.

    Raises:
        RejectedError: it will never be taken.
    """
    if not drop.is_regular:
        raise InvalidRequestError("not a regular file; links, pipes and folders are not taken")
    kind = kind_of(drop.name)
    if drop.size_bytes > MAX_BODY_BYTES:
        raise RequestTooLargeError(f"{drop.size_bytes} bytes; {MAX_BODY_BYTES} at most")
    return kind


def _body(kind: DropKind, content: bytes) -> RequestBody:
    try:
        return body_of(kind, content)
    except msgspec.MsgspecError as error:
        raise invalid_body(error) from error
