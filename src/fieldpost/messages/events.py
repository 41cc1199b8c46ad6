"""Events on the bus: hints that something happened; whoever misses one finds out from the ledger.

Channels: `devices.<0..255>` by hash of the device id (a listener hears only devices it holds), `fleet` for everyone. Only
a `Broadcast` is no hint: nothing remembers it, and whoever misses it has missed it.
"""

from uuid import UUID

import msgspec

from fieldpost.messages.devices import DeviceKind
from fieldpost.messages.requests import RequestState

#: How many channels devices hash into.
DEVICE_CHANNELS = 256
#: The channel that every instance hears.
FLEET_CHANNEL = "fleet"


class StateChanged(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """A request moved on: an attempt began, or it was cancelled; answers are told of by ResponseReady."""

    request_id: UUID
    device_id: int
    status: RequestState
    attempt: int = 0


class ResponseReady(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """A request has its final answer; `body` is the encoded Response, or empty when too large for the bus."""

    request_id: UUID
    device_id: int
    #: Folder answers go to the folder; sessions leave them alone.
    to_folder: bool = False
    body: bytes = b""


class ResponseChunk(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """A piece of an answer in the making: `text` begins at character `offset` of this attempt's answer."""

    request_id: UUID
    device_id: int
    attempt: int
    index: int
    offset: int
    text: str


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """The device has these answers; other sessions of the device need not bring them."""

    device_id: int
    request_ids: tuple[UUID, ...]


class CredentialsChanged(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """A device was added or changed: doors read it again."""

    device_id: int


class Broadcast(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """An operator tells connected devices something: all, or those of this channel that are named, or those of a kind."""

    broadcast_id: UUID
    text: str
    kind: DeviceKind | None = None
    #: Empty for all.
    device_ids: tuple[int, ...] = ()


#: About one device.
DeviceEvent = StateChanged | ResponseReady | ResponseChunk | Acknowledged | CredentialsChanged
Event = DeviceEvent | Broadcast


def device_channel(device_id: int) -> str:
    """The bus channel on which everything about a device is published."""
    return f"devices.{device_id % DEVICE_CHANNELS}"
