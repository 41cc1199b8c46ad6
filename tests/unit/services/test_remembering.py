"""What shared state keeps of requests that the ledger may not have yet."""

import msgspec

from fieldpost.backends.memory import memory_shared
from fieldpost.backends.sqlite.broker import SqliteBroker
from fieldpost.ports.backends import Backends
from fieldpost.services.queues import requests_queue
from fieldpost.services.remembering import recall, remember_queued
from tests.support.clock import FakeClock
from tests.support.messages import a_request

QUEUE = requests_queue("shard1")


async def _refill(backends: Backends, clock: FakeClock) -> Backends:
    """The backends with shared state that knows only what is in the queue."""
    assert isinstance(backends.broker, SqliteBroker)
    shared = memory_shared(clock)
    await remember_queued(backends.broker.browse(QUEUE), shared.values)
    return msgspec.structs.replace(backends, shared=shared)


async def test_what_is_queued_is_remembered_also_beside_what_nobody_can_read(
    backends: Backends, clock: FakeClock
) -> None:
    requests = [a_request(prompt="x" * 100) for _ in range(7)]
    bodies = [msgspec.msgpack.encode(request) for request in requests]
    await backends.broker.publish(QUEUE, [*bodies[:3], b"not a request", *bodies[3:]])

    refilled = await _refill(backends, clock)

    for request in requests:
        found = await recall(request.id, refilled.shared.values)
        assert found is not None
        assert (request.device_id, request.body_hash, request.accepted_at) == (
            found.device_id,
            found.body_hash,
            found.accepted_at,
        )


async def test_of_two_under_one_key_the_first_is_remembered(backends: Backends, clock: FakeClock) -> None:
    first = a_request(prompt="first")
    second = a_request(id=first.id, prompt="second")
    await backends.broker.publish(QUEUE, [msgspec.msgpack.encode(request) for request in (first, second)])

    refilled = await _refill(backends, clock)

    found = await recall(first.id, refilled.shared.values)
    assert found is not None
    assert first.body_hash == found.body_hash
