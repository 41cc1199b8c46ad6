"""Making devices and changing them: gives out keys, keeps hashes, tells every door."""

import secrets

from fieldpost.clock import Clock
from fieldpost.errors import NotFoundError, UnavailableError
from fieldpost.messages.devices import Device, DeviceChange, DeviceWithKey, NewDevice
from fieldpost.messages.events import FLEET_CHANNEL, CredentialsChanged
from fieldpost.observability import get_logger
from fieldpost.ports.backends import Backends
from fieldpost.services.credentials import Credentials, hash_secret

#: Bytes of randomness in a secret.
_SECRET_BYTES = 32

log = get_logger()


def new_secret() -> str:
    """A fresh secret, 43 characters."""
    return secrets.token_urlsafe(_SECRET_BYTES)


class Registration:
    """Operators' changes to devices; each is in force at this door when the call returns, elsewhere within a second.

    With the directory away right after the change, it is in force here at the next refresh.
    """

    def __init__(self, *, backends: Backends, clock: Clock, credentials: Credentials) -> None:
        self._backends = backends
        self._devices = backends.devices
        self._clock = clock
        self._credentials = credentials

    async def add(self, new: NewDevice) -> DeviceWithKey:
        """Adds a device and gives out its key.

        Raises:
            ConflictError: the id is or was in use.
        """
        secret = new_secret()
        device = await self._devices.add(
            kind=new.kind,
            name=new.name,
            device_id=new.id,
            key_hash=hash_secret(secret, self._backends.pepper),
            now=self._clock.now(),
        )
        await self._announce(device.id)
        return DeviceWithKey(device=device, key=f"fp_{device.id}_{secret}")

    async def get(self, device_id: int) -> Device:
        """One device.

        Raises:
            NotFoundError: there is none of this id.
        """
        return _found(await self._devices.get(device_id), device_id)

    async def change(self, device_id: int, change: DeviceChange) -> Device:
        """Renames, disables or enables a device.

        Raises:
            NotFoundError: there is none of this id.
        """
        device = _found(
            await self._devices.change(device_id, name=change.name, disabled=change.disabled),
            device_id,
        )
        await self._announce(device_id)
        return device

    async def rotate(self, device_id: int) -> DeviceWithKey:
        """Gives out a new key; the old one stops working.

        Raises:
            NotFoundError: there is none of this id.
        """
        secret = new_secret()
        key_hash = hash_secret(secret, self._backends.pepper)
        device = _found(await self._devices.change(device_id, key_hash=key_hash), device_id)
        await self._announce(device_id)
        return DeviceWithKey(device=device, key=f"fp_{device_id}_{secret}")

    async def remove(self, device_id: int) -> None:
        """Removes a device; its id is never used again.

        Raises:
            NotFoundError: there is none of this id.
        """
        if not await self._devices.remove(device_id, now=self._clock.now()):
            raise NotFoundError(f"device {device_id}")
        await self._announce(device_id)

    async def _announce(self, device_id: int) -> None:
        """Tells every door, this one too; the change is made, so a door that learns of it late is no reason to fail."""
        try:
            await self._backends.shared.bus.publish(FLEET_CHANNEL, [CredentialsChanged(device_id=device_id)])
        except UnavailableError as error:
            log.warning("change_not_told", device_id=device_id, error=repr(error))
        try:
            await self._credentials.reload(device_id)
        except UnavailableError as error:
            log.warning("change_not_in_force_yet", device_id=device_id, error=repr(error))


def _found(device: Device | None, device_id: int) -> Device:
    if device is None:
        raise NotFoundError(f"device {device_id}")
    return device
