"""The directory of devices: ids, kinds and hashes of keys, and what pepper these are made with. One for the installation."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from fieldpost.messages.devices import Credential, Device, DeviceKind


class DeviceDirectory(Protocol):
    """One transaction per call, on disk when it returns. Errors as for the ledger."""

    async def add(
        self, *, kind: DeviceKind, name: str, key_hash: bytes, now: datetime, device_id: int | None = None
    ) -> Device:
        """Adds a device under the next id, or under `device_id`; an id is never given out twice, even after removal.

        Raises:
            ConflictError: the id is or was in use.
        """
        ...

    async def get(self, device_id: int) -> Device | None:
        """The device, or None if there is none (or no more)."""
        ...

    async def list(self, *, after: int, limit: int) -> Sequence[Device]:
        """Devices in order of id, from the first after `after`."""
        ...

    async def change(
        self,
        device_id: int,
        *,
        name: str | None = None,
        disabled: bool | None = None,
        key_hash: bytes | None = None,
    ) -> Device | None:
        """Changes what is given; None if there is no such device."""
        ...

    async def remove(self, device_id: int, *, now: datetime) -> bool:
        """Removes the device; its requests and its id remain. False if there is no such device."""
        ...

    async def credentials(self, *, after: int, limit: int) -> Sequence[Credential]:
        """What doors need to check keys, in order of device id, from the first after `after`."""
        ...

    async def credential(self, device_id: int) -> Credential | None:
        """One device's credential."""
        ...

    async def pepper_fingerprint(self) -> bytes | None:
        """Of the pepper that all keys are hashed with; None before it was told."""
        ...

    async def keep_pepper_fingerprint(self, fingerprint: bytes, *, replace: bool = False) -> bytes:
        """Keeps it if there is none, and returns the one that stands: of several at once, all are told the same.

        Args:
            replace: keep it in any case.
        """
        ...
