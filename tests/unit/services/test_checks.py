"""What /ready says of the engines."""

import contextlib
import sqlite3
from collections.abc import Collection
from pathlib import Path

import msgspec

from fieldpost.errors import BackendUnavailableError, OverloadedError
from fieldpost.ports.backends import Backends
from fieldpost.services.checks import Checks
from tests.support.clock import FakeClock


class _Away:
    """An engine of which every question fails."""

    async def depth(self, queue: str) -> int:
        raise BackendUnavailableError

    async def reach(self) -> None:
        raise BackendUnavailableError


class _Busy:
    """A ledger that has too much in hand to be asked."""

    async def reach(self) -> None:
        raise OverloadedError


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


async def test_a_ledger_that_is_busy_is_there(backends: Backends, clock: FakeClock) -> None:
    ledger = msgspec.structs.replace(backends.ledgers["shard1"], records=_Busy())
    checks = await _looked(msgspec.structs.replace(backends, ledgers={"shard1": ledger}), clock, ["processor"])

    assert ([], []) == (checks.reasons(), checks.degraded())


async def test_an_embedded_database_without_its_tables_is_not_ready(
    backends: Backends, clock: FakeClock, tmp_path: Path
) -> None:
    checks = await _looked(backends, clock, ["processor"])
    assert [] == checks.reasons()

    with contextlib.closing(sqlite3.connect(tmp_path / "fieldpost.db")) as database:
        database.execute("DROP TABLE dead_letters")
    await checks.look()

    assert ["every ledger is away"] == checks.reasons()


async def test_what_comes_back_is_found(backends: Backends, clock: FakeClock) -> None:
    checks = await _looked(backends, clock, ["gateway"])
    checks._away = frozenset(["broker"])

    await checks.look()

    assert [] == checks.reasons()
