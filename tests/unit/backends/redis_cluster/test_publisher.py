import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from fieldpost.backends.redis_cluster.client import Client
from fieldpost.backends.redis_cluster.link import Link, State
from fieldpost.backends.redis_cluster.publisher import Publisher
from fieldpost.background import running
from fieldpost.messages.events import CredentialsChanged
from tests.support.clock import FakeClock
from tests.support.waiting import eventually


class Wire(Client):
    """A client that counts what it is to send, and the link to it."""

    def __init__(self) -> None:
        self._client = cast("object", None)  # type: ignore[assignment]
        self.state = State.WHOLE
        self.sizes: list[int] = []

    async def call(self, question: Callable[[Client], Awaitable[None]]) -> None:
        await question(self)

    async def _all(self, commands: Sequence[list[bytes]]) -> None:
        self.sizes.append(len(commands))
        await asyncio.sleep(0)


async def test_a_fleets_messages_and_heartbeats_go_in_batches_that_are_bounded(clock: FakeClock) -> None:
    wire = Wire()
    publisher = Publisher(cast("Link", wire), clock)
    for number in range(2_000):
        publisher.publish(f"devices.{number}", [CredentialsChanged(device_id=number)])

    async with running(publisher.run()):
        await publisher.flush()
        sizes = list(wire.sizes)
        wire.sizes.clear()
        clock.advance(1.0)
        await eventually(lambda: sum(wire.sizes) == 2_000)

    assert [500] * 4 == sizes
    assert [250] * 8 == wire.sizes
