import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import cast

import pytest

from fieldpost.backends.redis_cluster import channels as under_test
from fieldpost.backends.redis_cluster.channels import Channels
from fieldpost.backends.redis_cluster.client import Client
from fieldpost.background import running
from fieldpost.errors import BackendUnavailableError
from tests.support.waiting import eventually


class Engine:
    """Answers when it is let, and remembers what it was asked in each call."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.answers.set()
        self.is_away = False
        self.heard: set[str] = set()
        self.calls: list[tuple[str, frozenset[str]]] = []
        self.suspicions = 0
        self.channels = Channels(self._call, self._suspect)

    async def subscribe(self, names: Collection[str]) -> None:
        await self._answer("subscribe", names)
        self.heard |= set(names)

    async def unsubscribe(self, names: Collection[str]) -> None:
        await self._answer("unsubscribe", names)
        self.heard -= set(names)

    async def agrees(self) -> bool:
        async with self.channels.lock:
            return self.channels.agree(len(self.heard))

    async def mends(self) -> bool:
        async with self.channels.lock:
            return await self.channels.mend()

    async def _answer(self, verb: str, names: Collection[str]) -> None:
        self.calls.append((verb, frozenset(names)))
        await self.answers.wait()
        if self.is_away:
            raise BackendUnavailableError("away")

    async def _call(self, question: Callable[[Client], Awaitable[None]]) -> None:
        await question(cast("Client", self))

    def _suspect(self) -> None:
        self.suspicions += 1


@asynccontextmanager
async def _engine() -> AsyncIterator[Engine]:
    engine = Engine()
    async with running(engine.channels.run()):
        yield engine


async def test_what_changes_during_a_call_is_asked_for_together_in_the_next() -> None:
    async with _engine() as engine, asyncio.TaskGroup() as group:
        engine.answers.clear()
        group.create_task(engine.channels.change(added=["first"]))
        await eventually(lambda: len(engine.calls) == 1)
        for number in range(100):
            group.create_task(engine.channels.change(added=[f"{number}"]))
        group.create_task(engine.channels.change(removed=["first"]))
        await asyncio.sleep(0)
        engine.answers.set()

        await eventually(lambda: len(engine.calls) == 3)
    assert [
        ("subscribe", frozenset({"first"})),
        ("subscribe", frozenset(f"{number}" for number in range(100))),
        ("unsubscribe", frozenset({"first"})),
    ] == engine.calls


async def test_what_is_wanted_and_not_yet_asked_for_is_no_disagreement() -> None:
    async with _engine() as engine:
        await engine.channels.change(added=["a"])
        async with engine.channels.lock, asyncio.TaskGroup() as group:
            changing = group.create_task(engine.channels.change(added=["b", "c"], removed=["a"]))
            await eventually(lambda: engine.channels.wanted == {"b", "c"})
            agrees = engine.channels.agree(len(engine.heard))
            changing.cancel()

        assert agrees
        assert not engine.suspicions


async def test_who_gives_up_waiting_cancels_no_call() -> None:
    async with _engine() as engine:
        engine.answers.clear()
        changing = asyncio.create_task(engine.channels.change(added=["a"]))
        await eventually(lambda: len(engine.calls) == 1)
        changing.cancel()
        engine.answers.set()

        await eventually(lambda: engine.heard == {"a"})
        assert await engine.agrees()


async def test_a_change_that_failed_is_in_doubt_until_it_is_made() -> None:
    async with _engine() as engine:
        engine.is_away = True
        await engine.channels.change(added=["a"])

        assert engine.suspicions
        assert not await engine.agrees()
        assert not await engine.mends()
        engine.is_away = False
        assert await engine.mends()
        assert await engine.agrees()
        assert engine.heard == {"a"}
        assert not await engine.mends(), "it was told once"


async def test_a_change_that_is_late_is_in_doubt_although_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "CALL_SECONDS", 0.01)
    async with _engine() as engine:
        engine.answers.clear()
        await engine.channels.change(added=["a"])
        engine.answers.set()
        await eventually(lambda: engine.heard == {"a"})

        assert engine.suspicions
        assert not await engine.agrees()
        assert await engine.mends()
        assert await engine.agrees()


async def test_another_client_that_was_asked_for_all_ends_the_doubt_but_not_of_what_came_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(under_test, "CALL_SECONDS", 0.01)
    async with _engine() as engine:
        engine.is_away = True
        await engine.channels.change(added=["a"])
        engine.is_away = False
        async with engine.channels.lock:
            await engine.channels.change(added=["b"])
            engine.channels.begin(["a"], is_confirmed=True)

            assert not engine.channels.agree(1)
        await eventually(lambda: engine.heard == {"b"})
        assert await engine.mends()
