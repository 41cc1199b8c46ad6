"""What an operator tells connected devices. Deliberately not here: how it travels (events) and how it arrives (frames)."""

from typing import Annotated
from uuid import UUID

import msgspec

from fieldpost.messages.devices import DeviceId, DeviceKind
from fieldpost.messages.texts import TEXT_PATTERN

#: In UTF-8 at most 8 KiB, of which a broadcast to a list carries one copy a channel.
MAX_TEXT_CHARACTERS = 2048
#: Devices that one broadcast may name.
MAX_DEVICES = 10_000

BroadcastText = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT_CHARACTERS, pattern=TEXT_PATTERN)]
NamedDevices = Annotated[tuple[DeviceId, ...], msgspec.Meta(min_length=1, max_length=MAX_DEVICES)]


class NewBroadcast(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /admin/broadcasts`: to all devices, or only to these, and of them only to those of this kind."""

    text: BroadcastText
    kind: DeviceKind | None = None
    devices: NamedDevices | None = None


class BroadcastSent(msgspec.Struct, frozen=True, kw_only=True):
    """It is on its way; nobody counts whom it reaches."""

    id: UUID
