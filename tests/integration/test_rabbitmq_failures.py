"""A RabbitMQ that is killed, frozen, or short of memory, under what the product does with it."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fieldpost.backends.rabbitmq import publishing
from fieldpost.backends.rabbitmq.opening import open_broker
from fieldpost.clock import SystemClock
from fieldpost.errors import BackendTimeoutError, BackendUnavailableError, UnavailableError
from fieldpost.ports.broker import Broker
from tests.support.engines import Engines, RabbitMQ
from tests.support.waiting import eventually

#: Beside it, what a call may be late on a busy machine.
_SPARE_SECONDS = 10.0


@pytest.fixture(scope="module")
def fragile(engine_place: Engines) -> Iterator[RabbitMQ]:
    """A node that tests of this module may harm, one after the other."""
    rabbitmq = RabbitMQ(engine_place)
    yield rabbitmq
    rabbitmq.kill(1)


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Broker]:
    async with open_broker(url, clock=SystemClock(), instance="test") as broker:
        await broker.declare("q", max_messages=100_000)
        yield broker


class _Workload:
    """Publishers and a consumer that go on whatever happens; remembers what was confirmed, and what came."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.confirmed: set[bytes] = set()
        self.errors: list[UnavailableError] = []
        self.received: set[bytes] = set()
        self._is_over = False
        self._publishing = 0

    async def finish(self) -> None:
        """Returns when all that was confirmed has come; the confirm of a message may come after the message itself."""
        self._is_over = True
        await eventually(lambda: not self._publishing and self.confirmed <= self.received, seconds=60)

    async def publish(self, name: str) -> None:
        number = 0
        self._publishing += 1
        while not self._is_over:
            body = f"{name} {number}".encode()
            number += 1
            try:
                await self._broker.publish("q", [body])
            except UnavailableError as error:
                self.errors.append(error)
                await asyncio.sleep(0.05)
            else:
                self.confirmed.add(body)
        self._publishing -= 1

    async def consume(self) -> None:
        async with self._broker.consume(["q"], prefetch=200) as consumer:
            while True:
                deliveries = await consumer.receive(100)
                self.received.update(delivery.body for delivery in deliveries)
                await consumer.ack(deliveries)

    async def goes_on(self, *, count: int = 200) -> None:
        """Returns when so many more were confirmed, and as many more came."""
        confirmed, received = len(self.confirmed), len(self.received)
        await eventually(
            lambda: len(self.confirmed) >= confirmed + count and len(self.received) >= received + count, seconds=60
        )


async def _survives(url: str, harm: Callable[[_Workload], Any]) -> _Workload:
    async with _opened(url) as broker:
        workload = _Workload(broker)
        async with asyncio.TaskGroup() as tasks:
            for number in range(10):
                tasks.create_task(workload.publish(f"publisher {number}"))
            consuming = tasks.create_task(workload.consume())
            await workload.goes_on()
            await harm(workload)
            await workload.goes_on()
            await workload.finish()
            consuming.cancel()
    return workload


async def test_a_node_killed_right_after_the_first_confirm_has_the_message(fragile: RabbitMQ) -> None:
    async with _opened(fragile.empty_url()) as broker:
        await broker.publish("q", [b"1"])
        await asyncio.to_thread(fragile.kill, 1)
        await asyncio.to_thread(fragile.restart, 1)

        async with broker.consume(["q"], prefetch=1) as consumer, asyncio.timeout(60):
            assert [b"1"] == [delivery.body for delivery in await consumer.receive(1)]


async def test_a_killed_node_comes_back_with_its_messages_consumers_and_publishers(fragile: RabbitMQ) -> None:
    async def harm(workload: _Workload) -> None:
        await asyncio.to_thread(fragile.kill, 1)
        await eventually(lambda: any(isinstance(error, BackendUnavailableError) for error in workload.errors))
        await asyncio.to_thread(fragile.restart, 1)

    await _survives(fragile.empty_url(), harm)


async def test_a_frozen_node_delays_nobody_for_longer_than_the_bound(
    fragile: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "CONFIRM_SECONDS", 2.0)
    async with _opened(fragile.empty_url()) as broker, broker.consume(["q"], prefetch=1) as consumer:
        await broker.publish("q", [b"before"])
        fragile.send(1, signal.SIGSTOP)
        try:
            async with asyncio.timeout(publishing.CONFIRM_SECONDS + _SPARE_SECONDS):
                outcomes = await asyncio.gather(
                    *(broker.publish("q", [b"lost"]) for _ in range(5)), return_exceptions=True
                )
            # Its silence is known now: it is not waited for again.
            with pytest.raises(UnavailableError):
                await broker.publish("q", [b"refused"])
        finally:
            fragile.send(1, signal.SIGCONT)

        assert all(isinstance(outcome, BackendTimeoutError) for outcome in outcomes)

        async def is_taken() -> bool:
            try:
                await broker.publish("q", [b"after"])
            except UnavailableError:
                return False
            return True

        await eventually(is_taken)
        bodies: list[bytes] = []
        async with asyncio.timeout(60):
            while b"after" not in bodies:
                deliveries = await consumer.receive(1)
                bodies += [delivery.body for delivery in deliveries]
                await consumer.ack(deliveries)
        assert b"before" in bodies


async def _publish_until_refused(broker: Broker) -> None:
    while True:
        with contextlib.suppress(BackendTimeoutError):
            await broker.publish("q", [b"refused"])


async def test_a_broker_short_of_memory_refuses_at_once_and_consumers_go_on(fragile: RabbitMQ) -> None:
    url = fragile.empty_url()
    async with _opened(url) as broker, broker.consume(["q"], prefetch=1) as consumer:
        await broker.publish("q", [b"1", b"2"])
        await asyncio.to_thread(fragile.control, "set_vm_memory_high_watermark", "absolute", "10MB")
        try:
            # The first one the broker does not read, and says why to the next.
            async with asyncio.timeout(4 * publishing.CONFIRM_SECONDS + _SPARE_SECONDS):
                with pytest.raises(BackendUnavailableError, match="memory"):
                    await _publish_until_refused(broker)
            async with asyncio.timeout(30):
                await consumer.ack(await consumer.receive(1))
                assert [b"2"] == [delivery.body for delivery in await consumer.receive(1)]
        finally:
            await asyncio.to_thread(fragile.control, "set_vm_memory_high_watermark", "absolute", "512MB")

        async def is_taken() -> bool:
            try:
                await broker.publish("q", [b"after"])
            except UnavailableError:
                return False
            return True

        await eventually(is_taken)


@pytest.fixture
def three(engine_place: Engines) -> Iterator[RabbitMQ]:
    """A cluster of three nodes."""
    rabbitmq = RabbitMQ(engine_place, nodes=3)
    yield rabbitmq
    for node in rabbitmq.nodes:
        rabbitmq.kill(node.number)


def _leader(rabbitmq: RabbitMQ, *, node: int = 1) -> int:
    """The number of the node that leads the queue, as a node sees it."""
    queue = rabbitmq.manage("GET", "/queues/%2F/q", node=node)
    return int(queue["leader"].removeprefix("fieldpost").partition("@")[0])


async def test_a_killed_leader_loses_nothing_that_was_confirmed(three: RabbitMQ) -> None:
    async with _opened(three.url):
        leader = await asyncio.to_thread(_leader, three)

    async def harm(workload: _Workload) -> None:
        await asyncio.to_thread(three.kill, leader)
        # While it is away: two of three are a majority.
        await workload.goes_on()
        assert leader != await asyncio.to_thread(_leader, three, node=leader % 3 + 1)

    await _survives(three.url, harm)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_every_node_in_turn_is_killed_or_frozen_and_nothing_confirmed_is_lost(three: RabbitMQ) -> None:
    async def harm(workload: _Workload) -> None:
        for number in (1, 2, 3):
            await asyncio.to_thread(three.kill, number)
            await workload.goes_on()
            await asyncio.to_thread(three.restart, number)
            await workload.goes_on()
        for number in (1, 2, 3):
            three.send(number, signal.SIGSTOP)
            await workload.goes_on()
            three.send(number, signal.SIGCONT)
            await workload.goes_on()

    await _survives(three.url, harm)
