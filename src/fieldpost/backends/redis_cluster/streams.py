"""How a lost message is noticed: each publisher numbers what it sends to a channel, and tells the number again for a while.

A publisher's messages to one channel are a *stream*, as long as it has something to say; after a long silence it begins a
new one. Who hears a stream knows from the numbers what it missed, and from the stream's age whether it should have heard
its beginning.
"""

import msgspec

from fieldpost.messages.events import Event

#: When the last number is told again after the last message; a subscriber that was cut off for less notices at once.
#: Longer cuts are noticed by the link.
HEARTBEAT_SECONDS = (1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
#: Streams not heard for this long are over.
_OVER_SECONDS = 2 * sum(HEARTBEAT_SECONDS)
#: A message may be this long on its way, or a subscription be under way, before it is taken for a loss.
_MARGIN_SECONDS = 1.0


class Message(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What stands on the bus; without events it only tells the number."""

    stream: bytes
    #: Of this message, from 1; of the last one where there are no events.
    number: int
    #: Since the stream began.
    age_seconds: float
    events: tuple[Event, ...] = ()


class Outgoing:
    """One publisher's stream to one channel."""

    def __init__(self, stream: bytes, now: float) -> None:
        self._stream = stream
        self._began_at = now
        self._number = 0
        #: How often the number was repeated since the last message, and when it is next.
        self.heartbeats = 0
        self.next_at = now

    def message(self, events: tuple[Event, ...], now: float) -> Message:
        """The next message."""
        self._number += 1
        self._restart_heartbeats(now)
        return Message(stream=self._stream, number=self._number, age_seconds=now - self._began_at, events=events)

    def skip(self, now: float) -> None:
        """Counts a message that is not sent: its hearers are to notice."""
        self._number += 1
        self._restart_heartbeats(now)

    def failed(self, now: float) -> None:
        """What was sent last may not have arrived: its hearers are told for as long as if it were sent now."""
        self._restart_heartbeats(now)

    def heartbeat(self, now: float) -> Message | None:
        """The number again, when it is time to."""
        if self.is_over or now < self.next_at:
            return None
        self.heartbeats += 1
        if not self.is_over:
            self.next_at = now + HEARTBEAT_SECONDS[self.heartbeats]
        return Message(stream=self._stream, number=self._number, age_seconds=now - self._began_at)

    @property
    def is_over(self) -> bool:
        """Whether it has been silent for long enough to be forgotten."""
        return self.heartbeats >= len(HEARTBEAT_SECONDS)

    def _restart_heartbeats(self, now: float) -> None:
        self.heartbeats = 0
        self.next_at = now + HEARTBEAT_SECONDS[0]


class Incoming:
    """All streams that one subscriber hears on one channel."""

    def __init__(self, now: float) -> None:
        self._followed_at = now
        #: By stream: the last number, and when it was heard.
        self._heard: dict[bytes, tuple[int, float]] = {}

    def hear(self, message: Message, now: float) -> tuple[tuple[Event, ...], bool]:
        """The events to hand on, and whether others before them are missing.

        A message that comes a second time, or after a later one, is dropped: it was handed on, or told as missing.
        """
        last = self._heard.get(message.stream, (None, 0.0))[0]
        if last is not None and message.number <= last:
            self._heard[message.stream] = (last, now)
            return (), False
        before = message.number - (1 if message.events else 0)
        self._heard[message.stream] = (message.number, now)
        if last is None:
            self._forget(now)
            return message.events, before > 0 and message.age_seconds + _MARGIN_SECONDS < now - self._followed_at
        return message.events, before > last

    def _forget(self, now: float) -> None:
        """Drops streams that are over; publishers come and go."""
        over = [stream for stream, (_, heard_at) in self._heard.items() if now - heard_at > _OVER_SECONDS]
        for stream in over:
            del self._heard[stream]
