"""A key that a door's snapshot does not have is looked up once, and a flood of wrong ones is no flood of queries."""

import asyncio

import msgspec
import pytest

from fieldpost.errors import BackendUnavailableError, DeviceDisabledError, UnauthenticatedError
from fieldpost.messages.devices import Credential, DeviceChange, DeviceKind, NewDevice
from fieldpost.ports.backends import Backends
from fieldpost.ports.devices import DeviceDirectory
from fieldpost.services.credentials import Credentials
from fieldpost.services.registration import Registration
from fieldpost.settings import Settings
from tests.support.clock import FakeClock

TRUCK = NewDevice(kind=DeviceKind.TRUCK, name="a truck")
WRONG = "w" * 43


class Counted:
    """A directory that counts what it is asked about single devices."""

    def __init__(self, directory: DeviceDirectory) -> None:
        self._directory = directory
        self.asked = 0
        self.is_away = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._directory, name)

    async def credential(self, device_id: int) -> Credential | None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise BackendUnavailableError("away")
        return await self._directory.credential(device_id)


class Doors(msgspec.Struct, frozen=True, kw_only=True):
    """Keys are given out behind one door, and the other is asked; no bus tells either of anything."""

    registration: Registration
    there: Credentials
    asked: Counted
    clock: FakeClock

    async def new_key(self) -> tuple[int, str]:
        made = await self.registration.add(TRUCK)
        return made.device.id, made.key

    async def device_of(self, key: str) -> int:
        return (await self.there.identify(f"Bearer {key}")).device_id

    async def is_refused(self, key: str) -> bool:
        try:
            await self.device_of(key)
        except UnauthenticatedError:
            return True
        return False


@pytest.fixture
async def doors(settings: Settings, backends: Backends, clock: FakeClock) -> Doors:
    asked = Counted(backends.devices)
    here = Credentials(settings=settings, backends=backends, clock=clock)
    there = Credentials(
        settings=settings,
        backends=msgspec.structs.replace(backends, devices=asked),
        clock=clock,
    )
    await there.load()
    return Doors(
        registration=Registration(backends=backends, clock=clock, credentials=here),
        there=there,
        asked=asked,
        clock=clock,
    )


async def test_a_new_and_a_rotated_key_are_good_at_another_door_at_once(doors: Doors) -> None:
    device_id, key = await doors.new_key()
    assert device_id == await doors.device_of(key)
    assert device_id == await doors.device_of(key)
    assert 1 == doors.asked.asked

    doors.clock.advance(1)
    rotated = (await doors.registration.rotate(device_id)).key
    assert device_id == await doors.device_of(rotated)
    # It has learnt that with the new one.
    assert await doors.is_refused(key)
    assert 2 == doors.asked.asked


async def test_many_calls_with_a_new_key_at_once_are_one_question(doors: Doors) -> None:
    device_id, key = await doors.new_key()

    assert [device_id] * 50 == await asyncio.gather(*(doors.device_of(key) for _ in range(50)))

    assert 1 == doors.asked.asked


async def test_a_wrong_key_is_asked_about_once_for_as_long_as_a_snapshot_lasts(
    doors: Doors, settings: Settings
) -> None:
    device_id, _ = await doors.new_key()
    for _ in range(10):
        assert await doors.is_refused(f"fp_{device_id}_{WRONG}")
        doors.clock.advance(settings.credentials.refresh_seconds / 11)
    assert 1 == doors.asked.asked

    doors.clock.advance(settings.credentials.refresh_seconds)
    assert await doors.is_refused(f"fp_{device_id}_{WRONG}")
    assert 2 == doors.asked.asked


async def test_wrong_keys_for_one_device_are_asked_about_once_a_second_and_hide_no_new_one(doors: Doors) -> None:
    device_id, _ = await doors.new_key()
    for number in range(100):
        assert await doors.is_refused(f"fp_{device_id}_{number:043}")
    assert 1 == doors.asked.asked

    doors.clock.advance(1)
    rotated = (await doors.registration.rotate(device_id)).key
    assert await doors.is_refused(f"fp_{device_id}_{100:043}")
    # The question about the wrong one has brought it.
    assert device_id == await doors.device_of(rotated)
    assert 2 == doors.asked.asked


async def test_a_flood_of_keys_of_many_devices_is_asked_about_within_bounds(doors: Doors) -> None:
    for number in range(1, 21):
        assert await doors.is_refused(f"fp_{number}_{WRONG}")
    for number in range(21, 200):
        # Nobody has looked whether these are wrong.
        with pytest.raises(BackendUnavailableError):
            await doors.device_of(f"fp_{number}_{WRONG}")
    assert 20 == doors.asked.asked

    # And others have their turn when it has passed.
    doors.clock.advance(1)
    device_id, key = await doors.new_key()
    assert device_id == await doors.device_of(key)


async def test_a_disabled_device_is_refused_and_its_key_is_not_asked_about(doors: Doors) -> None:
    device_id, key = await doors.new_key()
    await doors.registration.change(device_id, DeviceChange(disabled=True))
    for _ in range(2):
        with pytest.raises(DeviceDisabledError):
            await doors.device_of(key)
    assert 1 == doors.asked.asked


async def test_a_removed_device_is_refused(doors: Doors) -> None:
    device_id, key = await doors.new_key()
    await doors.registration.remove(device_id)

    assert await doors.is_refused(key)


@pytest.mark.parametrize("key", ["", "fp_1", f"fp_{2**63}_{WRONG}", f"fp_0_{WRONG}", f"fpa_operator_{WRONG}"])
async def test_what_no_directory_can_have_is_not_asked_about(doors: Doors, key: str) -> None:
    assert await doors.is_refused(key)

    assert 0 == doors.asked.asked


async def test_with_the_directory_away_the_snapshot_decides_and_the_key_is_not_held_for_wrong(doors: Doors) -> None:
    known_id, known = await doors.new_key()
    await doors.there.load()
    device_id, key = await doors.new_key()
    doors.asked.is_away = True
    assert known_id == await doors.device_of(known)
    assert await doors.is_refused(f"fp_{known_id}_{WRONG}")
    with pytest.raises(BackendUnavailableError):
        await doors.device_of(key)
    with pytest.raises(BackendUnavailableError):
        await asyncio.gather(doors.device_of(key), doors.device_of(key))

    doors.asked.is_away = False
    doors.clock.advance(1)
    assert device_id == await doors.device_of(key)


async def test_an_answer_that_comes_late_does_not_bring_back_a_key_that_was_revoked_since(
    settings: Settings, backends: Backends, clock: FakeClock
) -> None:
    # given a question whose answer was read and has not arrived
    read, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Counted):
        async def credential(self, device_id: int) -> Credential | None:
            found = await super().credential(device_id)
            if not read.is_set():
                read.set()
                await go_on.wait()
            return found

    slow = Slow(backends.devices)
    there = Credentials(settings=settings, backends=msgspec.structs.replace(backends, devices=slow), clock=clock)
    registration = Registration(backends=backends, clock=clock, credentials=there)
    await there.load()
    key_hash = b"k" * 32
    device = await backends.devices.add(kind=DeviceKind.TRUCK, name="a truck", key_hash=key_hash, now=clock.now())
    asking = asyncio.create_task(there.reload(device.id))
    await read.wait()

    # when it is disabled meanwhile
    disabling = asyncio.create_task(registration.change(device.id, DeviceChange(disabled=True)))
    while (await backends.devices.get(device.id)) != msgspec.structs.replace(device, disabled=True):
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(asking, disabling)

    # then it is
    assert not there.is_current(
        Credential(device_id=device.id, kind=DeviceKind.TRUCK, key_hash=key_hash, disabled=False)
    )
