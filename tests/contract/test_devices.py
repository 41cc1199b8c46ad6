"""What every directory of devices promises; see fieldpost.ports.devices."""

import asyncio

import pytest

from fieldpost.errors import ConflictError
from fieldpost.messages.devices import DeviceKind
from fieldpost.ports.devices import DeviceDirectory
from tests.support.messages import at

HASH = bytes(range(32))


async def _add(directory: DeviceDirectory, device_id: int | None = None) -> int:
    device = await directory.add(
        kind=DeviceKind.TRUCK, name="Lkw 17 „Süd“", key_hash=HASH, now=at(0), device_id=device_id
    )
    return device.id


async def test_ids_are_given_out_in_order(directory: DeviceDirectory) -> None:
    assert [1, 2, 3] == [await _add(directory) for _ in range(3)]


async def test_an_added_device_can_be_read_again(directory: DeviceDirectory) -> None:
    device_id = await _add(directory)

    device = await directory.get(device_id)
    credential = await directory.credential(device_id)

    assert device is not None
    assert ("Lkw 17 „Süd“", DeviceKind.TRUCK, False, at(0)) == (
        device.name,
        device.kind,
        device.disabled,
        device.created_at,
    )
    assert credential is not None
    assert (device_id, HASH, False) == (credential.device_id, credential.key_hash, credential.disabled)


async def test_an_id_can_be_chosen_and_numbering_goes_on_after_it(directory: DeviceDirectory) -> None:
    assert [17, 18] == [await _add(directory, 17), await _add(directory)]


async def test_an_id_in_use_is_refused(directory: DeviceDirectory) -> None:
    await _add(directory, 17)

    with pytest.raises(ConflictError):
        await _add(directory, 17)


async def test_an_id_is_never_used_again(directory: DeviceDirectory) -> None:
    await _add(directory, 17)

    assert await directory.remove(17, now=at(1))

    assert await directory.get(17) is None
    assert await directory.credential(17) is None
    assert 18 == await _add(directory)
    with pytest.raises(ConflictError):
        await _add(directory, 17)


async def test_concurrent_additions_get_different_ids(directory: DeviceDirectory) -> None:
    ids = await asyncio.gather(*(_add(directory) for _ in range(20)))

    assert set(range(1, 21)) == set(ids)


async def test_only_what_is_given_changes(directory: DeviceDirectory) -> None:
    device_id = await _add(directory)

    renamed = await directory.change(device_id, name="Truck 17")
    disabled = await directory.change(device_id, disabled=True)
    unchanged = await directory.change(device_id)
    await directory.change(device_id, key_hash=HASH[::-1])

    credential = await directory.credential(device_id)
    assert renamed is not None
    assert disabled is not None
    assert ("Truck 17", False) == (renamed.name, renamed.disabled)
    assert ("Truck 17", True) == (disabled.name, disabled.disabled)
    assert disabled == unchanged
    assert credential is not None
    assert (HASH[::-1], True) == (credential.key_hash, credential.disabled)


async def test_what_is_not_there_cannot_be_changed_or_removed(directory: DeviceDirectory) -> None:
    assert await directory.get(5) is None
    assert await directory.change(5, name="x") is None
    assert not await directory.remove(5, now=at(0))


async def test_lists_come_in_pages_in_order(directory: DeviceDirectory) -> None:
    for _ in range(5):
        await _add(directory)
    await directory.remove(2, now=at(1))

    first = await directory.list(after=0, limit=2)
    rest = await directory.list(after=first[-1].id, limit=10)

    assert [1, 3, 4, 5] == [device.id for device in (*first, *rest)]
    assert [1, 3, 4, 5] == [credential.device_id for credential in await directory.credentials(after=0, limit=10)]
    assert [] == list(await directory.list(after=99, limit=10))


async def test_the_first_fingerprint_of_a_pepper_stands_until_it_is_replaced(directory: DeviceDirectory) -> None:
    assert await directory.pepper_fingerprint() is None

    assert b"first" == await directory.keep_pepper_fingerprint(b"first")
    assert b"first" == await directory.keep_pepper_fingerprint(b"second")
    assert b"first" == await directory.pepper_fingerprint()

    assert b"third" == await directory.keep_pepper_fingerprint(b"third", replace=True)
    assert b"third" == await directory.pepper_fingerprint()


async def test_of_many_fingerprints_at_once_all_are_told_the_same(directory: DeviceDirectory) -> None:
    told = await asyncio.gather(*(directory.keep_pepper_fingerprint(bytes([number])) for number in range(20)))

    assert {await directory.pepper_fingerprint()} == set(told)
