"""The watcher: the folder door. Takes dropped files that stand still to the intake, and moves them when they are safe.

A file leaves `Requests/` only when the ledger has its request or its refusal is written beside it.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import (
    DeviceDisabledError,
    DropChangedError,
    FieldpostError,
    InvalidRequestError,
    NotFoundError,
    RejectedError,
    RequestTooLargeError,
    UnavailableError,
)
from fieldpost.messages.devices import Credential
from fieldpost.messages.requests import MAX_BODY_BYTES, Channel, Input, RequestBody
from fieldpost.observability import get_logger
from fieldpost.policy.settling import DropKind, Settling, is_skipped, kind_of
from fieldpost.ports.backends import Backends
from fieldpost.ports.folders import Drop
from fieldpost.services.credentials import Credentials
from fieldpost.services.intake import Intake
from fieldpost.services.waiting import within
from fieldpost.settings import Settings
from fieldpost.web.problems import invalid_body, problem_of

_decode = msgspec.json.Decoder(RequestBody).decode
_encode = msgspec.json.Encoder().encode

log = get_logger()


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
        self._settling = Settling(settings.folder.settle_seconds)
        #: Accepted, and not yet seen in the ledger.
        self._in_hand: dict[Drop, UUID] = {}
        self._hint = asyncio.Event()
        self._is_draining = False

    async def run(self) -> None:
        """Watches until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take_hints())
            while True:
                self._hint.clear()
                try:
                    pause_seconds = await self._round()
                except UnavailableError as error:
                    log.warning("folders_unavailable", error=repr(error))
                    pause_seconds = error.retry_after_seconds
                    await self._clock.sleep(pause_seconds)
                await within(self._hint.wait(), pause_seconds)

    async def drain(self) -> None:
        """Takes nothing more; what was accepted is found again and moved after the next start."""
        self._is_draining = True

    async def _take_hints(self) -> None:
        async for _ in self._folders.changes():
            self._hint.set()

    async def _round(self) -> float:
        """One look at the folders; returns how long to wait for the next."""
        await self._move_recorded()
        drops = [drop for drop in await self._folders.scan(limit=self._settings.batch) if not is_skipped(drop.name)]
        places = {(drop.device_id, drop.name): (drop.size_bytes, drop.modified_ns) for drop in drops}
        settled = self._settling.look(places, self._clock.monotonic())
        for drop in drops:
            if self._is_draining:
                break
            if drop in self._in_hand or len(self._in_hand) >= self._settings.batch:
                continue
            if not drop.is_regular or (drop.device_id, drop.name) in settled:
                await self._take(drop)
        await self._move_recorded()
        is_busy = bool(self._in_hand) or len(settled) < len(drops)
        return min(self._settings.scan_seconds, 0.1) if is_busy else self._settings.scan_seconds

    async def _take(self, drop: Drop) -> None:
        try:
            device = self._device(drop.device_id)
            body, key = await self._read(drop)
            accepted = await self._intake.accept(
                device, body, channel=Channel.FOLDER, idempotency_key=key, file_name=drop.name
            )
        except DropChangedError:
            return
        except RejectedError as error:
            await self._reject(drop, error)
        else:
            self._in_hand[drop] = accepted.request_id

    def _device(self, device_id: int) -> Credential:
        device = self._credentials.of(device_id)
        if device is None:
            raise NotFoundError(f"there is no device {device_id}")
        if device.disabled:
            raise DeviceDisabledError(f"device {device_id} is disabled")
        return device

    async def _read(self, drop: Drop) -> tuple[RequestBody, str]:
        kind = kind_of(drop.name)
        if not drop.name.isprintable():
            raise InvalidRequestError("the file's name is not printable UTF-8")
        if not drop.is_regular:
            raise InvalidRequestError("not a regular file")
        if kind is DropKind.UNKNOWN:
            raise InvalidRequestError("only .json, .txt and .md files are taken")
        if drop.size_bytes > MAX_BODY_BYTES:
            raise RequestTooLargeError(f"{drop.size_bytes} bytes; {MAX_BODY_BYTES} at most")
        content = await self._folders.read(drop, limit_bytes=MAX_BODY_BYTES)
        body = _envelope(content) if kind is DropKind.ENVELOPE else _prompt(content)
        return body, body.idempotency_key or _key(drop, content)

    async def _reject(self, drop: Drop, error: FieldpostError) -> None:
        log.info("drop_rejected", device_id=drop.device_id, name=ascii(drop.name), reason=error.detail or error.title)
        await self._folders.reject(drop, reason=_encode(problem_of(error)))

    async def _move_recorded(self) -> None:
        by_shard: dict[str, list[Drop]] = {}
        for drop in self._in_hand:
            by_shard.setdefault(self._backends.shards.shard_of(drop.device_id), []).append(drop)
        for shard, drops in by_shard.items():
            await self._move_recorded_in(shard, drops)

    async def _move_recorded_in(self, shard: str, drops: Sequence[Drop]) -> None:
        records = self._backends.ledgers[shard].records
        states = await records.states([self._in_hand[drop] for drop in drops])
        for drop in drops:
            if self._in_hand[drop] in states:
                # One that changed in between stays, and is taken as a new one.
                await self._folders.done(drop)
                del self._in_hand[drop]


def _envelope(content: bytes) -> RequestBody:
    try:
        return _decode(content.removeprefix(b"\xef\xbb\xbf"))
    except msgspec.MsgspecError as error:
        raise invalid_body(error) from error
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"text that is not UTF-8: {error.reason}") from error


def _prompt(content: bytes) -> RequestBody:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"text that is not UTF-8: {error.reason} at byte {error.start}") from error
    if "\0" in text:
        raise InvalidRequestError("text with NUL characters")
    if not text.strip():
        raise InvalidRequestError("the file is empty")
    return RequestBody(input=Input(prompt=text))


def _key(drop: Drop, content: bytes) -> str:
    """Path, content and modification time: the same question dropped another day is another request."""
    identity = f"{drop.device_id}/{drop.name}/{drop.modified_ns}/".encode(errors="surrogateescape") + content
    return f"file:{hashlib.sha256(identity).hexdigest()}"
