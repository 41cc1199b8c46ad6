"""One process's streams, one to a channel, and which of them are to repeat their number now.

Found without looking at all of them: streams that have repeated it equally often wait equally long, so each such group
is in order of time.
"""

import secrets
from collections import OrderedDict
from collections.abc import Iterator

from fieldpost.backends.redis_cluster.streams import HEARTBEAT_SECONDS, Message, Outgoing
from fieldpost.messages.events import Event


class Heartbeats:
    """Times are the caller's, and never go back."""

    def __init__(self) -> None:
        self._streams: dict[str, Outgoing] = {}
        #: By how often the number was repeated, then by channel: when it is to be repeated next.
        self._waiting: list[OrderedDict[str, float]] = [OrderedDict() for _ in HEARTBEAT_SECONDS]
        #: They said all; kept until the next look, in case the last they said is not sent.
        self._over: list[str] = []

    def message(self, channel: str, events: tuple[Event, ...], now: float) -> Message:
        """The channel's next message."""
        stream = self._take(channel, now)
        message = stream.message(events, now)
        self._put(channel, stream)
        return message

    def skip(self, channel: str, now: float) -> None:
        """Counts a message that is not sent."""
        stream = self._take(channel, now)
        stream.skip(now)
        self._put(channel, stream)

    def failed(self, channel: str, now: float) -> None:
        """What was sent last may not have arrived."""
        stream = self._take(channel, now)
        stream.failed(now)
        self._put(channel, stream)

    def due(self, now: float, limit: int) -> Iterator[tuple[str, Message]]:
        """At most so many numbers to repeat now; the rest are due at the next call."""
        self._forget()
        for waiting in self._waiting:
            while limit > 0 and waiting and next(iter(waiting.values())) <= now:
                channel = waiting.popitem(last=False)[0]
                stream = self._streams[channel]
                heartbeat = stream.heartbeat(now)
                self._put(channel, stream)
                if heartbeat is not None:
                    limit -= 1
                    yield channel, heartbeat

    def _take(self, channel: str, now: float) -> Outgoing:
        stream = self._streams.get(channel)
        if stream is None:
            stream = self._streams[channel] = Outgoing(secrets.token_bytes(8), now)
        elif not stream.is_over:
            del self._waiting[stream.heartbeats][channel]
        return stream

    def _put(self, channel: str, stream: Outgoing) -> None:
        if stream.is_over:
            self._over.append(channel)
        else:
            self._waiting[stream.heartbeats][channel] = stream.next_at

    def _forget(self) -> None:
        over, self._over = self._over, []
        for channel in over:
            if self._streams[channel].is_over:
                del self._streams[channel]
