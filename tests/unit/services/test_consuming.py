"""The one consume loop: what cannot be handled is kept once, and holds up nothing else."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from fieldpost.errors import BackendUnavailableError, StorageFullError
from fieldpost.ports.backends import Backends
from fieldpost.services.consuming import BatchConsumer, Handle
from fieldpost.services.troubles import Troubles
from tests.support.hasty_clock import HastyClock
from tests.support.waiting import eventually

QUEUE = "requests.shard1"
UNREADABLE = b"\xc1"

_encode = msgspec.msgpack.Encoder().encode


class Consuming:
    """A consumer at work, and what it buried."""

    def __init__(self, backends: Backends, handle: Handle[str]) -> None:
        self.buried: list[bytes] = []
        self._backends = backends
        self.troubles = Troubles(HastyClock())
        consumer = BatchConsumer(
            broker=backends.broker, clock=HastyClock(), queue=QUEUE, batch=10, troubles=self.troubles
        )
        self._task = asyncio.create_task(consumer.run(str, handle, self._bury))

    async def until_empty(self) -> None:
        try:
            await eventually(self._is_empty)
        finally:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _is_empty(self) -> bool:
        return 0 == await self._backends.broker.depth(QUEUE)

    async def _bury(self, body: bytes, reason: str) -> None:
        assert reason.startswith(QUEUE)
        self.buried.append(body)


async def test_what_was_buried_beside_a_passing_fault_is_not_buried_again(backends: Backends) -> None:
    tries: list[Sequence[str]] = []

    async def is_away_at_first(messages: Sequence[str]) -> None:
        tries.append(messages)
        if len(tries) < 5:
            raise BackendUnavailableError("away")

    await backends.broker.publish(QUEUE, [UNREADABLE, _encode("good")])
    consuming = Consuming(backends, is_away_at_first)
    await consuming.until_empty()

    assert [UNREADABLE] == consuming.buried
    assert [["good"]] * 5 == tries


async def test_a_fault_nobody_knows_that_stays_costs_its_message_alone(backends: Backends) -> None:
    handled: list[str] = []

    async def has_a_bug(messages: Sequence[str]) -> None:
        if "bad" in messages:
            raise KeyError("a bug")
        handled.extend(messages)

    await backends.broker.publish(QUEUE, [_encode("first"), _encode("bad"), _encode("last")])
    consuming = Consuming(backends, has_a_bug)
    await consuming.until_empty()

    assert [_encode("bad")] == consuming.buried
    assert ["first", "last"] == handled


async def test_a_passing_fault_never_costs_a_message(backends: Backends) -> None:
    tries: list[Sequence[str]] = []

    async def is_away_for_long(messages: Sequence[str]) -> None:
        tries.append(messages)
        if len(tries) < 50:
            raise BackendUnavailableError("away")

    await backends.broker.publish(QUEUE, [_encode("good")])
    consuming = Consuming(backends, is_away_for_long)
    await consuming.until_empty()

    assert [] == consuming.buried
    assert 50 == len(tries)


async def test_what_puts_batches_back_is_told(backends: Backends) -> None:
    is_full = True

    async def is_full_at_first(_messages: Sequence[str]) -> None:
        if is_full:
            raise StorageFullError

    await backends.broker.publish(QUEUE, [_encode("good")])
    consuming = Consuming(backends, is_full_at_first)
    await eventually(lambda: [f"{QUEUE}: The disk is full"] == consuming.troubles.current())
    is_full = False
    await consuming.until_empty()
