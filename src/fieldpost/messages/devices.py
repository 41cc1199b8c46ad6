"""Devices and their credentials, as stored and as shown.

A device's key reads `fp_<device id>_<secret>`, an operator's `fpa_<name>_<secret>`; only keyed hashes of secrets are kept.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from fieldpost.messages.texts import NAME_PATTERN

#: Device ids are positive and fit a signed 64-bit column.
DeviceId = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]

DeviceName = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=NAME_PATTERN)]

#: An id that an operator chooses leaves room for those given out after it.
ChosenId = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]


class DeviceKind(StrEnum):
    """What a device is; later issues hang limits on it."""

    TRUCK = "truck"
    WAREHOUSE = "warehouse"
    OFFICE = "office"


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One device as operators see it; never carries its key."""

    id: int
    kind: DeviceKind
    name: str
    disabled: bool
    created_at: datetime


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """What a door needs to check a device's key without the database."""

    device_id: int
    kind: DeviceKind
    #: Keyed hash of the secret, 32 bytes.
    key_hash: bytes
    disabled: bool


class NewDevice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /admin/devices`."""

    kind: DeviceKind
    name: DeviceName
    id: ChosenId | None = None


class DeviceChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `PATCH /admin/devices/{id}`; what is left out stays."""

    name: DeviceName | None = None
    disabled: bool | None = None


class DeviceWithKey(msgspec.Struct, frozen=True, kw_only=True):
    """A device together with its key, shown once: when made and when rotated."""

    device: Device
    key: str
