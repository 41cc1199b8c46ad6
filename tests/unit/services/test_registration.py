"""Making and changing devices, as the door sees it that does it."""

from pathlib import Path

import msgspec
import pytest

from fieldpost.backends.sqlite.opening import open_database
from fieldpost.errors import ConflictError, NotFoundError, UnauthenticatedError
from fieldpost.messages.devices import DeviceChange, DeviceKind, NewDevice
from fieldpost.messages.events import FLEET_CHANNEL, CredentialsChanged
from fieldpost.ports.backends import Backends
from fieldpost.services.credentials import Credentials
from fieldpost.services.registration import Registration
from fieldpost.settings import Settings
from tests.support.clock import FakeClock

NEW = NewDevice(kind=DeviceKind.WAREHOUSE, name="Süd")


@pytest.fixture
def credentials(settings: Settings, backends: Backends, clock: FakeClock) -> Credentials:
    return Credentials(settings=settings, backends=backends, clock=clock)


@pytest.fixture
def registration(backends: Backends, clock: FakeClock, credentials: Credentials) -> Registration:
    return Registration(backends=backends, clock=clock, credentials=credentials)


async def test_a_new_devices_key_works_when_the_call_returns(
    registration: Registration, credentials: Credentials, clock: FakeClock
) -> None:
    made = await registration.add(NEW)

    assert (1, DeviceKind.WAREHOUSE, "Süd", False, clock.now()) == (
        made.device.id,
        made.device.kind,
        made.device.name,
        made.device.disabled,
        made.device.created_at,
    )
    assert 1 == credentials.authenticate(f"Bearer {made.key}").device_id
    assert made.device == await registration.get(1)


async def test_the_directory_has_the_hash_of_the_secret_only(registration: Registration, backends: Backends) -> None:
    made = await registration.add(NEW)

    credential = await backends.devices.credential(made.device.id)

    assert credential is not None
    assert 32 == len(credential.key_hash)
    assert made.key.split("_", 2)[2].encode() not in credential.key_hash


async def test_a_rotated_key_replaces_the_old_one_when_the_call_returns(
    registration: Registration, credentials: Credentials
) -> None:
    old = await registration.add(NEW)

    new = await registration.rotate(old.device.id)

    assert old.device == new.device
    assert 1 == credentials.authenticate(f"Bearer {new.key}").device_id
    with pytest.raises(UnauthenticatedError):
        credentials.authenticate(f"Bearer {old.key}")


async def test_what_is_left_out_of_a_change_stays(registration: Registration) -> None:
    device_id = (await registration.add(NEW)).device.id

    assert (await registration.change(device_id, DeviceChange(disabled=True))).disabled
    renamed = await registration.change(device_id, DeviceChange(name="Nord"))

    assert ("Nord", True) == (renamed.name, renamed.disabled)


async def test_a_chosen_id_is_refused_when_it_is_or_was_in_use(registration: Registration) -> None:
    chosen = NewDevice(kind=DeviceKind.TRUCK, name="17", id=17)
    await registration.add(chosen)
    with pytest.raises(ConflictError):
        await registration.add(chosen)

    await registration.remove(17)

    with pytest.raises(ConflictError):
        await registration.add(chosen)


async def test_every_change_is_told_to_all_doors(registration: Registration, backends: Backends) -> None:
    async with backends.shared.bus.subscribe([FLEET_CHANNEL]) as subscription:
        device_id = (await registration.add(NEW)).device.id
        await registration.change(device_id, DeviceChange(disabled=True))
        await registration.rotate(device_id)
        await registration.remove(device_id)

        assert [CredentialsChanged(device_id=device_id)] * 4 == list(await subscription.receive())


async def test_a_new_key_is_given_out_and_told_of_although_this_door_cannot_read_it_yet(
    settings: Settings, backends: Backends, clock: FakeClock, tmp_path: Path
) -> None:
    # given a door whose directory is away
    async with open_database(tmp_path / "away.db") as away:
        door = msgspec.structs.replace(backends, devices=away.devices)
    credentials = Credentials(settings=settings, backends=door, clock=clock)
    registration = Registration(backends=backends, clock=clock, credentials=credentials)

    async with backends.shared.bus.subscribe([FLEET_CHANNEL]) as subscription:
        made = await registration.add(NEW)

        assert [CredentialsChanged(device_id=made.device.id)] == list(await subscription.receive())
    assert made.device == await registration.get(made.device.id)


async def test_there_is_nothing_to_do_to_a_device_that_is_not_there(registration: Registration) -> None:
    for call in (
        registration.get(5),
        registration.change(5, DeviceChange(name="x")),
        registration.rotate(5),
        registration.remove(5),
    ):
        with pytest.raises(NotFoundError):
            await call
