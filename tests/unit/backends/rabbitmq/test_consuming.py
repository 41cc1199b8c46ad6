"""What a consumer keeps, gives back and says, told by the frames that come in and go out."""

import asyncio

import pamqp.frame
from pamqp import base, commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

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
    consuming = _Consuming()
    consuming.deliver(1, b"1")
    consuming.deliver(2, b"2")
    in_hand = await receive(consuming.consumer, 1)

    consuming.consumer.end()
    await consuming.consumer.requeue(in_hand)
    waiting = asyncio.ensure_future(receive(consuming.consumer, 1))
    await asyncio.sleep(0)
    assert not waiting.done()
    consuming.begin()
    consuming.deliver(1, b"1 again")

    assert [b"1 again"] == bodies_of(await waiting)
    assert [] == consuming.put_back


async def test_what_is_put_back_aside_goes_to_the_broker_and_afterwards_stays_here_again() -> None:
    consuming = _Consuming()
    for tag in (1, 2, 3):
        consuming.deliver(tag, b"%d" % tag)
    first, second = await receive(consuming.consumer, 2)

    consuming.consumer.stand_aside()
    await consuming.consumer.requeue([first])
    consuming.consumer.step_in()
    await consuming.consumer.requeue([second])

    assert [b"2"] == bodies_of(await receive(consuming.consumer, 1))
    assert [(3, False), (1, True)] == consuming.put_back
