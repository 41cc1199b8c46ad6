"""What only a real RabbitMQ does to its clients, and what the broker makes of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aio_pika
import pytest

from fieldpost.backends.rabbitmq import consuming, hearing, publishing, queues, session
from fieldpost.backends.rabbitmq.opening import open_broker
from fieldpost.clock import SystemClock
from fieldpost.errors import BackendTimeoutError, BackendUnavailableError, QueueFullError
from fieldpost.observability import handling
from fieldpost.ports.broker import Broker
from tests.support.amqp_proxy import (
    ACK,
    CANCELLED,
    CHANNEL_OPENED,
    DELIVER,
    NACK,
    QUEUE_DECLARED,
    AmqpProxy,
    amqp_proxy,
)
from tests.support.consuming import bodies_of, receive
from tests.support.engines import RabbitMQ
from tests.support.waiting import eventually


@pytest.fixture
def url(rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch) -> str:
    # Nobody kills this one.
    monkeypatch.setattr(queues, "SETTLE_SECONDS", 0.0)
    return rabbitmq.empty_url()


@asynccontextmanager
async def _opened(url: str, *names: str) -> AsyncIterator[Broker]:
    async with open_broker(url, clock=SystemClock(), instance="test") as broker:
        for name in names or ("q",):
            await broker.declare(name, max_messages=10_000)
        yield broker


def _vhost(url: str) -> str:
    return url.rpartition("/")[2]


async def _manage(rabbitmq: RabbitMQ, method: str, path: str) -> Any:
    return await asyncio.to_thread(rabbitmq.manage, method, path)


async def _cut(rabbitmq: RabbitMQ, url: str) -> int:
    """Ends every connection to the virtual host, as an operator would; returns how many there were."""
    connections: list[dict[str, str]] = []

    async def are_known() -> bool:
        # The broker's statistics are some seconds old.
        connections[:] = await _manage(rabbitmq, "GET", f"/vhosts/{_vhost(url)}/connections")
        return len(connections) >= 2

    await eventually(are_known)
    for connection in connections:
        await _manage(rabbitmq, "DELETE", f"/connections/{connection['name']}")
    return len(connections)


async def test_a_large_message_goes_through_in_several_frames(url: str) -> None:
    body = bytes(range(256)) * 4096 * 3
    async with _opened(url) as broker, broker.consume(["q"], prefetch=1) as consumer:
        await broker.publish("q", [body])

        assert [body] == bodies_of(await receive(consumer, 1))


async def test_a_queue_of_another_bound_is_used_as_it_is(url: str) -> None:
    async with _opened(url) as broker:
        await broker.declare("q", max_messages=5)

        await broker.publish("q", [b"%d" % number for number in range(10)])

        assert 10 == await broker.depth("q")


async def test_thousands_of_publishes_at_once_are_confirmed_each(url: str) -> None:
    bodies = [b"%d" % number for number in range(3_000)]
    async with _opened(url) as broker:
        await asyncio.gather(*(broker.publish("q", [body]) for body in bodies))

        async with broker.consume(["q"], prefetch=3_000) as consumer:
            assert bodies == bodies_of(await receive(consumer, len(bodies)))


async def test_cancelled_publishes_leave_nothing_behind(url: str) -> None:
    async with _opened(url) as broker:
        publishes = [asyncio.create_task(broker.publish("q", [b"%d" % number])) for number in range(500)]
        for _ in range(20):
            await asyncio.sleep(0)
        for publish in publishes[::2]:
            publish.cancel()
        outcomes = await asyncio.gather(*publishes, return_exceptions=True)
        confirmed = {b"%d" % number for number, outcome in enumerate(outcomes) if outcome is None}
        depth = await broker.depth("q")
        async with broker.consume(["q"], prefetch=1_000) as consumer:
            received = bodies_of(await receive(consumer, depth))

    assert len(received) == len(set(received))
    assert confirmed <= set(received)


async def test_more_on_the_way_than_the_bound_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "MAX_UNCONFIRMED", 50)
    async with _opened(url) as broker:
        outcomes = await asyncio.gather(*(broker.publish("q", [b"x"]) for _ in range(60)), return_exceptions=True)

        assert 50 == outcomes.count(None)
        assert 50 == await broker.depth("q")
        await broker.publish("q", [b"x"])


async def test_a_full_queue_refuses_a_crowd_and_costs_no_connection(rabbitmq: RabbitMQ, url: str) -> None:
    async with amqp_proxy(url, rabbitmq.nodes[0].ports.amqp) as proxy, _opened(proxy.url) as broker:
        await broker.declare("small", max_messages=20)
        before = proxy.connections

        outcomes = await asyncio.gather(*(broker.publish("small", [b"x"]) for _ in range(500)), return_exceptions=True)

        refused = [outcome for outcome in outcomes if outcome is not None]
        assert all(isinstance(outcome, QueueFullError) for outcome in refused)
        assert len(outcomes) - len(refused) == await broker.depth("small")
        assert before == proxy.connections


async def test_what_came_over_a_lost_connection_comes_again_and_its_acks_hit_nothing(
    rabbitmq: RabbitMQ, url: str
) -> None:
    async with _opened(url) as broker, broker.consume(["q"], prefetch=3) as consumer:
        await broker.publish("q", [b"1", b"2", b"3"])
        old = await receive(consumer, 3)

        assert 2 == await _cut(rabbitmq, url)
        new = await receive(consumer, 3)
        await consumer.ack(old)
        await consumer.requeue(old)
        await consumer.ack(new[:1])

        assert [b"1", b"2", b"3"] == bodies_of(new)
        async with broker.consume(["q"], prefetch=3) as other:
            await consumer.requeue(new[1:])
            assert [b"2", b"3"] == bodies_of(await receive(other, 2))


async def test_a_deleted_queue_is_made_again_for_its_consumers(rabbitmq: RabbitMQ, url: str) -> None:
    async with _opened(url, "q", "other") as broker, broker.consume(["q", "other"], prefetch=3) as consumer:
        await broker.publish("q", [b"before"])
        await consumer.ack(await receive(consumer, 1))
        waiting = asyncio.create_task(receive(consumer, 1))

        async def is_there() -> bool:
            try:
                return await broker.depth("q") == 0
            except BackendUnavailableError:
                return False

        await _manage(rabbitmq, "DELETE", f"/queues/{_vhost(url)}/q")
        await eventually(is_there)
        await broker.publish("q", [b"after"])

        assert [b"after"] == bodies_of(await waiting)


async def test_a_deleted_queue_is_made_again_for_its_publishers(rabbitmq: RabbitMQ, url: str) -> None:
    async with _opened(url) as broker:
        await broker.publish("q", [b"before"])

        await _manage(rabbitmq, "DELETE", f"/queues/{_vhost(url)}/q")
        await broker.publish("q", [b"after"])

        async with broker.consume(["q"], prefetch=3) as consumer:
            assert [b"after"] == bodies_of(await receive(consumer, 1))


@asynccontextmanager
async def _behind_proxy(rabbitmq: RabbitMQ, url: str) -> AsyncIterator[tuple[AmqpProxy, Broker]]:
    async with amqp_proxy(url, rabbitmq.nodes[0].ports.amqp) as proxy, _opened(proxy.url) as broker:
        yield proxy, broker


def _watched(proxy: AmqpProxy) -> Counter[bytes]:
    """Counts the broker's methods from now on, by how they begin."""
    seen: Counter[bytes] = Counter()

    def look(_connection: int, kind: int, _channel: int, payload: bytes) -> bytes:
        if kind == 1:
            seen[payload[:4]] += 1
        return payload

    proxy.change = look
    return seen


async def test_a_channel_that_answers_nack_for_ever_is_replaced(rabbitmq: RabbitMQ, url: str) -> None:
    async with _behind_proxy(rabbitmq, url) as (proxy, broker):
        await broker.publish("q", [b"1"])
        nacked = 0
        is_replaced = False

        def nack(_connection: int, kind: int, _channel: int, payload: bytes) -> bytes:
            nonlocal nacked, is_replaced
            is_replaced = is_replaced or (kind == 1 and payload[:4] == CHANNEL_OPENED)
            if payload[:4] == ACK and kind == 1 and not is_replaced:
                nacked += 1
                return NACK + payload[4:]
            return payload

        proxy.change = nack
        connections = proxy.connections
        await asyncio.gather(*(broker.publish("q", [b"2"]) for _ in range(20)))

        assert nacked
        assert is_replaced
        assert connections == proxy.connections


async def test_a_node_that_answers_nack_for_ever_is_left_for_another(rabbitmq: RabbitMQ, url: str) -> None:
    async with _behind_proxy(rabbitmq, url) as (proxy, broker):
        await broker.publish("q", [b"1"])
        bad = proxy.connections

        def nack(connection: int, kind: int, _channel: int, payload: bytes) -> bytes:
            is_bad = connection <= bad and payload[:4] == ACK and kind == 1
            return NACK + payload[4:] if is_bad else payload

        proxy.change = nack
        await asyncio.gather(*(broker.publish("q", [b"2"]) for _ in range(20)))

        assert bad + 1 == proxy.connections


async def test_a_broker_that_only_ever_refuses_is_told_of_in_time(
    rabbitmq: RabbitMQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "CONFIRM_SECONDS", 2.0)
    async with _behind_proxy(rabbitmq, url) as (proxy, broker):
        proxy.change = lambda _connection, kind, _channel, payload: (
            NACK + payload[4:] if kind == 1 and payload[:4] == ACK else payload
        )

        with pytest.raises(BackendUnavailableError):
            await broker.publish("q", [b"1"])


async def test_a_confirm_that_does_not_come_is_a_timeout_and_the_next_publish_succeeds(
    rabbitmq: RabbitMQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "CONFIRM_SECONDS", 1.0)
    async with _behind_proxy(rabbitmq, url) as (proxy, broker):
        proxy.change = lambda _connection, kind, _channel, payload: (
            None if kind == 1 and payload[:4] == ACK else payload
        )
        outcomes = await asyncio.gather(*(broker.publish("q", [b"1"]) for _ in range(5)), return_exceptions=True)
        proxy.change = lambda _connection, _kind, _channel, payload: payload
        monkeypatch.setattr(publishing, "CONFIRM_SECONDS", 30.0)
        await broker.publish("q", [b"2"])

        assert [BackendTimeoutError] * 5 == [type(outcome) for outcome in outcomes]


async def test_a_connection_lost_before_the_confirm_is_no_error_when_another_confirms(
    rabbitmq: RabbitMQ, url: str
) -> None:
    async with _behind_proxy(rabbitmq, url) as (proxy, broker):
        await broker.publish("q", [b"1"])
        bad = proxy.connections
        proxy.change = lambda connection, kind, _channel, payload: (
            # What no client can read ends the connection.
            b"\0\0\0\0" if connection <= bad and kind == 1 and payload[:4] == ACK else payload
        )

        await broker.publish("q", [b"2"])

        assert bad + 1 == proxy.connections


async def test_a_deaf_consumer_is_found_and_rebuilt(
    rabbitmq: RabbitMQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "DEAF_SECONDS", 1.0)
    swallowed: list[bytes] = []
    async with _behind_proxy(rabbitmq, url) as (proxy, broker), broker.consume(["q"], prefetch=1) as consumer:
        await broker.publish("q", [b"heard"])
        await consumer.ack(await receive(consumer, 1))
        deaf = proxy.connections

        def swallow(connection: int, kind: int, channel: int, payload: bytes) -> bytes | None:
            is_content = kind in (2, 3) or (kind == 1 and payload[:4] == DELIVER)
            if connection <= deaf and channel and is_content:
                swallowed.append(payload)
                return None
            return payload

        proxy.change = swallow
        await broker.publish("q", [b"1", b"2", b"3"])
        received = await receive(consumer, 1)

        assert swallowed
        assert [b"1"] == bodies_of(received)
        assert deaf + 1 == proxy.connections


class _Loss:
    """Swallows messages on their way to consumers, until another channel is opened."""

    def __init__(self, proxy: AmqpProxy, *, at_most: int = 1_000) -> None:
        self.count = 0
        self.channels = 0
        self._at_most = at_most
        self._is_lost = False
        proxy.change = self._change

    def _change(self, _connection: int, kind: int, channel: int, payload: bytes) -> bytes | None:
        if kind == 1 and payload[:4] == CHANNEL_OPENED:
            self.channels += 1
        if kind == 1 and payload[:4] == DELIVER:
            self._is_lost = self.count < self._at_most and not self.channels
            self.count += self._is_lost
        is_content = channel and (kind in (2, 3) or (kind == 1 and payload[:4] == DELIVER))
        return None if self._is_lost and is_content else payload


async def test_messages_that_were_lost_in_a_channel_come_again_although_none_waits_in_the_queue(
    rabbitmq: RabbitMQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "STALE_SECONDS", 1.0)
    async with _behind_proxy(rabbitmq, url) as (proxy, broker), broker.consume(["q"], prefetch=10) as consumer:
        await broker.publish("q", [b"heard"])
        await consumer.ack(await receive(consumer, 1))
        before = proxy.connections
        loss = _Loss(proxy)
        await broker.publish("q", [b"1", b"2", b"3"])

        assert [b"1", b"2", b"3"] == bodies_of(await receive(consumer, 3))
        assert 3 == loss.count
        assert before == proxy.connections


async def test_a_message_that_was_lost_before_another_is_missed_at_once(rabbitmq: RabbitMQ, url: str) -> None:
    async with _behind_proxy(rabbitmq, url) as (proxy, broker), broker.consume(["q"], prefetch=10) as consumer:
        await broker.publish("q", [b"heard"])
        await consumer.ack(await receive(consumer, 1))
        # From here on it does not stand aside.
        waiting = asyncio.create_task(receive(consumer, 2))
        loss = _Loss(proxy, at_most=1)
        await broker.publish("q", [b"1"])
        await eventually(lambda: loss.count == 1)
        await broker.publish("q", [b"2"])

        assert [b"1", b"2"] == sorted(bodies_of(await waiting))
        assert 1 == loss.channels


async def test_messages_that_were_lost_to_a_consumer_that_stands_aside_go_to_others(
    rabbitmq: RabbitMQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "ASIDE_SECONDS", 0.1)
    async with _behind_proxy(rabbitmq, url) as (proxy, broker), broker.consume(["q"], prefetch=10) as aside:
        await broker.publish("q", [b"heard"])
        await aside.ack(await receive(aside, 1))
        waiting = asyncio.create_task(aside.receive(1))
        loss = _Loss(proxy)
        await broker.publish("q", [b"1", b"2"])
        await eventually(lambda: loss.count == 2)
        waiting.cancel()

        async with _opened(url) as other_broker, other_broker.consume(["q"], prefetch=10) as other:
            received = await receive(other, 2)
            await other.ack(received)
        await broker.publish("q", [b"3"])

        assert [b"1", b"2"] == bodies_of(received)
        assert [b"3"] == bodies_of(await receive(aside, 1))


async def test_a_consumer_that_is_slow_with_what_it_has_is_left_alone(
    rabbitmq: RabbitMQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "STALE_SECONDS", 0.1)
    monkeypatch.setattr(hearing, "DEAF_SECONDS", 0.1)
    async with _behind_proxy(rabbitmq, url) as (proxy, broker), broker.consume(["q", "other"], prefetch=3) as consumer:
        await broker.declare("other", max_messages=10)
        await broker.publish("q", [b"slow"])
        in_hand = await receive(consumer, 1)
        before = proxy.connections
        waiting = asyncio.create_task(receive(consumer, 1))
        seen = _watched(proxy)
        await eventually(lambda: seen[QUEUE_DECLARED] >= 5)
        await broker.publish("q", [b"next"])

        assert [b"next"] == bodies_of(await waiting)
        assert before == proxy.connections
        assert 1 == seen[DELIVER]
        await consumer.ack(in_hand)


async def test_what_was_lost_behind_a_message_in_hand_comes_again_after_the_broker_s_own_time(
    rabbitmq: RabbitMQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "STALE_SECONDS", 0.1)
    await asyncio.to_thread(rabbitmq.control, "eval", _timeouts(consumer_seconds=2, tick_seconds=1))
    try:
        async with _behind_proxy(rabbitmq, url) as (proxy, broker), broker.consume(["q"], prefetch=3) as consumer:
            await broker.publish("q", [b"1"])
            await receive(consumer, 1)
            loss = _Loss(proxy)
            await broker.publish("q", [b"2"])

            assert [b"1", b"2"] == sorted(bodies_of(await receive(consumer, 2)))
            assert 1 == loss.count
    finally:
        await asyncio.to_thread(rabbitmq.control, "eval", _timeouts(consumer_seconds=1_800, tick_seconds=60))


def _timeouts(*, consumer_seconds: int, tick_seconds: int) -> str:
    """For channels that are opened from now on."""
    return (
        f"application:set_env(rabbit, consumer_timeout, {1000 * consumer_seconds}), "
        f"application:set_env(rabbit, channel_tick_interval, {1000 * tick_seconds})."
    )


async def test_a_consumer_that_waits_for_nothing_is_left_alone(
    rabbitmq: RabbitMQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "DEAF_SECONDS", 0.1)
    async with _behind_proxy(rabbitmq, url) as (proxy, broker), broker.consume(["q"], prefetch=1) as consumer:
        waiting = asyncio.create_task(receive(consumer, 1))
        looked: list[bytes] = []

        def look(_connection: int, kind: int, _channel: int, payload: bytes) -> bytes:
            # Answers to the watchdog's questions.
            if kind == 1 and payload[:4] == QUEUE_DECLARED:
                looked.append(payload)
            return payload

        proxy.change = look
        before = proxy.connections
        await eventually(lambda: len(looked) >= 5)
        await broker.publish("q", [b"1"])

        assert [b"1"] == bodies_of(await waiting)
        assert before == proxy.connections


async def test_a_consumer_that_was_aside_with_a_message_in_hand_goes_on_with_its_connection(
    rabbitmq: RabbitMQ, url: str
) -> None:
    async with _behind_proxy(rabbitmq, url) as (proxy, broker), broker.consume(["q"], prefetch=3) as consumer:
        seen = _watched(proxy)
        await broker.publish("q", [b"1"])
        in_hand = await receive(consumer, 1)
        await eventually(lambda: seen[CANCELLED] == 1)
        before = proxy.connections

        await broker.publish("q", [b"2"])
        second = await receive(consumer, 1)
        await consumer.ack([*in_hand, *second])
        await broker.publish("q", [b"3"])

        assert [b"2", b"3"] == bodies_of([*second, *await receive(consumer, 1)])
        assert before == proxy.connections


async def test_what_a_consumer_puts_back_while_it_is_aside_goes_to_others(rabbitmq: RabbitMQ, url: str) -> None:
    async with _behind_proxy(rabbitmq, url) as (proxy, broker), broker.consume(["q"], prefetch=3) as aside:
        seen = _watched(proxy)
        await broker.publish("q", [b"1", b"2", b"3"])
        in_hand = await receive(aside, 3)
        await eventually(lambda: seen[CANCELLED] == 1)

        async with _opened(url) as other_broker, other_broker.consume(["q"], prefetch=3) as other:
            await aside.requeue(in_hand[:2])
            received = await receive(other, 2)
            await other.ack(received)
            await aside.ack(in_hand[2:])
        await broker.publish("q", [b"4"])

        assert [b"1", b"2"] == bodies_of(received)
        assert [b"4"] == bodies_of(await receive(aside, 1))


async def test_large_messages_are_bounded_by_their_bytes_and_each_comes_once(
    rabbitmq: RabbitMQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "MAX_BUFFERED_BYTES", 2**20)
    # 64 KiB each: 16 fit. The last one would not fit alone.
    bodies = [bytes([number]) * 2**16 for number in range(100)] + [b"large" * 2**20]
    async with _behind_proxy(rabbitmq, url) as (proxy, broker):
        await broker.publish("q", bodies)
        seen = _watched(proxy)
        async with broker.consume(["q"], prefetch=200) as consumer:
            # It has been taken out of the turn with too much.
            await eventually(lambda: seen[CANCELLED] == 1)
            received: list[bytes] = []
            counts: list[int] = []
            async with asyncio.timeout(30):
                while len(received) < len(bodies):
                    deliveries = await consumer.receive(200)
                    counts.append(len(deliveries))
                    received += bodies_of(deliveries)
                    await consumer.ack(deliveries)

        # What was given back more than once comes behind the rest of what was.
        assert sorted(bodies) == sorted(received)
        assert max(counts) <= 16
        # The first time they come all at once, then about as many as fit.
        assert seen[DELIVER] <= 3 * len(bodies)
        assert 0 == await broker.depth("q")


async def test_what_does_not_fit_here_goes_to_others(
    rabbitmq: RabbitMQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "MAX_BUFFERED_BYTES", 1000)
    bodies = [b"%03d" % number * 100 for number in range(20)]
    async with _behind_proxy(rabbitmq, url) as (proxy, broker), broker.consume(["q"], prefetch=200) as full:
        seen = _watched(proxy)
        await broker.publish("q", bodies)
        await eventually(lambda: seen[CANCELLED] == 1)

        async with _opened(url) as other_broker, other_broker.consume(["q"], prefetch=1) as other:
            received: list[bytes] = []
            while len(received) < len(bodies) - 3:
                deliveries = await receive(other, 1)
                received += bodies_of(deliveries)
                await other.ack(deliveries)
        kept = await receive(full, 3)

        assert bodies == sorted([*bodies_of(kept), *received])


async def test_nobody_to_connect_to_is_told_at_once_and_at_leaving_too() -> None:
    url = "amqp://127.0.0.1:1,127.0.0.1:2/"
    async with (
        open_broker(url, clock=SystemClock(), instance="test") as broker,
        broker.consume(["q"], prefetch=1) as consumer,
    ):
        waiting = asyncio.create_task(receive(consumer, 1))
        with pytest.raises(BackendUnavailableError):
            await broker.publish("q", [b"1"])
        with pytest.raises(BackendUnavailableError):
            await broker.depth("q")
        waiting.cancel()


async def test_a_wrong_password_is_no_connection(rabbitmq: RabbitMQ, url: str) -> None:
    async with open_broker(url.replace("guest:guest", "guest:wrong"), clock=SystemClock(), instance="test") as broker:
        with pytest.raises(BackendUnavailableError):
            await broker.publish("q", [b"1"])


async def test_a_request_s_message_has_its_trace_as_a_header_and_several_together_have_none(url: str) -> None:
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    async with _opened(url) as broker:
        with handling(uuid4(), traceparent):
            await broker.publish("q", [b"one"])
            with pytest.raises(BackendUnavailableError, match="not declared"):
                await broker.publish("nowhere", [b"lost"])
            await broker.publish("q", [b"two", b"three"])
        connection = await aio_pika.connect(url)
        async with connection, connection.channel() as channel:
            queue = await channel.get_queue("q", ensure=False)
            messages = [await queue.get(no_ack=True) for _ in range(3)]

    assert [b"one", b"two", b"three"] == [message.body for message in messages]
    assert [{"traceparent": traceparent}, {}, {}] == [
        {name: value for name, value in message.headers.items() if name == "traceparent"} for message in messages
    ]
