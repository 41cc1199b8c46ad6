"""Who is at the door, and how soon a change is known there."""

import asyncio

import msgspec
import pytest

from fieldpost.errors import DeviceDisabledError, UnauthenticatedError
from fieldpost.messages.devices import DeviceKind, NewDevice
from fieldpost.messages.events import FLEET_CHANNEL, CredentialsChanged, Event
from fieldpost.ports.backends import Backends
from fieldpost.services.credentials import Credentials, hash_secret
from fieldpost.services.registration import Registration, new_secret
from fieldpost.settings import CredentialSettings, Settings
from tests.support.clock import FakeClock
from tests.support.messages import at
from tests.support.waiting import eventually

SECRET = "s" * 43


@pytest.fixture
def credentials(settings: Settings, backends: Backends, clock: FakeClock) -> Credentials:
    return Credentials(settings=settings, backends=backends, clock=clock)


async def _add(backends: Backends, secret: str = SECRET) -> int:
    """Adds a device behind the snapshot's back."""
    key_hash = hash_secret(secret, backends.pepper)
    return (await backends.devices.add(kind=DeviceKind.TRUCK, name="a truck", key_hash=key_hash, now=at(0))).id


async def test_the_right_key_tells_the_device(credentials: Credentials, backends: Backends) -> None:
    device_id = await _add(backends)
    await credentials.load()

    for header in (f"Bearer fp_{device_id}_{SECRET}", f"bearer  fp_{device_id}_{SECRET} "):
        assert device_id == credentials.authenticate(header).device_id


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"fp_1_{SECRET}",
        f"Basic fp_1_{SECRET}",
        f"Bearer fp_2_{SECRET}",
        f"Bearer fp_1_{SECRET}s",
        f"Bearer fp_1_{SECRET[:-1]}",
        f"Bearer fp_1_{SECRET[:-1]}S",
        f"Bearer fp_01_{SECRET}",
        f"Bearer fp_0_{SECRET}",
        f"Bearer fp_-1_{SECRET}",
        f"Bearer fp_١_{SECRET}",
        f"Bearer fp_{10**30}_{SECRET}",
        f"Bearer fp_1_{SECRET} {SECRET}",
        "Bearer fp_1_",
        "Bearer fp_1_" + "s" * 100_000,
        f"Bearer fpa_operator_{SECRET}",
    ],
)
async def test_anything_else_is_refused_in_the_same_words(
    credentials: Credentials, backends: Backends, header: str | None
) -> None:
    assert 1 == await _add(backends)
    await _add(backends, secret="another device's secret")
    await credentials.load()

    with pytest.raises(UnauthenticatedError) as refused:
        credentials.authenticate(header)

    assert refused.value.detail in {"send Authorization: Bearer fp_<device id>_<secret>", "this key is not valid"}


async def test_only_the_right_key_learns_that_its_device_is_disabled(
    credentials: Credentials, backends: Backends
) -> None:
    device_id = await _add(backends)
    await backends.devices.change(device_id, disabled=True)
    await credentials.load()

    with pytest.raises(DeviceDisabledError):
        credentials.authenticate(f"Bearer fp_{device_id}_{SECRET}")
    with pytest.raises(UnauthenticatedError):
        credentials.authenticate(f"Bearer fp_{device_id}_{'x' * 43}")


async def test_operators_have_names_and_secrets_of_their_own(
    settings: Settings, backends: Backends, clock: FakeClock
) -> None:
    operators = {"ada": hash_secret(SECRET, backends.pepper), "bob": hash_secret(SECRET[::-1] + "b", backends.pepper)}
    credentials = Credentials(
        settings=settings, backends=msgspec.structs.replace(backends, operators=operators), clock=clock
    )

    assert "ada" == credentials.authenticate_operator(f"Bearer fpa_ada_{SECRET}")
    for token in (f"fpa_bob_{SECRET}", f"fpa_eve_{SECRET}", f"fpa_ada_{SECRET[:-1]}x", f"fp_1_{SECRET}", "fpa_ada_"):
        with pytest.raises(UnauthenticatedError):
            credentials.authenticate_operator(f"Bearer {token}")


def test_the_same_secret_has_another_hash_under_another_pepper() -> None:
    assert hash_secret(SECRET, b"one") == hash_secret(SECRET, b"one") != hash_secret(SECRET, b"other")
    assert 32 == len(hash_secret(SECRET, b"one"))


def test_secrets_are_long_and_never_the_same() -> None:
    secrets = {new_secret() for _ in range(1000)}

    assert 1000 == len(secrets)
    assert {43} == {len(secret) for secret in secrets}


async def test_a_change_that_the_bus_tells_of_is_in_force_at_another_door(
    settings: Settings, backends: Backends, clock: FakeClock
) -> None:
    # given two doors over one directory
    here, there = (Credentials(settings=settings, backends=backends, clock=clock) for _ in range(2))
    registration = Registration(backends=backends, clock=clock, credentials=here)
    running = asyncio.create_task(there.run())
    await eventually(lambda: there.is_loaded)
    try:
        made = await registration.add(NewDevice(kind=DeviceKind.TRUCK, name="a truck"))
        await eventually(lambda: _is_accepted(there, made.key))

        await registration.remove(made.device.id)
        assert not _is_accepted(here, made.key)
        await eventually(lambda: not _is_accepted(there, made.key))
    finally:
        running.cancel()


async def test_a_change_that_nobody_told_of_is_found_after_a_while(backends: Backends, clock: FakeClock) -> None:
    settings = Settings(credentials=CredentialSettings(refresh_seconds=0.05))
    credentials = Credentials(settings=settings, backends=backends, clock=clock)
    running = asyncio.create_task(credentials.run())
    await eventually(lambda: credentials.is_loaded)
    try:
        device_id = await _add(backends)

        await eventually(lambda: _is_accepted(credentials, f"fp_{device_id}_{SECRET}"))
    finally:
        running.cancel()


async def test_news_of_other_things_does_not_put_off_the_refresh(
    settings: Settings, credentials: Credentials, backends: Backends, clock: FakeClock
) -> None:
    running = asyncio.create_task(credentials.run())
    await eventually(lambda: credentials.is_loaded)
    try:
        device_id = await _add(backends)
        clock.advance(settings.credentials.refresh_seconds)
        await backends.shared.bus.publish(FLEET_CHANNEL, [CredentialsChanged(device_id=10**6)])

        await eventually(lambda: _is_accepted(credentials, f"fp_{device_id}_{SECRET}"), seconds=5)
    finally:
        running.cancel()


async def test_lost_events_lead_to_reading_everything_anew(
    credentials: Credentials, backends: Backends, clock: FakeClock
) -> None:
    running = asyncio.create_task(credentials.run())
    await eventually(lambda: credentials.is_loaded)
    try:
        device_id = await _add(backends)
        # More than a subscription holds, and none of them about this device.
        events: list[Event] = [CredentialsChanged(device_id=10**6)] * 20_000
        await backends.shared.bus.publish(FLEET_CHANNEL, events)

        await eventually(lambda: _is_accepted(credentials, f"fp_{device_id}_{SECRET}"))
    finally:
        running.cancel()


async def test_all_pages_of_a_large_directory_are_read(
    credentials: Credentials, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fieldpost.services.credentials._PAGE", 2)
    ids = [await _add(backends) for _ in range(5)]
    await credentials.load()

    assert None not in [credentials.of(device_id) for device_id in ids]
    assert credentials.of(ids[-1] + 1) is None


def _is_accepted(credentials: Credentials, key: str) -> bool:
    try:
        credentials.authenticate(f"Bearer {key}")
    except UnauthenticatedError:
        return False
    return True
