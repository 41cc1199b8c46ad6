"""What a consumer keeps, gives back and says, told by the frames that come in and go out."""

import asyncio

import pamqp.frame
import pytest
from pamqp import base, commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from fieldpost.backends.rabbitmq import consuming
from fieldpost.backends.rabbitmq.channel import Channel
from fieldpost.backends.rabbitmq.consuming import RabbitConsumer
from tests.support.consuming import bodies_of, receive


class _Wire:
    """Keeps what is sent."""

    max_frame = 4096

    def __init__(self) -> None:
        self.sent: list[base.Frame] = []

    def write(self, data: bytes) -> None:
        while data:
            size, _, frame = pamqp.frame.unmarshal(data)
            assert isinstance(frame, base.Frame)
            self.sent.append(frame)
            data = data[size:]

    def forget(self, number: int) -> None:
        """Nothing is known by number here."""


class _Consuming:
    """A consumer of one queue on one channel after another."""

    def __init__(self, *, prefetch: int = 10) -> None:
        self.wire = _Wire()
        self.consumer = RabbitConsumer(["q"], prefetch=prefetch)
        self.begin()

    def begin(self) -> None:
        self.channel = Channel(self.wire, 1)
        self.consumer.begin(self.channel)
        self.new_consumer()

    def new_consumer(self) -> None:
        self._consumer_tag = self.consumer.new_tag("q")

    def deliver(self, tag: int, body: bytes) -> None:
        method = commands.Basic.Deliver(consumer_tag=self._consumer_tag, delivery_tag=tag, exchange="", routing_key="q")
        for kind, frame in ((1, method), (2, ContentHeader(body_size=len(body))), (3, ContentBody(body))):
            self.channel.on_frame(kind, pamqp.frame.marshal(frame, 1))

    @property
    def put_back(self) -> list[tuple[int, bool]]:
        return [
            (frame.delivery_tag, frame.multiple) for frame in self.wire.sent if isinstance(frame, commands.Basic.Nack)
        ]


async def test_what_is_put_back_between_two_channels_is_left_to_the_broker() -> None:
    receiving = _Consuming()
    receiving.deliver(1, b"1")
    receiving.deliver(2, b"2")
    in_hand = await receive(receiving.consumer, 1)

    receiving.consumer.end()
    await receiving.consumer.requeue(in_hand)
    waiting = asyncio.ensure_future(receive(receiving.consumer, 1))
    await asyncio.sleep(0)
    assert not waiting.done()
    receiving.begin()
    receiving.deliver(1, b"1 again")

    assert [b"1 again"] == bodies_of(await waiting)
    assert [] == receiving.put_back


async def test_what_is_put_back_aside_goes_to_the_broker_and_afterwards_stays_here_again() -> None:
    receiving = _Consuming()
    for tag in (1, 2, 3):
        receiving.deliver(tag, b"%d" % tag)
    first, second = await receive(receiving.consumer, 2)

    receiving.consumer.stand_aside()
    await receiving.consumer.requeue([first])
    receiving.consumer.step_in()
    await receiving.consumer.requeue([second])

    assert [b"2"] == bodies_of(await receive(receiving.consumer, 1))
    assert [(3, False), (1, True)] == receiving.put_back


async def test_what_would_pass_the_bound_in_bytes_is_not_kept_and_goes_back_in_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consuming, "MAX_BUFFERED_BYTES", 100)
    receiving = _Consuming()
    consumer = receiving.consumer
    for tag in range(1, 8):
        receiving.deliver(tag, b"%d" % tag * 40)

    assert consumer.is_full
    assert consumer.alarm.is_set()
    assert not consumer.has_room
    consumer.put_back_excess()
    assert not consumer.is_full
    assert [(3, False), (4, False), (5, False), (6, False), (7, False)] == receiving.put_back

    consumer.alarm.clear()
    assert [b"1" * 40, b"2" * 40] == bodies_of(await receive(consumer, 2))
    assert consumer.has_room
    assert consumer.alarm.is_set()


async def test_a_message_larger_than_the_bound_is_kept_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consuming, "MAX_BUFFERED_BYTES", 100)
    receiving = _Consuming()

    receiving.deliver(1, b"1" * 1000)
    receiving.deliver(2, b"2")

    assert receiving.consumer.is_full
    assert [b"1" * 1000] == bodies_of(await receive(receiving.consumer, 1))


async def test_a_narrow_window_that_is_all_in_hand_is_asked_to_be_wider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consuming, "MAX_BUFFERED_BYTES", 100)
    receiving = _Consuming(prefetch=10)
    consumer = receiving.consumer
    for tag in range(1, 8):
        receiving.deliver(tag, b"x" * 40)
    consumer.put_back_excess()
    assert 1 == consumer.window.messages
    await receive(consumer, 2)
    receiving.new_consumer()

    waiting = asyncio.ensure_future(receive(consumer, 2))
    await asyncio.sleep(0)
    assert not consumer.wants_wider()
    receiving.deliver(8, b"x" * 40)
    await asyncio.sleep(0)
    assert consumer.wants_wider()
    receiving.new_consumer()
    receiving.deliver(9, b"x" * 40)

    assert 2 == len(await waiting)


async def test_a_gap_in_the_deliveries_ends_the_channel() -> None:
    receiving = _Consuming()
    lost: list[str] = []
    receiving.channel.on_lost = lambda error: lost.append(str(error))

    receiving.deliver(1, b"1")
    receiving.deliver(3, b"3")

    assert ["a delivery was lost on its way"] == lost
    assert not receiving.channel.is_open
    assert [b"1"] == bodies_of(await receive(receiving.consumer, 1))
