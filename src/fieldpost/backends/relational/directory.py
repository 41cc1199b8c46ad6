"""The directory of devices over one database; removed devices keep their rows, so ids are never used again."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from fieldpost.backends.relational import locking
from fieldpost.backends.relational.rows import Executor, insert_or_ignore
from fieldpost.backends.relational.schema import devices, installation
from fieldpost.errors import ConflictError
from fieldpost.messages.devices import Credential, Device, DeviceKind

_LIVE = devices.c.removed_at.is_(None)
_PEPPER = "pepper fingerprint"


class RelationalDirectory:
    """See `ports.devices.DeviceDirectory`."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def add(
        self, *, kind: DeviceKind, name: str, key_hash: bytes, now: datetime, device_id: int | None = None
    ) -> Device:
        """See the port."""
        return await self._executor.write(lambda connection: _add(connection, kind, name, key_hash, now, device_id))

    async def get(self, device_id: int) -> Device | None:
        """See the port."""
        return await self._executor.read(lambda connection: _get(connection, device_id))

    async def list(self, *, after: int, limit: int) -> Sequence[Device]:
        """See the port."""
        query = select(devices).where(_LIVE, devices.c.id > after).order_by(devices.c.id).limit(limit)
        return await self._executor.read(lambda connection: [_device(row) for row in connection.execute(query)])

    async def change(
        self,
        device_id: int,
        *,
        name: str | None = None,
        disabled: bool | None = None,
        key_hash: bytes | None = None,
    ) -> Device | None:
        """See the port."""
        given = {"name": name, "disabled": disabled, "key_hash": key_hash}
        values = {column: value for column, value in given.items() if value is not None}
        return await self._executor.write(lambda connection: _change(connection, device_id, values))

    async def remove(self, device_id: int, *, now: datetime) -> bool:
        """See the port."""
        values = {"removed_at": now, "disabled": True, "key_hash": b""}
        return await self._executor.write(lambda connection: _change(connection, device_id, values)) is not None

    async def credentials(self, *, after: int, limit: int) -> Sequence[Credential]:
        """See the port."""
        query = select(devices).where(_LIVE, devices.c.id > after).order_by(devices.c.id).limit(limit)
        return await self._executor.read(lambda connection: [_credential(row) for row in connection.execute(query)])

    async def credential(self, device_id: int) -> Credential | None:
        """See the port."""
        query = select(devices).where(_LIVE, devices.c.id == device_id)
        rows = await self._executor.read(lambda connection: connection.execute(query).all())
        return _credential(rows[0]) if rows else None

    async def pepper_fingerprint(self) -> bytes | None:
        """See the port."""
        return await self._executor.read(_pepper_fingerprint)

    async def keep_pepper_fingerprint(self, fingerprint: bytes, *, replace: bool = False) -> bytes:
        """See the port."""
        return await self._executor.write(lambda connection: _keep_pepper_fingerprint(connection, fingerprint, replace))


def _add(
    connection: Connection, kind: DeviceKind, name: str, key_hash: bytes, now: datetime, device_id: int | None
) -> Device:
    locking.directory(connection)
    if device_id is None:
        device_id = (connection.scalar(select(func.max(devices.c.id))) or 0) + 1
    elif connection.scalar(select(devices.c.id).where(devices.c.id == device_id)) is not None:
        raise ConflictError(f"device id {device_id} is or was in use; ids are never used again")
    values = {"id": device_id, "kind": kind.value, "name": name, "key_hash": key_hash, "created_at": now}
    connection.execute(insert(devices).values(**values, disabled=False))
    return Device(id=device_id, kind=kind, name=name, disabled=False, created_at=now)


def _get(connection: Connection, device_id: int) -> Device | None:
    row = connection.execute(select(devices).where(_LIVE, devices.c.id == device_id)).first()
    return None if row is None else _device(row)


def _change(connection: Connection, device_id: int, values: dict[str, Any]) -> Device | None:
    before = _get(connection, device_id)
    if before is not None and values:
        # Not one that was removed since it was read.
        connection.execute(update(devices).where(_LIVE, devices.c.id == device_id).values(**values))
    return before if before is None or "removed_at" in values else _get(connection, device_id)


def _device(row: Any) -> Device:
    return Device(id=row.id, kind=DeviceKind(row.kind), name=row.name, disabled=row.disabled, created_at=row.created_at)


def _credential(row: Any) -> Credential:
    return Credential(device_id=row.id, kind=DeviceKind(row.kind), key_hash=bytes(row.key_hash), disabled=row.disabled)


def _pepper_fingerprint(connection: Connection) -> bytes | None:
    value: bytes | None = connection.scalar(select(installation.c.value).where(installation.c.name == _PEPPER))
    return None if value is None else bytes(value)


def _keep_pepper_fingerprint(connection: Connection, fingerprint: bytes, replace: bool) -> bytes:
    locking.directory(connection)
    if replace:
        connection.execute(delete(installation).where(installation.c.name == _PEPPER))
    connection.execute(insert_or_ignore(connection, installation).values(name=_PEPPER, value=fingerprint))
    kept = _pepper_fingerprint(connection)
    assert kept is not None
    return kept
