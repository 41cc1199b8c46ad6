"""Confirmed publishes from one process, beside aio-pika alone on the same broker: `python -m bench.rabbitmq`."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika

from fieldpost.backends.rabbitmq.opening import open_broker
from fieldpost.clock import SystemClock
from tests.support.engines import RabbitMQ, engines

BODY = b"x" * 400
MESSAGES = 5_000
#: How many publishers wait for a confirm at once.
PUBLISHERS = (50, 500)
ROUNDS = 5

#: Publishes a second, and this process's own CPU for each in microseconds.
Figures = tuple[float, float]


async def measure(publish: Callable[[], Awaitable[Any]], publishers: int) -> Figures:
    left = iter(range(MESSAGES))

    async def work() -> None:
        for _ in left:
            await publish()

    started, cpu_started = time.monotonic(), time.process_time()
    await asyncio.gather(*(work() for _ in range(publishers)))
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
    return MESSAGES / seconds, cpu_seconds / MESSAGES * 1e6


async def compare(url: str) -> None:
    async with open_broker(url, clock=SystemClock(), instance="bench") as broker:
        for queue in ("ours", "theirs"):
            await broker.declare(queue, max_messages=10 * ROUNDS * MESSAGES)
        await broker.publish("ours", [BODY])
        connection = await aio_pika.connect(url)
        exchange = (await connection.channel(publisher_confirms=True)).default_exchange

        async def theirs() -> None:
            message = aio_pika.Message(BODY, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(message, "theirs")

        for publishers in PUBLISHERS:
            # Beside each other, so that whatever slows the machine slows both.
            pairs = [
                (await measure(lambda: broker.publish("ours", [BODY]), publishers), await measure(theirs, publishers))
                for _ in range(ROUNDS)
            ]
            ratio = statistics.median(ours[0] / peer[0] for ours, peer in pairs)
            for name, side in (("fieldpost", 0), ("aio-pika", 1)):
                per_second = statistics.median(pair[side][0] for pair in pairs)
                cpu = statistics.median(pair[side][1] for pair in pairs)
                print(f"{publishers} publishers, {name}: {per_second:.0f}/s, {cpu:.0f} us of CPU each")
            print(f"{publishers} publishers: {ratio:.1f} x")
        await connection.close()


def main() -> None:
    with engines() as place:
        asyncio.run(compare(RabbitMQ(place).empty_url()))


if __name__ == "__main__":
    main()
