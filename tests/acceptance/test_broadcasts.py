"""What an operator tells the devices that are connected, through every door that brings it."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from fieldpost.background import running
from fieldpost.client import AsyncClient, Broadcast, Client
from tests.support.cluster_server import WAYS, server_of
from tests.support.server import Server
from tests.support.sockets import Peer, connected
from tests.support.waiting import DEADLINE_SECONDS

#: A broadcast comes at most once: the bus of a busy machine may lose one, and then it is told anew.
_TRIES = 5
_TRY_SECONDS = 10.0


@pytest.fixture(scope="module", params=WAYS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"FIELDPOST_MODEL_URL": "echo:", "FIELDPOST_MODEL_NAME": "echo"}
    yield from server_of(request, tmp_path_factory.mktemp("server"), settings)


class Events:
    """A device that listens to server-sent events; hears as a `Peer` does."""

    def __init__(self) -> None:
        self._unread: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.seen: list[dict[str, Any]] = []

    async def read(self, lines: AsyncIterator[str]) -> None:
        """Reads until cancelled, so that who stops waiting for an event has not stopped reading."""
        name = ""
        async for line in lines:
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                self._unread.put_nowait({"type": name, **json.loads(line.removeprefix("data: "))})

    async def hear(self, name: str) -> dict[str, Any]:
        """The next event of this name."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                event = await self._unread.get()
                self.seen.append(event)
                if event["type"] == name:
                    return event


@asynccontextmanager
async def _listening(server: Server, key: str) -> AsyncIterator[Events]:
    headers = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}
    async with (
        httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client,
        client.stream("GET", "/v1/stream") as answer,
    ):
        events = Events()
        async with running(events.read(answer.aiter_lines())):
            await events.hear("hello")
            yield events


def _send(server: Server, body: dict[str, Any]) -> str:
    reply = httpx.post(f"{server.url}/admin/broadcasts", json=body, headers=server.operator, timeout=30)
    assert 202 == reply.status_code, reply.text
    assert {"id"} == set(reply.json())
    return str(reply.json()["id"])


async def _tell(server: Server, body: dict[str, Any], *meant: Peer | Events) -> None:
    """Returns once all who are meant have heard the same."""
    for _ in range(_TRIES):
        told = await asyncio.to_thread(_send, server, body)
        try:
            async with asyncio.timeout(_TRY_SECONDS):
                for one in meant:
                    await _hear(one, told)
        except TimeoutError:
            continue
        return
    raise AssertionError("not heard")


async def _hear(one: Peer | Events, broadcast_id: str) -> None:
    name = "Broadcast" if isinstance(one, Peer) else "broadcast"
    while broadcast_id != (await one.hear(name))["broadcast_id"]:
        pass


def _told(one: Peer | Events) -> list[dict[str, Any]]:
    """All it has heard of operators."""
    return [
        {name: value for name, value in frame.items() if name != "type"}
        for frame in one.seen
        if frame["type"] in ("Broadcast", "broadcast")
    ]


async def _nothing_more(*peers: Peer) -> None:
    """What was on its way to them has come."""
    for peer in peers:
        await peer.say("Ping", nonce="nothing more")
        await peer.hear("Pong")


async def test_all_a_kind_and_a_list_are_told_on_every_connection_and_nobody_else(server: Server) -> None:
    truck, truck_key = server.add_device(kind="truck")
    _, other_key = server.add_device(kind="truck")
    office, office_key = server.add_device(kind="office")
    async with (
        connected(server.url, truck_key) as one,
        connected(server.url, truck_key) as two,
        connected(server.url, other_key) as other,
        connected(server.url, office_key) as desk,
        _listening(server, office_key) as events,
    ):
        peers = (one, two, other, desk)
        for peer in peers:
            await peer.hear("Hello")

        await _tell(server, {"text": "to all"}, *peers, events)
        await _tell(server, {"text": "to trucks", "kind": "truck"}, one, two, other)
        await _tell(server, {"text": "to a list", "devices": [truck, office, 2**62]}, one, two, desk, events)
        await _tell(server, {"text": "to trucks of a list", "kind": "truck", "devices": [truck, office]}, one, two)
        await _nothing_more(*peers)
        # What comes last, so that whatever came before it would have come.
        await _tell(server, {"text": "the last", "devices": [office]}, desk, events)

    trucks = ["to all", "to trucks", "to a list", "to trucks of a list"]
    offices = ["to all", "to a list", "the last"]
    heard = [[broadcast["text"] for broadcast in _told(peer)] for peer in (*peers, events)]
    # Those told anew apart.
    assert [trucks, trucks, trucks[:2], offices, offices] == [list(dict.fromkeys(texts)) for texts in heard]
    ids = [[broadcast["broadcast_id"] for broadcast in _told(peer)] for peer in (*peers, events)]
    assert [len(set(of_one)) for of_one in ids] == [len(of_one) for of_one in ids]
    # Two connections of a device hear it under one id.
    assert ids[0][-1] == ids[1][-1]
    assert {"broadcast_id", "text"} == set(_told(one)[0]) == set(_told(events)[0])


async def test_it_is_no_answer_and_does_not_come_again(server: Server) -> None:
    device_id, key = server.add_device()
    async with connected(server.url, key) as peer:
        await peer.hear("Hello")
        await _tell(server, {"text": "once", "devices": [device_id]}, peer)
        told = _told(peer)[0]["broadcast_id"]
        assert [] == await peer.acknowledge(told)
    async with connected(server.url, key) as again:
        hello = await again.hear("Hello")
        await _nothing_more(again)

    with server.device(key) as device:
        assert {"responses": []} == device.get("/v1/responses").json()
        assert 404 == device.get(f"/v1/requests/{told}").status_code
    assert "responses" not in hello
    assert [] == _told(again)


async def test_the_client_hears_it_beside_answers(server: Server) -> None:
    device_id, key = server.add_device()
    heard: asyncio.Queue[Broadcast] = asyncio.Queue()
    async with AsyncClient(server.url, key) as client, client.connect(on_broadcast=heard.put_nowait) as stream:
        request_id = await stream.post("Why?")
        assert request_id == (await stream.receive()).request_id
        for _ in range(_TRIES):
            told = await asyncio.to_thread(_send, server, {"text": "Snöfall ❄", "devices": [device_id]})
            try:
                broadcast = await asyncio.wait_for(heard.get(), _TRY_SECONDS)
            except TimeoutError:
                continue
            break

    assert (told, "Snöfall ❄") == (str(broadcast.broadcast_id), broadcast.text)


def test_the_client_for_threads_hears_it_too(server: Server) -> None:
    device_id, key = server.add_device()
    has_heard = threading.Event()
    with Client(server.url, key) as client, client.connect(on_broadcast=lambda _: has_heard.set()) as stream:
        stream.post("Why?")
        for _ in range(_TRIES):
            _send(server, {"text": "Snow.", "devices": [device_id]})
            if has_heard.wait(_TRY_SECONDS):
                break
        else:
            raise AssertionError("not heard")


BAD_BODIES: list[tuple[str, Any, str]] = [
    ("nothing", {}, "text"),
    ("no text", {"text": ""}, "text"),
    ("white space", {"text": " \n"}, "text"),
    ("a NUL", {"text": "a\0b"}, "text"),
    ("a long text", {"text": "x" * 2049}, "text"),
    ("another kind", {"text": "x", "kind": "ship"}, "kind"),
    ("an empty list", {"text": "x", "devices": []}, "devices"),
    ("a list too long", {"text": "x", "devices": list(range(1, 10_002))}, "devices"),
    ("no device's id", {"text": "x", "devices": [1, 0]}, "devices["),
    ("a name for an id", {"text": "x", "devices": ["Truck 17"]}, "devices["),
    ("another member", {"text": "x", "device": 1}, "device"),
]


@pytest.mark.parametrize(("body", "member"), [case[1:] for case in BAD_BODIES], ids=[case[0] for case in BAD_BODIES])
def test_what_cannot_be_told_is_refused_and_says_which_member(server: Server, body: Any, member: str) -> None:
    reply = httpx.post(f"{server.url}/admin/broadcasts", json=body, headers=server.operator, timeout=30)

    assert (422, "urn:fieldpost:problem:invalid-request") == (reply.status_code, reply.json()["type"])
    assert member in reply.json()["errors"][0]


def test_the_longest_is_taken(server: Server) -> None:
    _send(server, {"text": "😀" * 2048, "devices": list(range(1, 10_001))})


def test_only_the_operators_key_opens_the_door(server: Server) -> None:
    key = server.add_device()[1]
    url = f"{server.url}/admin/broadcasts"
    for credential in ("", key, "fpa_operator_" + "x" * 43):
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        reply = httpx.post(url, json={"text": "x"}, headers=headers, timeout=30)
        assert (401, "urn:fieldpost:problem:unauthenticated") == (reply.status_code, reply.json()["type"])
    assert 405 == httpx.get(url, headers=server.operator, timeout=30).status_code
