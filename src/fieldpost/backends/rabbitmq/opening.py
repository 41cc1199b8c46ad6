"""Opens a RabbitMQ by its URL."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fieldpost.backends.rabbitmq.address import parse_address
from fieldpost.backends.rabbitmq.broker import RabbitBroker
from fieldpost.backends.rabbitmq.link import Link
from fieldpost.background import running
from fieldpost.clock import Clock
from fieldpost.ports.broker import Broker


@asynccontextmanager
async def open_broker(url: str, *, clock: Clock, instance: str) -> AsyncIterator[Broker]:
    """The broker at a URL, also while no node can be reached: calls say so.

    Args:
        url: `amqp://user:password@host1:port1,host2:port2/vhost`, any number of nodes.
        instance: what the broker's pages call this process.

    Raises:
        ConfigError: the URL is none.
    """
    address = parse_address(url)
    source = random.Random()  # noqa: S311 spreads reconnects, hides nothing
    publishing = Link(address, clock=clock, source=source, name=f"{instance} publishing")
    consuming = Link(address, clock=clock, source=source, name=f"{instance} consuming")
    async with running(publishing.run(), consuming.run()):
        yield RabbitBroker(publishing=publishing, consuming=consuming, clock=clock, source=source)
