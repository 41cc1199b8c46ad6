"""When a consumer's silence is a doubt, and when its channel is opened anew."""

import asyncio

from fieldpost.backends.rabbitmq.channel import Channel
from fieldpost.backends.rabbitmq.consuming import RabbitConsumer
from fieldpost.backends.rabbitmq.hearing import DEAF_SECONDS, STALE_SECONDS, Hearing
from tests.support.clock import FakeClock


class _Wire:
    """Sends nowhere."""

    max_frame = 4096

    def write(self, data: bytes) -> None:
        """Nobody is there."""

    def forget(self, number: int) -> None:
        """Nothing is known by number here."""


def _consumer() -> tuple[RabbitConsumer, Channel]:
    channel, consumer = Channel(_Wire(), 1), RabbitConsumer(["q"], prefetch=3)
    consumer.begin(channel)
    consumer.new_tag("q")
    return consumer, channel


def test_long_silence_with_nothing_here_is_stale_also_across_standing_aside(clock: FakeClock) -> None:
    consumer, _ = _consumer()
    hearing = Hearing(consumer, clock)

    clock.advance(STALE_SECONDS - 1)
    assert not hearing.is_stale()
    hearing.begin_again()
    clock.advance(1)

    assert hearing.is_stale()


async def test_it_is_never_stale_while_something_is_in_hand(clock: FakeClock) -> None:
    consumer, channel = _consumer()
    hearing = Hearing(consumer, clock)
    channel.on_delivery("1", 1, b"slow")
    in_hand = await consumer.receive(1)

    clock.advance(10 * STALE_SECONDS)
    assert not hearing.is_stale()
    await consumer.ack(in_hand)
    assert not hearing.is_stale()
    clock.advance(STALE_SECONDS)

    assert hearing.is_stale()


async def test_what_came_and_went_between_two_looks_was_heard(clock: FakeClock) -> None:
    consumer, channel = _consumer()
    hearing = Hearing(consumer, clock)
    clock.advance(STALE_SECONDS)
    channel.on_delivery("1", 1, b"quick")
    await consumer.ack(await consumer.receive(1))

    assert not hearing.is_stale()


async def test_two_doubts_in_a_row_while_waiting_are_deafness_and_standing_aside_forgets_them(clock: FakeClock) -> None:
    consumer, _ = _consumer()
    waiting = asyncio.ensure_future(consumer.receive(1))
    await asyncio.sleep(0)
    hearing = Hearing(consumer, clock)

    clock.advance(DEAF_SECONDS)
    assert hearing.is_doubtful()
    hearing.begin_again()
    for _ in range(2):
        assert not hearing.is_deaf
        clock.advance(DEAF_SECONDS)
        assert hearing.is_doubtful()

    assert hearing.is_deaf
    waiting.cancel()
