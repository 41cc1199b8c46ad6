"""Brings what operators tell to the sessions here: to a few at a time, so that nobody's answers wait for thousands."""

import asyncio
from collections.abc import Iterable

from fieldpost.clock import Clock
from fieldpost.messages.events import FLEET_CHANNEL, Broadcast
from fieldpost.observability import get_logger
from fieldpost.ports.shared import Bus
from fieldpost.roles.hub.session import Session
from fieldpost.roles.hub.sessions import Sessions
from fieldpost.services.mailbox import Listener, Mailbox

log = get_logger()

#: Sessions that are told before the event loop has its turn.
SLICE = 50


class Broadcasts:
    """All of this hub, one after the other. What the bus loses, or comes too fast, is not looked for."""

    def __init__(self, *, bus: Bus, mailbox: Mailbox, sessions: Sessions, clock: Clock) -> None:
        self._bus = bus
        self._mailbox = mailbox
        self._sessions = sessions
        self._clock = clock

    async def run(self) -> None:
        """Tells until cancelled."""
        with self._mailbox.hear_broadcasts() as heard:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hear_fleet(heard))
                tasks.create_task(self._tell(heard))

    async def _hear_fleet(self, heard: Listener) -> None:
        async with self._bus.subscribe([FLEET_CHANNEL]) as subscription:
            while True:
                for event in await subscription.receive():
                    if isinstance(event, Broadcast):
                        heard.put(event)

    async def _tell(self, heard: Listener) -> None:
        while True:
            events = await heard.receive()
            if not events:
                log.warning("broadcasts_dropped", summed=True)
            for event in events:
                if isinstance(event, Broadcast):
                    await self.tell(event)

    async def tell(self, broadcast: Broadcast) -> None:
        """Hands it on to those here that are meant."""
        meant = [session for session in self._named(broadcast) if broadcast.kind in (None, session.device.kind)]
        for start in range(0, len(meant), SLICE):
            for session in meant[start : start + SLICE]:
                session.feed.tell(broadcast)
            await self._clock.sleep(0)

    def _named(self, broadcast: Broadcast) -> Iterable[Session]:
        if not broadcast.device_ids:
            return self._sessions
        return (session for device_id in broadcast.device_ids for session in self._sessions.of(device_id))
