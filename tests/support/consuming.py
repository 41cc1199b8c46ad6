"""Reading a queue in tests."""

import asyncio
from collections.abc import Sequence

from fieldpost.ports.broker import Consumer, Delivery


async def receive(consumer: Consumer, count: int) -> list[Delivery]:
    """So many messages, however many receives that takes."""
    received: list[Delivery] = []
    async with asyncio.timeout(30):
        while len(received) < count:
            received += await consumer.receive(count - len(received))
    return received


def bodies_of(deliveries: Sequence[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]
