import pytest

from fieldpost.fleet.roster import MAX_DEVICES, roster
from fieldpost.messages.devices import DeviceKind
from fieldpost.messages.requests import Channel


@pytest.mark.parametrize("count", [3, 4, 30, MAX_DEVICES])
def test_three_devices_are_enough_for_every_kind_and_every_door(count: int) -> None:
    places = roster(count, has_folder=True)

    assert count == len(places)
    assert set(DeviceKind) == {place.kind for place in places}
    assert set(Channel) == {place.door for place in places}


def test_without_a_folder_its_devices_use_http() -> None:
    with_folder, without = roster(30, has_folder=True), roster(30, has_folder=False)

    moved = [place for place, other in zip(with_folder, without, strict=True) if place != other]

    assert [place for place in with_folder if place.door is Channel.FOLDER] == moved
    assert {Channel.HTTP, Channel.WEBSOCKET} == {place.door for place in without}


def test_names_are_told_apart() -> None:
    names = [place.name for place in roster(30, has_folder=True)]

    assert 30 == len(set(names))
    assert all(name.startswith("demo ") for name in names)
