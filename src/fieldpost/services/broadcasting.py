"""Telling connected devices something: once over the bus to all or a kind, and to a list over its devices' own channels."""

import random
from collections import defaultdict
from collections.abc import Iterator
from uuid import UUID

from fieldpost.clock import Clock
from fieldpost.messages.broadcasts import NewBroadcast
from fieldpost.messages.events import FLEET_CHANNEL, Broadcast, device_channel
from fieldpost.messages.identity import time_id
from fieldpost.ports.shared import Bus

#: Devices that one event names.
EVENT_DEVICES = 1000


class Broadcasting:
    """The sending side; hubs bring what they hear of it to their sessions.

    Args:
        source: of ids.
    """

    def __init__(self, *, bus: Bus, clock: Clock, source: random.Random) -> None:
        self._bus = bus
        self._clock = clock
        self._source = source

    async def send(self, new: NewBroadcast) -> UUID:
        """The broadcast's id. At most once, to who is connected now: it is not kept, and whom it reaches is not known."""
        broadcast_id = time_id(self._clock.now(), self._source)
        for channel, event in events_of(new, broadcast_id):
            await self._bus.publish(channel, [event])
        return broadcast_id


def events_of(new: NewBroadcast, broadcast_id: UUID) -> Iterator[tuple[str, Broadcast]]:
    """What is published where: one event, or for a list one for each channel and thousand devices; each of them once."""
    if new.devices is None:
        yield FLEET_CHANNEL, Broadcast(broadcast_id=broadcast_id, text=new.text, kind=new.kind)
        return
    by_channel: defaultdict[str, list[int]] = defaultdict(list)
    for device_id in dict.fromkeys(new.devices):
        by_channel[device_channel(device_id)].append(device_id)
    for channel, ids in by_channel.items():
        for start in range(0, len(ids), EVENT_DEVICES):
            named = tuple(ids[start : start + EVENT_DEVICES])
            yield channel, Broadcast(broadcast_id=broadcast_id, text=new.text, kind=new.kind, device_ids=named)
