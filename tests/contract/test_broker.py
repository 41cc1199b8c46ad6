"""What every broker promises; see fieldpost.ports.broker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from fieldpost.backends.rabbitmq import queues as rabbitmq_queues
from fieldpost.backends.rabbitmq.opening import open_broker
from fieldpost.backends.sqlite import queue as sqlite_queue
from fieldpost.backends.sqlite.opening import open_database
from fieldpost.clock import SystemClock
from fieldpost.errors import BackendUnavailableError, QueueFullError
from fieldpost.ports.broker import Broker, Consumer, Delivery
from tests.support.consuming import bodies_of, receive
from tests.support.engines import RabbitMQ
from tests.support.waiting import eventually

Reopen = Callable[[], AbstractAsyncContextManager[Broker]]


@pytest.fixture(params=["sqlite", "rabbitmq"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reopen:
    """Opens the same broker again, as after a restart."""
    if request.param == "rabbitmq":
        # Nobody kills this one.
        monkeypatch.setattr(rabbitmq_queues, "SETTLE_SECONDS", 0.0)
        rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
        return _reopen_rabbitmq(rabbitmq.empty_url())

    @asynccontextmanager
    async def reopened() -> AsyncIterator[Broker]:
        async with open_database(tmp_path / "fieldpost.db") as engines:
            await engines.broker.declare("q", max_messages=10_000)
            yield engines.broker

    return reopened


def _reopen_rabbitmq(url: str) -> Reopen:
    @asynccontextmanager
    async def reopened() -> AsyncIterator[Broker]:
        async with open_broker(url, clock=SystemClock(), instance="test") as broker:
            await broker.declare("q", max_messages=10_000)
            yield broker

    return reopened


@pytest.fixture
async def broker(reopen: Reopen) -> AsyncIterator[Broker]:
    async with reopen() as opened:
        yield opened


async def _until_depth(broker: Broker, queue: str, depth: int) -> None:
    async def is_reached() -> bool:
        return await broker.depth(queue) == depth

    await eventually(is_reached)


async def test_messages_arrive_in_the_order_of_publishing(broker: Broker) -> None:
    await broker.publish("q", [b"1", b"2"])
    await broker.publish("q", [b"3"])

    async with broker.consume(["q"], prefetch=10) as consumer:
        received = await receive(consumer, 3)

    assert [b"1", b"2", b"3"] == bodies_of(received)


async def test_a_waiting_consumer_hears_of_a_new_message(broker: Broker) -> None:
    async with broker.consume(["q"], prefetch=1) as consumer:
        waiting = asyncio.create_task(receive(consumer, 1))
        await broker.publish("q", [b"late"])

        assert [b"late"] == bodies_of(await waiting)


async def test_an_acknowledged_message_is_gone_for_good(reopen: Reopen) -> None:
    async with reopen() as broker:
        await broker.publish("q", [b"1", b"2"])
        async with broker.consume(["q"], prefetch=10) as consumer:
            first, _ = await receive(consumer, 2)
            await consumer.ack([first])
        await _until_depth(broker, "q", 1)

    async with reopen() as broker:
        assert 1 == await broker.depth("q")
        async with broker.consume(["q"], prefetch=10) as consumer:
            assert [b"2"] == bodies_of(await receive(consumer, 1))


async def test_what_was_not_acknowledged_comes_again_when_the_consumer_leaves(broker: Broker) -> None:
    await broker.publish("q", [b"1", b"2", b"3"])
    async with broker.consume(["q"], prefetch=2) as consumer:
        await receive(consumer, 2)

    async with broker.consume(["q"], prefetch=10) as consumer:
        assert [b"1", b"2", b"3"] == bodies_of(await receive(consumer, 3))


async def test_a_requeued_message_comes_again_first(broker: Broker) -> None:
    await broker.publish("q", [b"1", b"2"])
    async with broker.consume(["q"], prefetch=10) as consumer:
        (first,) = await receive(consumer, 1)
        await consumer.requeue([first])

        assert [b"1", b"2"] == bodies_of(await receive(consumer, 2))


async def test_what_one_consumer_puts_back_another_gets(broker: Broker) -> None:
    await broker.publish("q", [b"1", b"2"])
    async with broker.consume(["q"], prefetch=10) as one:
        in_hand = await receive(one, 2)
        async with broker.consume(["q"], prefetch=10) as other:
            await one.requeue(in_hand)

            assert [b"1", b"2"] == bodies_of(await receive(other, 2))


async def test_a_consumer_that_does_not_receive_keeps_nothing_from_another(broker: Broker) -> None:
    async with broker.consume(["q"], prefetch=1) as busy, broker.consume(["q"], prefetch=1) as idle:
        await broker.publish("q", [b"long"])
        await busy.ack(await receive(busy, 1))
        bodies = [b"%d" % number for number in range(5)]
        await broker.publish("q", bodies)

        received: list[Delivery] = []
        while len(received) < len(bodies):
            received += await receive(idle, 1)
            await idle.ack(received[-1:])

    assert sorted(bodies) == sorted(bodies_of(received))


async def test_prefetch_bounds_what_is_in_hand(broker: Broker) -> None:
    await broker.publish("q", [b"1", b"2", b"3"])
    async with broker.consume(["q"], prefetch=2) as consumer:
        in_hand = await receive(consumer, 2)
        blocked = asyncio.create_task(receive(consumer, 1))
        await asyncio.sleep(0)
        assert not blocked.done()

        await consumer.ack(in_hand[:1])

        assert [b"3"] == bodies_of(await blocked)


async def test_queues_named_first_go_first(broker: Broker) -> None:
    await broker.declare("urgent", max_messages=10)
    await broker.publish("q", [b"first"])

    async with broker.consume(["urgent", "q"], prefetch=1) as consumer:
        first = await receive(consumer, 1)
        await broker.publish("q", [b"slow"])
        await broker.publish("urgent", [b"fast"])
        await consumer.ack(first)

        fast = await receive(consumer, 1)
        await consumer.ack(fast)
        assert [b"fast", b"slow"] == bodies_of([*fast, *await receive(consumer, 1)])


async def test_two_consumers_share_a_queue_and_no_message_goes_to_both(broker: Broker) -> None:
    bodies = [str(number).encode() for number in range(200)]
    async with broker.consume(["q"], prefetch=5) as one, broker.consume(["q"], prefetch=5) as other:
        received: list[bytes] = []

        async def work(consumer: Consumer) -> None:
            while True:
                deliveries = await consumer.receive(5)
                received.extend(bodies_of(deliveries))
                await consumer.ack(deliveries)

        workers = [asyncio.create_task(work(consumer)) for consumer in (one, other)]
        await asyncio.gather(*(broker.publish("q", [body]) for body in bodies))
        await eventually(lambda: len(received) >= len(bodies))
        for worker in workers:
            worker.cancel()

    assert sorted(bodies) == sorted(received)
    assert 0 == await broker.depth("q")


async def test_a_full_queue_refuses_and_keeps_what_it_has(broker: Broker) -> None:
    await broker.declare("small", max_messages=2)
    await broker.publish("small", [b"1", b"2"])

    with pytest.raises(QueueFullError):
        await broker.publish("small", [b"3"])

    await _until_depth(broker, "small", 2)
    async with broker.consume(["small"], prefetch=10) as consumer:
        await consumer.ack((await receive(consumer, 2))[:1])
        await broker.publish("small", [b"4"])
        assert [b"4"] == bodies_of(await receive(consumer, 1))


async def test_a_queue_that_was_not_declared_is_noticed(broker: Broker) -> None:
    with pytest.raises(BackendUnavailableError):
        await broker.publish("nowhere", [b"1"])


async def test_publishing_nothing_is_nothing(broker: Broker) -> None:
    await broker.publish("q", [])

    assert 0 == await broker.depth("q")


async def test_an_empty_body_is_a_message(broker: Broker) -> None:
    await broker.publish("q", [b""])

    async with broker.consume(["q"], prefetch=1) as consumer:
        assert [b""] == bodies_of(await receive(consumer, 1))


async def test_a_cancelled_receive_loses_nothing(broker: Broker) -> None:
    async with broker.consume(["q"], prefetch=10) as consumer:
        waiting = asyncio.create_task(receive(consumer, 1))
        await asyncio.sleep(0)
        waiting.cancel()
        await broker.publish("q", [b"1"])

        assert [b"1"] == bodies_of(await receive(consumer, 1))


async def test_a_cancelled_publish_is_whole_or_not_there(broker: Broker) -> None:
    publishing = asyncio.create_task(broker.publish("q", [b"1", b"2"]))
    await asyncio.sleep(0)
    publishing.cancel()
    await broker.publish("q", [b"3"])
    depth = await broker.depth("q")

    async with broker.consume(["q"], prefetch=10) as consumer:
        received = bodies_of(await receive(consumer, depth))

    assert received in ([b"3"], [b"1", b"2", b"3"])


async def test_everything_is_there_after_a_restart_in_order(reopen: Reopen) -> None:
    bodies = [str(number).encode() for number in range(2_500)]
    async with reopen() as broker:
        for start in range(0, len(bodies), 100):
            await broker.publish("q", bodies[start : start + 100])

    async with reopen() as broker:
        assert len(bodies) == await broker.depth("q")
        async with broker.consume(["q"], prefetch=5_000) as consumer:
            received = bodies_of(await receive(consumer, len(bodies)))

    assert bodies == received


async def test_more_than_memory_holds_goes_through_the_disk_in_order(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_queue, "MAX_READY_BYTES", 50)
    bodies = [f"message {number}".encode() for number in range(300)]
    received: list[bytes] = []
    async with broker.consume(["q"], prefetch=7) as consumer:

        async def work() -> None:
            while len(received) < len(bodies):
                deliveries = await consumer.receive(7)
                received.extend(bodies_of(deliveries))
                await consumer.ack(deliveries)

        working = asyncio.create_task(work())
        for start in range(0, len(bodies), 10):
            await broker.publish("q", bodies[start : start + 10])
        async with asyncio.timeout(30):
            await working

    assert bodies == received
    assert 0 == await broker.depth("q")
