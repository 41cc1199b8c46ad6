"""What /ready says of the engines."""

from collections.abc import Collection

import msgspec

from fieldpost.errors import BackendUnavailableError
from fieldpost.ports.backends import Backends
from fieldpost.services.checks import Checks
from tests.support.clock import FakeClock


class _Away:
    """An engine of which every question fails."""

    async def depth(self, queue: str) -> int:
        raise BackendUnavailableError

    async def dead_letters(self, *, before: int | None, limit: int) -> None:
        raise BackendUnavailableError


def _without(backends: Backends, *engines: str) -> Backends:
    away = _Away()
    if "broker" in engines:
        backends = msgspec.structs.replace(backends, broker=away)
    if "ledger" in engines:
        ledger = msgspec.structs.replace(backends.ledgers["shard1"], records=away)
        backends = msgspec.structs.replace(backends, ledgers={"shard1": ledger})
    return backends


async def _looked(backends: Backends, clock: FakeClock, roles: Collection[str]) -> Checks:
    checks = Checks(backends=backends, clock=clock, roles=roles)
    await checks.look()
    return checks


async def test_nothing_is_ready_before_it_was_looked_at(backends: Backends, clock: FakeClock) -> None:
    assert ["the broker is away"] == Checks(backends=backends, clock=clock, roles=["gateway"]).reasons()


async def test_with_all_engines_there_nothing_is_in_the_way(backends: Backends, clock: FakeClock) -> None:
    checks = await _looked(backends, clock, ["gateway", "processor"])

    assert ([], []) == (checks.reasons(), checks.degraded())


async def test_a_door_without_its_broker_is_not_ready(backends: Backends, clock: FakeClock) -> None:
    checks = await _looked(_without(backends, "broker"), clock, ["gateway"])

    assert ["the broker is away"] == checks.reasons()


async def test_a_door_without_the_ledger_accepts_and_says_so(backends: Backends, clock: FakeClock) -> None:
    checks = await _looked(_without(backends, "ledger"), clock, ["gateway"])

    assert ([], ["ledger.shard1"]) == (checks.reasons(), checks.degraded())


async def test_a_processor_without_any_ledger_is_not_ready(backends: Backends, clock: FakeClock) -> None:
    checks = await _looked(_without(backends, "ledger"), clock, ["processor"])

    assert ["every ledger is away"] == checks.reasons()


async def test_what_comes_back_is_found(backends: Backends, clock: FakeClock) -> None:
    checks = await _looked(backends, clock, ["gateway"])
    checks._away = frozenset(["broker"])

    await checks.look()

    assert [] == checks.reasons()
