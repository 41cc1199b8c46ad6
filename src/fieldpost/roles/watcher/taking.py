"""How a file that stands still becomes a request, or is refused with its reason."""

import hashlib

import msgspec

from fieldpost.errors import (
    DeviceDisabledError,
    DropChangedError,
    FieldpostError,
    InvalidRequestError,
    NotFoundError,
    RequestTooLargeError,
)
from fieldpost.messages.devices import Credential
from fieldpost.messages.requests import MAX_BODY_BYTES, Channel, Envelope
from fieldpost.observability import get_logger
from fieldpost.policy.drop_content import DropKind, body_of, kind_of
from fieldpost.policy.settling import drop_key
from fieldpost.ports.folders import Drop, Folders
from fieldpost.roles.watcher.leaving import Taken
from fieldpost.services.credentials import Credentials
from fieldpost.services.intake import Intake
from fieldpost.services.outcomes import Outcome, outcome_of
from fieldpost.web.problems import invalid_body, problem_of

log = get_logger()


class Taking:
    """From the folder into the intake."""

    def __init__(self, *, folders: Folders, intake: Intake, credentials: Credentials) -> None:
        self._folders = folders
        self._intake = intake
        self._credentials = credentials

    async def take(self, drop: Drop) -> Taken | None:
        """What was taken; None when the file was refused, or is another one by now and has to stand still first.

        Raises:
            FieldpostError: neither, for a reason that may pass.
        """
        try:
            return await self._accept(drop)
        except DropChangedError:
            return None
        except FieldpostError as error:
            if outcome_of(error) is not Outcome.DEAD_LETTER:
                raise
            await self.reject(drop, error)
            return None

    async def reject(self, drop: Drop, error: FieldpostError) -> None:
        """Moves a file away with the reason beside it."""
        if await self._folders.reject(drop, reason=msgspec.json.encode(problem_of(error))):
            log.info(
                "drop_rejected",
                summed=True,
                device_id=drop.device_id,
                file=ascii(drop.name),
                reason=error.detail or error.title,
            )

    async def _accept(self, drop: Drop) -> Taken:
        device = await self._device(drop.device_id)
        kind = _kind(drop)
        content = await self._folders.read(drop, limit_bytes=MAX_BODY_BYTES)
        body = _body(kind, content)
        own_key = drop_key(drop.device_id, drop.name, hashlib.sha256(content).hexdigest(), drop.modified_ns)
        accepted = await self._intake.accept(
            device,
            body,
            channel=Channel.FOLDER,
            idempotency_key=body.idempotency_key or own_key,
            file_name=drop.name,
            traceparent=body.traceparent,
        )
        return Taken(
            request_id=accepted.request_id,
            accepted_at=accepted.accepted_at,
            # Its own key says what is in the file: no other request can have it.
            body_hash=None if body.idempotency_key is None else accepted.body_hash,
        )

    async def _device(self, device_id: int) -> Credential:
        """The device whose folder this is; asks the directory itself before a file is refused for good."""
        device = self._credentials.of(device_id)
        if device is None or device.disabled:
            await self._credentials.reload(device_id)
            device = self._credentials.of(device_id)
        if device is None:
            raise NotFoundError(f"device {device_id}")
        if device.disabled:
            raise DeviceDisabledError(f"device {device_id}")
        return device


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


def _body(kind: DropKind, content: bytes) -> Envelope:
    try:
        return body_of(kind, content)
    except msgspec.MsgspecError as error:
        raise invalid_body(error) from error
