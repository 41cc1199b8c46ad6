"""One device's place at this hub, whatever it speaks: its answers, and how it ends."""

import asyncio
from typing import NoReturn

from fieldpost.messages.devices import Credential
from fieldpost.roles.hub.feed import Feed
from fieldpost.services.waiting import within

#: Close codes. Source: RFC 6455, section 7.4.1, and its registry.
CLOSE_LEAVING, CLOSE_BINARY, CLOSE_REVOKED, CLOSE_FAILED, CLOSE_SLOW = 1001, 1003, 1008, 1011, 1013


class SessionEndedError(Exception):
    """The session is over; tells the close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Session:
    """What the hub knows of a connection."""

    def __init__(self, *, device: Credential, feed: Feed, farewell_seconds: float) -> None:
        self.device = device
        self.feed = feed
        self._farewell_seconds = farewell_seconds
        self._ending: asyncio.Future[SessionEndedError] = asyncio.get_running_loop().create_future()

    @property
    def device_id(self) -> int:
        """Whose session it is."""
        return self.device.device_id

    @property
    def is_over(self) -> bool:
        """Whether it was ended."""
        return self._ending.done()

    def end(self, code: int, reason: str) -> None:
        """Ends the session from outside."""
        if not self._ending.done():
            self._ending.set_result(SessionEndedError(code, reason))
            self.feed.outbox.wake()

    async def until_ended(self) -> NoReturn:
        """Waits for `end`, and raises what it was. Cancel: safe."""
        raise await asyncio.shield(self._ending)

    async def leave(self, reconnect_seconds: float) -> None:
        """Tells the device to come back later, and ends the session."""
        self.feed.outbox.put(self.feed.voice.leaving(reconnect_seconds))
        await within(self.feed.outbox.emptied(), self._farewell_seconds)
        self.end(CLOSE_LEAVING, "draining")
