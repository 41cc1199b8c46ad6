"""Frames of a device in hand: bounded in bytes, kept no longer than they are needed, and none obeyed for a revoked key."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from fieldpost.messages import frames
from fieldpost.roles.hub.holding import Holdings
from fieldpost.roles.hub.hub import Hub
from fieldpost.roles.hub.limits import Limits
from fieldpost.services.intake import Intake
from tests.support.doors import Doors, open_doors
from tests.support.sockets import Peer, connected
from tests.support.waiting import eventually
from tests.unit.roles.hub.test_hub import NEVER

LARGE = 200_000


class HeldIntake:
    """The real one, once it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.done = 0
        self.go = asyncio.Event()
        accept = Intake.accept

        async def held(intake: Intake, *args: Any, **named: Any) -> Any:
            self.begun += 1
            await self.go.wait()
            accepted = await accept(intake, *args, **named)
            self.done += 1
            return accepted

        monkeypatch.setattr(Intake, "accept", held)


async def _post(peer: Peer, count: int) -> None:
    for number in range(count):
        await peer.say("Request", ref=str(number), body={"input": {"prompt": "p" * LARGE}})


async def _accepted(peer: Peer, count: int) -> set[str]:
    return {(await peer.hear("Accepted"))["ref"] for _ in range(count)}


@pytest.mark.parametrize("limits", [Limits(in_hand_bytes=2 * LARGE), Limits(in_hand_bytes_per_device=2 * LARGE)])
async def test_no_more_frames_are_read_than_there_is_memory_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits
) -> None:
    async with open_doors(tmp_path / "data", hub_settings=NEVER, limits=limits) as doors:
        intake = HeldIntake(monkeypatch)
        together = doors.hub._holdings.together
        async with connected(doors.url, doors.device_key) as one, connected(doors.url, doors.device_key) as other:
            await one.hear("Hello")
            await other.hear("Hello")
            await _post(one, 2)
            await eventually(lambda: 2 == intake.begun)
            # One of them is read, by the session that was reading when the bound was reached.
            await _post(other, 5)
            await one.say("Ping")
            await eventually(lambda: 3 == intake.begun)
            assert together.held_bytes < 4 * LARGE
            intake.go.set()
            refs = await _accepted(one, 2), await _accepted(other, 5)
            await one.hear("Pong")

            assert ({"0", "1"}, {"0", "1", "2", "3", "4"}) == refs
            assert 7 == intake.begun
            await eventually(lambda: 0 == together.held_bytes)


async def test_a_frame_is_dropped_before_its_answer_waits_to_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # There is never room for what is said in turn.
    limits = Limits(outbox_frames=0)
    async with open_doors(tmp_path / "data", hub_settings=NEVER, limits=limits) as doors:
        intake = HeldIntake(monkeypatch)
        async with connected(doors.url, doors.device_key) as peer:
            await peer.hear("Hello")
            await _post(peer, 5)
            await eventually(lambda: 5 == intake.begun)
            held_bytes = doors.hub._holdings.together.held_bytes
            before = _requests_in_memory()
            intake.go.set()
            await eventually(lambda: 5 == intake.done and doors.hub._holdings.together.held_bytes < LARGE)

            assert held_bytes > 5 * LARGE
            assert before >= 5
            assert 0 == _requests_in_memory()
        await eventually(lambda: 0 == doors.hub._holdings.together.held_bytes)


def _requests_in_memory() -> int:
    gc.collect()
    return sum(type(found) is frames.RequestFrame for found in gc.get_objects())


async def test_a_ping_carries_no_more_than_a_note(tmp_path: Path) -> None:
    async with (
        open_doors(tmp_path / "data", hub_settings=NEVER) as doors,
        connected(doors.url, doors.device_key) as peer,
    ):
        await peer.say("Ping", nonce="n" * 128)
        pong = await peer.hear("Pong")
        await peer.say("Ping", nonce="n" * 129)
        rejected = await peer.hear("Rejected", "Pong")
        await peer.say("Ping", nonce=5, ref="r" * 256)
        nameless = await peer.hear("Rejected", "Pong")

    assert "n" * 128 == pong["nonce"]
    assert "urn:fieldpost:problem:invalid-request" == rejected["problem"]["type"]
    assert "ref" not in nameless


async def test_what_a_session_had_in_hand_is_given_back_at_its_end_and_devices_have_bounds_of_their_own() -> None:
    holdings = Holdings(max_bytes=100, max_bytes_per_device=10)
    with holdings.of(1) as one, holdings.of(1) as same, holdings.of(2) as other:
        one.count(10)
        waiting = asyncio.ensure_future(same.room())
        await other.room()
        assert not waiting.done()
        one.count(-1)
        await waiting
        same.count(20)
        other.count(70)
        assert 99 == holdings.together.held_bytes

    assert 0 == holdings.together.held_bytes


async def test_a_frame_of_a_revoked_key_is_not_obeyed_although_its_session_was_not_ended_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "_end_revoked", lambda _hub: None)
    async with (
        open_doors(tmp_path / "data", hub_settings=NEVER) as doors,
        connected(doors.url, doors.device_key) as peer,
    ):
        await peer.hear("Hello")
        intake = HeldIntake(monkeypatch)
        await _disable(doors)
        await peer.say("Request", ref="late", body={"input": {"prompt": "p"}})
        with pytest.raises(ConnectionClosed) as closed:
            await peer.hear("Accepted")

    assert closed.value.rcvd is not None
    assert 1008 == closed.value.rcvd.code
    assert 0 == intake.begun


async def _disable(doors: Doors) -> None:
    async with doors.operator() as operator:
        answer = await operator.patch(f"/admin/devices/{doors.device_id}", json={"disabled": True})
        assert 200 == answer.status_code
