"""What of a broadcast goes over the bus, and where."""

import random

import msgspec

from fieldpost.backends.memory import MemoryBus
from fieldpost.messages.broadcasts import MAX_DEVICES, NewBroadcast
from fieldpost.messages.devices import DeviceKind
from fieldpost.messages.events import DEVICE_CHANNELS, FLEET_CHANNEL, Broadcast, device_channel
from fieldpost.messages.identity import time_id
from fieldpost.services.broadcasting import EVENT_DEVICES, Broadcasting, events_of
from tests.support.clock import FakeClock

ID = time_id(FakeClock().now(), random.Random(1))


def test_to_all_or_a_kind_it_is_one_event_for_the_whole_fleet() -> None:
    for kind in (None, DeviceKind.TRUCK):
        told = list(events_of(NewBroadcast(text="Snow.", kind=kind), ID))

        assert [(FLEET_CHANNEL, Broadcast(broadcast_id=ID, text="Snow.", kind=kind))] == told


def test_to_a_list_it_goes_over_the_channels_of_its_devices_only() -> None:
    neighbour = 7 + DEVICE_CHANNELS
    told = list(events_of(NewBroadcast(text="Snow.", kind=DeviceKind.TRUCK, devices=(7, 8, neighbour, 7)), ID))

    assert [(device_channel(7), (7, neighbour)), (device_channel(8), (8,))] == [
        (channel, event.device_ids) for channel, event in told
    ]
    assert [(ID, "Snow.", DeviceKind.TRUCK)] * 2 == [(event.broadcast_id, event.text, event.kind) for _, event in told]


def test_a_long_list_on_one_channel_is_split() -> None:
    devices = tuple(DEVICE_CHANNELS * (number + 1) for number in range(MAX_DEVICES))

    told = [event.device_ids for _, event in events_of(NewBroadcast(text="Snow.", devices=devices), ID)]

    assert devices == tuple(device_id for ids in told for device_id in ids)
    assert EVENT_DEVICES == max(map(len, told))


async def test_what_is_sent_is_on_the_bus_under_the_id_that_is_told(clock: FakeClock) -> None:
    bus = MemoryBus()
    broadcasting = Broadcasting(bus=bus, clock=clock, source=random.Random(1))
    async with bus.subscribe([FLEET_CHANNEL, device_channel(7)]) as subscription:
        ids = [await broadcasting.send(NewBroadcast(text="Snow.", devices=devices)) for devices in (None, (7,), (8,))]
        told = msgspec.to_builtins(await subscription.receive())

    assert 3 == len(set(ids))
    assert [str(ids[0]), str(ids[1])] == [event["broadcast_id"] for event in told]
