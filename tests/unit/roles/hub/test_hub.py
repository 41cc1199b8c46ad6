"""Sessions of a hub in the test's own process, with answers put into the ledger and on the bus by hand."""

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from fieldpost.errors import BackendUnavailableError, CorruptDataError
from fieldpost.messages.events import Event, ResponseChunk, ResponseReady, device_channel
from fieldpost.messages.requests import Request
from fieldpost.ports.ledger_values import Finish
from fieldpost.roles.hub.feed import Page
from fieldpost.roles.hub.limits import Limits
from fieldpost.services.answers import Answers
from fieldpost.settings import HubSettings
from fieldpost.web.protocol import BoundedHttp, BoundedWebSocket
from tests.support.doors import Doors, open_doors
from tests.support.messages import a_request, a_response
from tests.support.sockets import connected
from tests.support.waiting import eventually

#: So seldom that only an event can be the cause of what a test sees.
NEVER = HubSettings(sweep_seconds=3600)
SOON = HubSettings(sweep_seconds=0.05)


@asynccontextmanager
async def _doors(directory: Path, settings: HubSettings, limits: Limits | None = None) -> AsyncIterator[Doors]:
    async with open_doors(directory / "data", hub_settings=settings, limits=limits) as doors:
        yield doors


async def _finish(doors: Doors, count: int = 1, *, text: str = "Nine hours.", tell: bool = False) -> list[UUID]:
    """Answers in the ledger, in this order of completion; told on the bus or not."""
    requests = [a_request(device_id=doors.device_id, model="echo") for _ in range(count)]
    ids = [request.id for request in requests]
    ledger = doors.backends.ledger_of(doors.device_id)
    now = datetime.now(UTC)
    await ledger.records.record(requests, dispatched=ids, now=now)
    await ledger.claims.claim(ids, holder="w", now=now, until=now + timedelta(minutes=1))
    for request in requests:
        finish = Finish(request_id=request.id, attempt=1, response=_response(request, text))
        finished = await ledger.claims.finish([finish], [], now=datetime.now(UTC))
        if tell:
            event = ResponseReady(request_id=request.id, device_id=doors.device_id, body=finished[0].body)
            await doors.backends.shared.bus.publish(device_channel(doors.device_id), [event])
    return ids


def _response(request: Request, text: str) -> Any:
    return msgspec.structs.replace(a_response(request, text=text), completed_at=datetime.now(UTC))


def _as_text(ids: Sequence[UUID]) -> list[str]:
    return [str(request_id) for request_id in ids]


async def test_an_answer_that_no_event_announced_is_found_by_the_sweep(tmp_path: Path) -> None:
    async with _doors(tmp_path, SOON) as doors, connected(doors.url, doors.device_key) as peer:
        await peer.hear("Hello")
        ids = await _finish(doors)
        await peer.hear("ResponseReady")

    assert _as_text(ids) == peer.answered()


async def test_event_page_and_sweep_together_bring_an_answer_once(tmp_path: Path) -> None:
    async with _doors(tmp_path, SOON) as doors:
        early = await _finish(doors, 3, tell=True)
        async with connected(doors.url, doors.device_key) as peer:
            late = await _finish(doors, 3, tell=True)
            await peer.hear("Hello")
            while len(peer.answered()) < 6:
                await peer.hear("ResponseReady")
            for _ in range(5):
                await doors.hub._sweep()
            await peer.say("Ping", nonce="after the sweeps")
            await peer.hear("Pong")

    assert set(_as_text([*early, *late])) == set(peer.answered())
    assert 6 == len(peer.answered())


async def test_answers_lost_with_the_bus_are_sent_when_the_loss_is_told(tmp_path: Path) -> None:
    async with _doors(tmp_path, NEVER) as doors, connected(doors.url, doors.device_key) as peer:
        await peer.hear("Hello")
        ids = await _finish(doors, 3)
        doors.mailbox._lose_all()
        for _ in ids:
            await peer.hear("ResponseReady")

    assert _as_text(ids) == peer.answered()


async def test_what_another_session_acknowledged_frees_its_place_although_the_news_was_lost(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(NEVER, max_unacknowledged=2)
    async with _doors(tmp_path, settings) as doors:
        ids = await _finish(doors, 4)
        async with connected(doors.url, doors.device_key) as peer:
            await peer.hear("Hello")
            ledger = doors.backends.ledger_of(doors.device_id)
            await ledger.deliveries.acknowledge(ids[:2], doors.device_id, now=datetime.now(UTC))
            doors.mailbox._lose_all()
            for _ in range(2):
                await peer.hear("ResponseReady")

    assert _as_text(ids) == peer.answered()


async def test_an_answer_acknowledged_while_it_waits_to_be_sent_is_not_sent(tmp_path: Path) -> None:
    async with (
        _doors(tmp_path, NEVER, Limits(send_seconds=60)) as doors,
        connected(doors.url, doors.device_key) as peer,
    ):
        await peer.hear("Hello")
        (session,) = doors.hub._sessions
        ids = await _finish(doors, 2)
        # Both are put and one is settled before the writer has its turn.
        for request_id in ids:
            session.feed._offer(request_id, b'{"request_id":"%s"}' % str(request_id).encode())
        session.feed.settle([ids[0]])
        await peer.hear("ResponseReady")
        await peer.say("Ping")
        await peer.hear("Pong")

    assert _as_text(ids[1:]) == peer.answered()


async def test_a_device_that_reads_nothing_is_closed_and_others_hear_as_before(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(SOON, max_unacknowledged=10_000)
    async with (
        _doors(tmp_path, settings, Limits(send_seconds=0.5)) as doors,
        connected(doors.url, doors.device_key, max_queue=1) as slow,
    ):
        await slow.hear("Hello")
        slow.socket.transport.pause_reading()
        # More than both kernels' buffers hold.
        ids = await _finish(doors, 40, text="x" * 400_000, tell=True)
        async with connected(doors.url, doors.device_key, max_size=2**22) as good:
            while len(good.answered()) < len(ids):
                await good.hear("ResponseReady", "Hello")
            await eventually(lambda: len(doors.hub._sessions) == 1)
            assert set(_as_text(ids)) == set(good.answered())


async def test_what_waits_for_a_slow_device_is_bounded(tmp_path: Path) -> None:
    limits = Limits(outbox_frames=5, outbox_bytes=10_000, send_seconds=3600)
    settings = msgspec.structs.replace(SOON, max_unacknowledged=10_000)
    async with _doors(tmp_path, settings, limits) as doors:
        with socket.create_connection(("127.0.0.1", doors.port)) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.sendall(_handshake(doors.device_key))
            await eventually(lambda: len(doors.hub._sessions) == 1)
            (session,) = doors.hub._sessions
            await _finish(doors, 60, text="x" * 200_000, tell=True)
            await eventually(lambda: not session.feed.outbox.has_room)
            for _ in range(20):
                await doors.hub._sweep()

            assert len(session.feed.outbox._items) <= limits.outbox_frames + 1
            assert session.feed.outbox._size_bytes <= limits.outbox_bytes + 2**20


async def test_what_waits_for_all_slow_devices_together_is_bounded_and_others_get_theirs_when_these_are_closed(
    tmp_path: Path,
) -> None:
    limits = Limits(send_seconds=3.0, pages_in_hand=2)
    settings = msgspec.structs.replace(SOON, max_unsent_bytes=2 * 2**20)
    # All that read at once may pass the bound by a page.
    most_bytes = settings.max_unsent_bytes + limits.pages_in_hand * 2**20
    async with _doors(tmp_path, settings, limits) as doors, AsyncExitStack() as stack:
        seen: list[int] = []
        ids = await _finish(doors, 40, text="x" * 500_000)
        for _ in range(12):
            raw = stack.enter_context(socket.socket())
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await asyncio.to_thread(raw.connect, ("127.0.0.1", doors.port))
            raw.sendall(_handshake(doors.device_key))
        budget = doors.hub._budget
        await eventually(lambda: not budget.has_room)
        async with connected(doors.url, doors.device_key, max_size=2**22) as good:
            # It is greeted at once, although there is no room for answers to it yet.
            await good.hear("Hello")
            while len(good.answered()) < len(ids):
                seen.append(budget.unsent_bytes)
                await good.hear("ResponseReady")
            await eventually(lambda: 1 == len(doors.hub._sessions))

        assert set(_as_text(ids)) == set(good.answered())
        assert max(seen) <= most_bytes
        await eventually(lambda: 0 == budget.unsent_bytes)


async def test_pings_of_a_device_that_reads_nothing_are_not_all_answered(tmp_path: Path) -> None:
    ping = b"\x89\xfd\0\0\0\0" + b"p" * 125
    async with _doors(tmp_path, NEVER) as doors:
        with socket.create_connection(("127.0.0.1", doors.port)) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.sendall(_handshake(doors.device_key))
            await eventually(lambda: len(doors.hub._sessions) == 1)
            loop = asyncio.get_running_loop()
            made = [found for found in gc.get_objects() if type(found) is BoundedWebSocket]
            (protocol,) = (found for found in made if found.loop is loop)
            # Some 26 MB of pings: far more than what both kernels hold of the answers.
            await asyncio.to_thread(raw.sendall, ping * 200_000)
            async with connected(doors.url, doors.device_key) as other:
                await other.hear("Hello")

            assert not protocol.writable.is_set()
            assert protocol.transport.get_write_buffer_size() < 2**20


async def test_what_bounds_idle_http_connections_leaves_websockets_alone(tmp_path: Path) -> None:
    async with _doors(tmp_path, NEVER) as doors, connected(doors.url, doors.device_key) as peer:
        await peer.hear("Hello")
        loop = asyncio.get_running_loop()
        made = [found for found in gc.get_objects() if type(found) is BoundedHttp]

        assert not [found for found in made if found.loop is loop and found.timeout_keep_alive_task is not None]


async def test_a_flood_of_frames_waits_unread_while_those_in_hand_are_worked_on(tmp_path: Path) -> None:
    async with (
        _doors(tmp_path, NEVER, Limits(frames_in_hand=3)) as doors,
        connected(doors.url, doors.device_key) as peer,
    ):
        await peer.hear("Hello")
        for number in range(200):
            await peer.say("Request", ref=str(number), body={"input": {"prompt": "p"}})
        refs = {(await peer.hear("Accepted"))["ref"] for _ in range(200)}

    assert {str(number) for number in range(200)} == refs


async def test_a_session_begins_although_the_ledger_is_away_and_catches_up_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = msgspec.structs.replace(NEVER, sweep_seconds=0.05)
    async with _doors(tmp_path, settings) as doors:
        ids = await _finish(doors, 2)
        undelivered = Answers.undelivered

        async def away(*_args: object, **_kwargs: object) -> Any:
            raise BackendUnavailableError

        monkeypatch.setattr(Answers, "undelivered", away)
        async with connected(doors.url, doors.device_key) as peer:
            hello = await peer.hear("Hello")
            monkeypatch.setattr(Answers, "undelivered", undelivered)
            for _ in ids:
                await peer.hear("ResponseReady")

    assert "responses" not in hello
    assert _as_text(ids) == peer.answered()


async def test_what_a_device_does_not_page_for_follows_its_acknowledgements(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(NEVER, page=2, max_unacknowledged=10)
    async with _doors(tmp_path, settings) as doors:
        ids = await _finish(doors, 6)
        async with connected(doors.url, doors.device_key) as peer:
            hello = await peer.hear("Hello")
            await peer.acknowledge(*peer.answered())
            while len(peer.answered()) < len(ids):
                await peer.hear("ResponseReady")

    assert "next" in hello
    assert _as_text(ids) == peer.answered()


async def test_an_answer_acknowledged_while_its_page_waits_to_be_sent_is_left_out(tmp_path: Path) -> None:
    async with _doors(tmp_path, NEVER) as doors:
        ids = await _finish(doors, 2)
        async with connected(doors.url, doors.device_key) as peer:
            await peer.hear("Hello")
            (session,) = doors.hub._sessions
            page = session.feed.page
            session.feed.window._on_their_way.clear()

            async def page_and_settle(after: Any, *, limit: int) -> Page:
                found = await page(None, limit=limit)
                session.feed.settle([ids[0]])
                return found

            session.feed.page = page_and_settle  # type: ignore[method-assign]
            await peer.say("Hello", after="A" * 32)
            again = await peer.hear("Hello")

    assert [str(ids[1])] == [response["request_id"] for response in again["responses"]]


async def test_an_answer_that_was_not_told_of_is_found_although_the_device_is_heard_of_all_the_time(
    tmp_path: Path,
) -> None:
    async with (
        _doors(tmp_path, NEVER, Limits(recheck_seconds=0.2)) as doors,
        connected(doors.url, doors.device_key) as peer,
        asyncio.TaskGroup() as tasks,
    ):
        await peer.hear("Hello")
        ids = await _finish(doors)
        chatter = tasks.create_task(_chatter(doors))
        await peer.hear("ResponseReady")
        chatter.cancel()

    assert _as_text(ids) == peer.answered()


async def test_a_ledger_that_is_away_is_not_asked_for_every_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def away(*_args: object, **_kwargs: object) -> Any:
        nonlocal asked
        asked += 1
        raise BackendUnavailableError

    async with _doors(tmp_path, NEVER) as doors:
        monkeypatch.setattr(Answers, "undelivered", away)
        async with connected(doors.url, doors.device_key) as peer:
            await peer.hear("Hello")
            for _ in range(20):
                await _publish(doors, _chunk(doors))
                await peer.hear("ResponseChunk")

    # For the greeting, and once more for what it left out.
    assert asked <= 2


async def _chatter(doors: Doors) -> None:
    while True:
        await _publish(doors, _chunk(doors))
        await asyncio.sleep(0.01)


def _chunk(doors: Doors) -> Event:
    return ResponseChunk(request_id=uuid4(), device_id=doors.device_id, attempt=1, index=0, offset=0, text="Nine")


async def _publish(doors: Doors, event: Event) -> None:
    await doors.backends.shared.bus.publish(device_channel(doors.device_id), [event])


# Server-sent events


async def test_a_head_opens_no_session(tmp_path: Path) -> None:
    async with _doors(tmp_path, NEVER) as doors, doors.device() as client:
        head = await client.head("/v1/stream", headers={"Accept": "text/event-stream"})

        assert (200, "text/event-stream; charset=utf-8") == (head.status_code, head.headers["content-type"])
        assert 0 == len(doors.hub._sessions)


async def test_what_cannot_be_read_at_all_ends_the_events_with_its_problem_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_args: object, **_kwargs: object) -> Any:
        raise CorruptDataError("cannot be read")

    async with _doors(tmp_path, NEVER) as doors:
        monkeypatch.setattr(Answers, "undelivered", broken)
        async with _listening(doors) as lines:
            events = await _events(lines, 2)
            assert not [line async for line in lines if line]

    assert ["hello", "error"] == [name for name, _ in events]
    assert "urn:fieldpost:problem:corrupt-data" == events[1][1]["type"]
    assert "Traceback" not in "".join(capsys.readouterr())


async def _events(lines: AsyncIterator[str], count: int) -> list[tuple[str, Any]]:
    """So many events: name and data."""
    events: list[tuple[str, Any]] = []
    name = ""
    async with asyncio.timeout(30):
        async for line in lines:
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
                if len(events) == count:
                    return events
    raise AssertionError(events)


@asynccontextmanager
async def _listening(doors: Doors) -> AsyncIterator[AsyncIterator[str]]:
    async with (
        doors.device() as client,
        client.stream("GET", "/v1/stream", headers={"Accept": "text/event-stream"}) as answer,
    ):
        assert 200 == answer.status_code
        yield answer.aiter_lines()


async def test_events_bring_what_was_missed_then_what_comes_and_nothing_acknowledged(tmp_path: Path) -> None:
    async with _doors(tmp_path, NEVER) as doors:
        missed = await _finish(doors, 2)
        async with _listening(doors) as lines:
            first = await _events(lines, 3)
            later = await _finish(doors, 1, tell=True)
            ((name, response),) = await _events(lines, 1)
        async with doors.device() as client:
            for request_id in missed:
                await client.post(f"/v1/requests/{request_id}/ack")
        async with _listening(doors) as lines:
            again = await _events(lines, 2)

    assert [("hello", {"device_id": doors.device_id})] == first[:1]
    assert _as_text(missed) == [data["request_id"] for _, data in first[1:]]
    assert ("response", str(later[0])) == (name, response["request_id"])
    assert ["hello", "response"] == [name for name, _ in again]
    assert str(later[0]) == again[1][1]["request_id"]


async def test_events_beyond_the_window_follow_acknowledgements(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(NEVER, max_unacknowledged=2)
    async with _doors(tmp_path, settings) as doors:
        ids = await _finish(doors, 4)
        async with _listening(doors) as lines, doors.device() as client:
            first = await _events(lines, 3)
            for request_id in ids[:2]:
                await client.post(f"/v1/requests/{request_id}/ack")
            rest = await _events(lines, 2)

    assert _as_text(ids) == [data["request_id"] for _, data in (*first[1:], *rest)]


async def test_a_device_that_leaves_its_events_frees_its_place(tmp_path: Path) -> None:
    async with _doors(tmp_path, NEVER) as doors:
        async with _listening(doors) as lines:
            await _events(lines, 1)
            assert 1 == len(doors.hub._sessions)

        await eventually(lambda: len(doors.hub._sessions) == 0)
        assert () == doors.mailbox.device_ids


async def test_a_leaving_hub_says_so_on_events_too(tmp_path: Path) -> None:
    async with _doors(tmp_path, NEVER) as doors:
        async with _listening(doors) as lines:
            await _events(lines, 1)
            draining = asyncio.create_task(doors.hub.drain())
            ((name, data),) = await _events(lines, 1)
            rest = [line async for line in lines]
            await draining
        async with doors.device() as client:
            refused = await client.get("/v1/stream", headers={"Accept": "text/event-stream"})

    assert "draining" == name
    assert data["reconnect_seconds"] > 0
    assert not [line for line in rest if line]
    assert (503, "urn:fieldpost:problem:draining") == (refused.status_code, refused.json()["type"])


async def test_a_disabled_device_loses_its_events(tmp_path: Path) -> None:
    async with _doors(tmp_path, SOON) as doors, _listening(doors) as lines:
        await _events(lines, 1)
        async with doors.operator() as operator:
            await operator.patch(f"/admin/devices/{doors.device_id}", json={"disabled": True})
        async with asyncio.timeout(30):
            assert not [line async for line in lines if line and not line.startswith(":")]


async def test_a_stream_without_a_type_that_can_be_sent_is_refused(tmp_path: Path) -> None:
    async with _doors(tmp_path, NEVER) as doors, doors.device() as client, doors.client() as anybody:
        plain = await client.get("/v1/stream", headers={"Accept": "application/json"})
        nobody = await anybody.get("/v1/stream", headers={"Accept": "text/event-stream"})

    assert (406, 401) == (plain.status_code, nobody.status_code)


async def test_news_of_an_acknowledgement_elsewhere_lets_the_rest_follow(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(NEVER, max_unacknowledged=2)
    async with _doors(tmp_path, settings) as doors:
        ids = await _finish(doors, 3)
        async with connected(doors.url, doors.device_key) as peer:
            await peer.hear("Hello")
            await doors.answers.acknowledge(doors.device_id, ids[:2])
            await peer.hear("ResponseReady")

    assert _as_text(ids) == peer.answered()


def _handshake(key: str) -> bytes:
    return (
        "GET /v1/stream HTTP/1.1\r\nHost: fieldpost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {key}\r\n\r\n"
    ).encode()
