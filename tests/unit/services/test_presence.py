"""A process in the registry of instances."""

import asyncio

from fieldpost.messages.instances import Instance
from fieldpost.ports.backends import Backends
from fieldpost.services.presence import TTL_SECONDS, Presence
from tests.support.clock import FakeClock
from tests.support.waiting import eventually


async def test_it_is_listed_while_it_runs_and_no_more_when_it_has_gone(backends: Backends, clock: FakeClock) -> None:
    instances = backends.shared.instances
    reasons = ["draining"]
    entry = Instance(id="gateway-1", role="gateway", host="127.0.0.1", port=5001, started_at=clock.now())
    presence = Presence(instances=instances, clock=clock, entries=[entry], ready=lambda: reasons)
    running = asyncio.create_task(presence.run())
    await eventually(lambda: bool(clock._sleepers))
    assert [False] == [found.is_ready for found in await instances.list("gateway")]

    reasons.clear()
    clock.advance(2)
    await eventually(lambda: bool(clock._sleepers))
    assert [True] == [found.is_ready for found in await instances.list("gateway")]
    assert [] == await instances.list("hub")

    running.cancel()
    await asyncio.wait([running])
    clock.advance(TTL_SECONDS)
    assert [] == await instances.list()


async def test_one_that_stops_is_gone_at_once(backends: Backends, clock: FakeClock) -> None:
    entry = Instance(id="hub-1", role="hub", host="127.0.0.1", port=5002, started_at=clock.now())
    await backends.shared.instances.announce(entry, ttl_seconds=60)

    await Presence(instances=backends.shared.instances, clock=clock, entries=[entry], ready=list).withdraw()

    assert [] == await backends.shared.instances.list()
