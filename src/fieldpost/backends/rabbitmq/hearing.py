"""Finds out that a consumer waits and hears nothing although there is something to hear.

What waits in the queue can be asked for. What the broker counts as delivered cannot: no AMQP method tells how much that is,
for a channel or for a queue, and a queue is shared. So a channel on which nothing has come for long, and of which nothing is
in hand, is opened anew: its end makes the broker put back whatever it believes to have delivered on it.

Left out: messages lost at the end of what came, on a channel of which others are in hand. To end it would take these from
whoever works on them, who may only be slow. A gap shows with the next delivery (`RabbitConsumer`); the channel's turn comes
when the hands are empty; and the broker itself ends it after its `consumer_timeout` (half an hour).
"""

from typing import Final

from fieldpost.backends.rabbitmq.consuming import RabbitConsumer
from fieldpost.clock import Clock

#: While it waits and nothing comes, it asks this often whether there is something; twice in a row means it is deaf.
DEAF_SECONDS: Final = 10.0
_DOUBTS: Final = 2
#: A channel is opened anew after so long without a message.
STALE_SECONDS: Final = 30.0


class Hearing:
    """One channel's, judged every few seconds."""

    def __init__(self, consumer: RabbitConsumer, clock: Clock) -> None:
        self._consumer = consumer
        self._clock = clock
        self._doubts = 0
        self._last_tag = consumer.last_tag
        self._since = self._empty_since = clock.monotonic()
        self._empty_tag = consumer.last_tag

    @property
    def is_deaf(self) -> bool:
        return self._doubts >= _DOUBTS

    def begin_again(self) -> None:
        """The broker was not to send anything until now, so silence was no doubt; what was lost before stays lost."""
        self._since, self._doubts = self._clock.monotonic(), 0

    def is_doubtful(self) -> bool:
        """Whether it has waited long and heard nothing; true once each time that is due."""
        now = self._clock.monotonic()
        if self._consumer.last_tag != self._last_tag or not self._consumer.waiting:
            self._last_tag, self._since, self._doubts = self._consumer.last_tag, now, 0
        if now - self._since < DEAF_SECONDS:
            return False
        self._since = now
        self._doubts += 1
        return True

    def forgive(self) -> None:
        """There was nothing to hear."""
        self._doubts = 0

    def is_stale(self) -> bool:
        """Whether nothing has come for very long and nothing is here."""
        now = self._clock.monotonic()
        if self._consumer.last_tag != self._empty_tag or not self._consumer.is_empty:
            self._empty_tag, self._empty_since = self._consumer.last_tag, now
        return now - self._empty_since >= STALE_SECONDS
