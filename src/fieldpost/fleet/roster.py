"""Who belongs to the fleet: kinds and doors in turn, so that a small fleet has all of both. Pure."""

import msgspec

from fieldpost.messages.devices import DeviceKind
from fieldpost.messages.requests import Channel

#: Most devices that one fleet has; the hub's own limit on connections is never reached with it.
MAX_DEVICES = 1000

_TURNS = (
    (DeviceKind.TRUCK, Channel.WEBSOCKET),
    (DeviceKind.WAREHOUSE, Channel.HTTP),
    (DeviceKind.OFFICE, Channel.FOLDER),
    (DeviceKind.TRUCK, Channel.HTTP),
    (DeviceKind.WAREHOUSE, Channel.WEBSOCKET),
    (DeviceKind.OFFICE, Channel.HTTP),
    (DeviceKind.TRUCK, Channel.WEBSOCKET),
    (DeviceKind.TRUCK, Channel.FOLDER),
    (DeviceKind.WAREHOUSE, Channel.FOLDER),
    (DeviceKind.OFFICE, Channel.WEBSOCKET),
)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A device that is to be added: what it is, and through which door it goes."""

    #: From 1, in the fleet.
    number: int
    kind: DeviceKind
    door: Channel

    @property
    def name(self) -> str:
        """What people read in the list of devices."""
        return f"demo {self.kind.value} {self.number}"


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A device that was added, with its key."""

    place: Place
    device_id: int
    key: str


def roster(count: int, *, has_folder: bool) -> list[Place]:
    """The places of a fleet; without a folder its devices use HTTP.

    >>> [(place.name, place.door.value) for place in roster(3, has_folder=False)]
    [('demo truck 1', 'websocket'), ('demo warehouse 2', 'http'), ('demo office 3', 'http')]
    """
    turns = (_TURNS[number % len(_TURNS)] for number in range(count))
    return [
        Place(number=number, kind=kind, door=Channel.HTTP if door is Channel.FOLDER and not has_folder else door)
        for number, (kind, door) in enumerate(turns, start=1)
    ]
