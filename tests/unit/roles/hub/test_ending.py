"""Sessions end when they should, whatever the hub waits for: a slow ledger, or room for a greeting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from fieldpost.backends.relational.ledger import RelationalDeliveries
from fieldpost.roles.hub.limits import Limits
from fieldpost.settings import HubSettings
from fieldpost.web import sse
from tests.support.doors import Doors, open_doors
from tests.support.sockets import connected
from tests.support.waiting import eventually
from tests.unit.roles.hub.test_hub import NEVER, SOON, _as_text, _events, _finish, _listening
from tests.unit.roles.hub.test_reading import HeldIntake, _disable


@asynccontextmanager
async def _crowded(doors: Doors) -> AsyncIterator[None]:
    """Others read pages all the time: who comes now waits for its turn."""
    async with AsyncExitStack() as stack:
        for _ in range(Limits().pages_in_hand):
            await stack.enter_async_context(doors.hub._budget.turn())
        yield


async def test_a_disabled_device_is_closed_although_the_ledger_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeping = asyncio.Event()

    async def slow(*_args: object, **_named: object) -> Any:
        sweeping.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(RelationalDeliveries, "completed", slow)
    async with (
        open_doors(tmp_path / "data", hub_settings=SOON) as doors,
        connected(doors.url, doors.device_key) as peer,
    ):
        await peer.hear("Hello")
        await sweeping.wait()
        await _disable(doors)
        with pytest.raises(ConnectionClosed) as closed:
            await peer.hear("nothing")

    assert closed.value.rcvd is not None
    assert 1008 == closed.value.rcvd.code


async def test_a_device_disabled_while_its_greeting_waits_is_closed(tmp_path: Path) -> None:
    async with (
        open_doors(tmp_path / "data", hub_settings=NEVER, limits=Limits(greeting_seconds=3600)) as doors,
        _crowded(doors),
        connected(doors.url, doors.device_key) as peer,
    ):
        await eventually(lambda: 1 == len(doors.hub._sessions))
        await _disable(doors)
        with pytest.raises(ConnectionClosed) as closed:
            await peer.hear("Hello")

    assert closed.value.rcvd is not None
    assert 1008 == closed.value.rcvd.code


async def test_a_device_that_leaves_while_its_greeting_waits_frees_its_place(tmp_path: Path) -> None:
    async with (
        open_doors(tmp_path / "data", hub_settings=NEVER, limits=Limits(greeting_seconds=3600)) as doors,
        _crowded(doors),
    ):
        async with connected(doors.url, doors.device_key):
            await eventually(lambda: 1 == len(doors.hub._sessions))
        await eventually(lambda: 0 == len(doors.hub._sessions))


async def test_the_greeting_comes_first_whatever_was_said_while_it_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = HubSettings(sweep_seconds=3600, ping_seconds=0.01)
    limits = Limits(greeting_seconds=3600)
    intake = HeldIntake(monkeypatch)
    intake.go.set()
    async with open_doors(tmp_path / "data", hub_settings=settings, limits=limits) as doors, AsyncExitStack() as stack:
        async with _crowded(doors):
            peer = await stack.enter_async_context(connected(doors.url, doors.device_key))
            await peer.say("Request", ref="early", body={"input": {"prompt": "p"}})
            await eventually(lambda: 1 == intake.done)
        await peer.hear("Accepted")

    assert "Hello" == peer.seen[0]["type"]


async def test_a_greeting_goes_without_answers_that_are_long_in_coming(tmp_path: Path) -> None:
    async with open_doors(tmp_path / "data", hub_settings=NEVER, limits=Limits(greeting_seconds=0.01)) as doors:
        ids = await _finish(doors)
        async with AsyncExitStack() as stack:
            async with _crowded(doors):
                peer = await stack.enter_async_context(connected(doors.url, doors.device_key))
                hello = await peer.hear("Hello")
            await peer.hear("ResponseReady")

    assert "responses" not in hello
    assert _as_text(ids) == peer.answered()


async def test_events_that_wait_for_their_turn_are_kept_alive_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_SECONDS", 0.01)
    async with open_doors(tmp_path / "data", hub_settings=NEVER) as doors:
        await _finish(doors)
        async with _crowded(doors), _listening(doors) as lines:
            await _events(lines, 1)
            async with asyncio.timeout(30):
                while not (await anext(lines)).startswith(":"):
                    pass
            draining = asyncio.get_running_loop().create_task(doors.hub.drain())
            ((name, _),) = await _events(lines, 1)
            async with asyncio.timeout(30):
                async for _ in lines:
                    pass
            await draining

    assert "draining" == name
