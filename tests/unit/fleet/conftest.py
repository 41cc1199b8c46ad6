"""Members of a fleet that needs no server."""

from fieldpost.fleet.roster import Member, Place
from fieldpost.messages.devices import DeviceKind
from fieldpost.messages.requests import Channel


def a_member(door: Channel = Channel.HTTP, *, device_id: int = 7) -> Member:
    place = Place(number=device_id, kind=DeviceKind.TRUCK, door=door)
    return Member(place=place, device_id=device_id, key=f"fp_{device_id}_{'s' * 32}")
