"""The WebSocket door, through a real process with the echo of what was asked as its model."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.cluster_server import WAYS, server_of
from tests.support.server import Server, running_server
from tests.support.sockets import Peer, connected
from tests.support.waiting import eventually

ECHO = {"FIELDPOST_MODEL_URL": "echo:", "FIELDPOST_MODEL_NAME": "echo"}
WINDOW = 20


@pytest.fixture(scope="module", params=WAYS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {**ECHO, "FIELDPOST_HUB_MAX_UNACKNOWLEDGED": str(WINDOW), "FIELDPOST_HUB_PAGE": "7"}
    yield from server_of(request, tmp_path_factory.mktemp("server"), settings)


@pytest.fixture
def key(server: Server) -> str:
    return server.add_device()[1]


async def _answers(peer: Peer, count: int) -> list[str]:
    """Waits until so many answers came over this connection."""
    while len(peer.answered()) < count:
        await peer.hear("ResponseReady", "Hello")
    return peer.answered()


async def _post(server: Server, key: str, count: int) -> list[str]:
    """Posts over HTTP and waits until everything is answered; the ids in order of completion."""
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as client:

        async def all_answered() -> bool:
            page = (await client.get("/v1/requests", params={"limit": 200, "status": "succeeded"})).json()
            return len(page["requests"]) >= count

        for number in range(count):
            assert (await client.post("/v1/requests", json={"input": {"prompt": str(number)}})).status_code == 202
        await eventually(all_answered)
        page = (await client.get("/v1/requests", params={"limit": 200})).json()
        return [
            entry["id"] for entry in sorted(page["requests"], key=lambda entry: (entry["completed_at"], entry["id"]))
        ]


async def test_many_requests_in_flight_on_one_connection_are_all_answered(server: Server, key: str) -> None:
    async with connected(server.url, key) as peer:
        hello = await peer.hear("Hello")
        for number in range(10):
            await peer.say("Request", ref=f"r{number}", body={"input": {"prompt": f"question {number}"}})
        accepted = {(frame := await peer.hear("Accepted"))["ref"]: frame["request_id"] for _ in range(10)}
        answers = await _answers(peer, 10)
        acked = await peer.acknowledge(*answers)

    assert {"type", "device_id", "session", "heartbeat_seconds"} == set(hello)
    assert {f"r{number}" for number in range(10)} == set(accepted)
    assert set(accepted.values()) == set(answers) == set(acked)
    texts = [frame["response"]["output"]["text"] for frame in peer.seen if frame["type"] == "ResponseReady"]
    assert {f"question {number}" for number in range(10)} == set(texts)


async def test_the_answer_comes_in_pieces_before_it_comes_whole(server: Server, key: str) -> None:
    async with connected(server.url, key) as peer:
        request_id = await peer.ask("in pieces, please")
        await peer.hear("ResponseReady")

    chunks = [frame for frame in peer.seen if frame["type"] == "ResponseChunk"]
    assert [request_id] * len(chunks) == [chunk["request_id"] for chunk in chunks]
    assert list(range(len(chunks))) == [chunk["index"] for chunk in chunks]
    assert "in pieces, please".startswith("".join(chunk["text"] for chunk in chunks))


async def test_what_was_missed_comes_with_hello_and_not_again_once_acknowledged(server: Server, key: str) -> None:
    missed = await _post(server, key, 3)

    async with connected(server.url, key) as peer:
        hello = await peer.hear("Hello")
    async with connected(server.url, key) as again:
        hello_again = await again.hear("Hello")
        acked = await again.acknowledge(*missed[:2])
    async with connected(server.url, key) as at_last:
        rest = await at_last.hear("Hello")

    assert missed == [response["request_id"] for response in hello["responses"]]
    assert hello["responses"] == hello_again["responses"]
    assert missed[:2] == sorted(acked, key=missed.index)
    assert missed[2:] == [response["request_id"] for response in rest["responses"]]


async def test_a_long_backlog_comes_in_pages_in_order_and_each_answer_once(server: Server, key: str) -> None:
    missed = await _post(server, key, 2 * WINDOW + 5)

    async with connected(server.url, key) as peer:
        hello = await peer.hear("Hello")
        while hello.get("next"):
            await peer.say("Hello", after=hello["next"])
            hello = await peer.hear("Hello")
        # The window is full: the rest follows what is acknowledged.
        while len(peer.answered()) < len(missed):
            await peer.acknowledge(*peer.answered())
            if len(peer.answered()) < len(missed):
                await _answers(peer, len(peer.answered()) + 1)

    assert missed == peer.answered()


async def test_no_more_than_the_window_is_on_its_way(server: Server, key: str) -> None:
    await _post(server, key, WINDOW + 5)

    async with connected(server.url, key) as peer:
        await _answers(peer, WINDOW)
        # What is asked now is answered, and still nothing comes that has no place.
        await peer.ask("one more")
        await peer.say("Ping", nonce="later")
        await peer.hear("Pong")
        assert WINDOW == len(peer.answered())

        await peer.acknowledge(*peer.answered())
        everything = await _answers(peer, WINDOW + 6)

    assert len(everything) == len(set(everything))


async def test_two_connections_of_one_device_both_hear_and_one_acknowledgement_settles_it(
    server: Server, key: str
) -> None:
    async with connected(server.url, key) as one, connected(server.url, key) as other:
        await one.hear("Hello")
        await other.hear("Hello")
        request_id = await one.ask("who hears?")
        heard = [(await peer.hear("ResponseReady"))["response"]["request_id"] for peer in (one, other)]
        await other.acknowledge(request_id)

    async with connected(server.url, key) as again:
        hello = await again.hear("Hello")
    assert [request_id] * 2 == heard
    assert "responses" not in hello


async def test_an_answer_acknowledged_over_http_does_not_come_to_the_connection_again(server: Server, key: str) -> None:
    (request_id,) = await _post(server, key, 1)
    with server.device(key) as client:
        assert client.post(f"/v1/requests/{request_id}/ack").status_code == 200

    async with connected(server.url, key) as peer:
        hello = await peer.hear("Hello")

    assert "responses" not in hello


async def test_the_same_ref_again_is_the_same_request(server: Server, key: str) -> None:
    async with connected(server.url, key) as peer:
        for _ in range(2):
            await peer.say("Request", ref="load-4711", body={"input": {"prompt": "once"}})
        ids = {(await peer.hear("Accepted"))["request_id"] for _ in range(2)}
        await peer.say("Request", ref="load-4711", body={"input": {"prompt": "twice"}})
        rejected = await peer.hear("Rejected")

    with server.device(key) as client:
        posted = client.post("/v1/requests", json={"input": {"prompt": "once"}, "idempotency_key": "load-4711"})
    assert {posted.json()["id"]} == ids
    assert ("load-4711", "urn:fieldpost:problem:idempotency-conflict") == (rejected["ref"], rejected["problem"]["type"])


async def test_a_request_is_cancelled_over_the_connection(server: Server, key: str) -> None:
    async with connected(server.url, key) as peer:
        request_id = await peer.ask("never mind", deadline_seconds=60)
        await peer.hear("ResponseReady")
        await peer.say("Cancel", request_id=request_id)
        too_late = await peer.hear("Rejected", "Cancel")
        await peer.say("Cancel", request_id="01a20e63-66c3-7d29-857c-57c2fa8f631f")
        unknown = await peer.hear("Rejected", "Cancel")

    assert ("Rejected", 409) == (too_late["type"], too_late["problem"]["status"])
    assert ("Rejected", 404) == (unknown["type"], unknown["problem"]["status"])


async def test_another_devices_answers_are_neither_heard_nor_acknowledged(server: Server, key: str) -> None:
    stranger = server.add_device()[1]
    async with connected(server.url, key) as mine, connected(server.url, stranger) as foreign:
        await foreign.hear("Hello")
        request_id = await mine.ask("mine alone")
        await mine.hear("ResponseReady")
        acked = await foreign.acknowledge(request_id)
        await foreign.say("Ping", nonce="n")
        await foreign.hear("Pong")

    assert [] == acked
    assert [] == foreign.answered()
    assert {"Hello", "Acked", "Pong"} == {frame["type"] for frame in foreign.seen}


async def test_a_ping_is_answered_with_its_nonce(server: Server, key: str) -> None:
    async with connected(server.url, key) as peer:
        await peer.say("Ping", nonce="truck-17")
        await peer.say("Pong", nonce="unasked")
        assert "truck-17" == (await peer.hear("Pong"))["nonce"]


async def test_a_wrong_key_is_refused_at_the_handshake(server: Server, key: str) -> None:
    for wrong in (f"{key}x", "fp_1_short", ""):
        with pytest.raises(InvalidStatus) as refused:
            async with connected(server.url, wrong):
                pass

        assert 401 == refused.value.response.status_code
        assert b"urn:fieldpost:problem:unauthenticated" in (refused.value.response.body or b"")


async def _is_let_in(server: Server, key: str) -> bool:
    try:
        async with connected(server.url, key):
            return True
    except InvalidStatus:
        return False


async def test_a_device_that_is_disabled_or_rotated_loses_its_connection(server: Server) -> None:
    device_id, key = server.add_device()
    with server.device(server.operator_key) as operator:
        async with connected(server.url, key) as peer:
            await peer.hear("Hello")
            operator.patch(f"/admin/devices/{device_id}", json={"disabled": True})
            with pytest.raises(ConnectionClosed) as closed:
                await peer.hear("nothing")
        with pytest.raises(InvalidStatus) as refused:
            async with connected(server.url, key):
                pass
        operator.patch(f"/admin/devices/{device_id}", json={"disabled": False})
        # Other processes hear of it soon, not at once.
        await eventually(lambda: _is_let_in(server, key))
        async with connected(server.url, key) as peer:
            await peer.hear("Hello")
            operator.post(f"/admin/devices/{device_id}/rotate")
            with pytest.raises(ConnectionClosed) as rotated:
                await peer.hear("nothing")

    assert closed.value.rcvd is not None
    assert rotated.value.rcvd is not None
    assert (1008, 403, 1008) == (closed.value.rcvd.code, refused.value.response.status_code, rotated.value.rcvd.code)
    assert closed.value.rcvd.reason == f"This device is disabled: device {device_id}"
    assert rotated.value.rcvd.reason == "A valid key is needed: this key is no longer valid"


async def test_a_full_hub_refuses_with_503_and_when_to_come_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {**ECHO, "FIELDPOST_HUB_MAX_CONNECTIONS": "8"}
    with running_server(tmp_path_factory.mktemp("full") / "data", settings=settings) as server:
        keys = [server.add_device()[1] for _ in range(4)]
        async with asyncio.TaskGroup() as tasks:
            leaving = asyncio.Event()
            held = [tasks.create_task(_hold(server, key, leaving)) for key in keys for _ in range(2)]
            await eventually(lambda: _sessions(server) == len(held))
            with pytest.raises(InvalidStatus) as full:
                async with connected(server.url, server.add_device()[1]):
                    pass
            leaving.set()
        await eventually(lambda: _sessions(server) == 0)
        async with connected(server.url, keys[0]) as peer:
            await peer.hear("Hello")
        # One device alone never takes all places.
        async with connected(server.url, keys[0]), connected(server.url, keys[0]):
            with pytest.raises(InvalidStatus) as greedy:
                async with connected(server.url, keys[0]):
                    pass

    for refused in (full.value.response, greedy.value.response):
        assert 503 == refused.status_code
        assert int(refused.headers["retry-after"]) >= 1


async def test_a_leaving_server_says_so_and_when_to_come_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_server(tmp_path_factory.mktemp("leaving") / "data", settings=ECHO) as server:
        async with connected(server.url, server.add_device()[1]) as peer:
            await peer.hear("Hello")
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            draining = await peer.hear("Draining")
            with pytest.raises(ConnectionClosed) as closed:
                await peer.hear("nothing")
        status = await stopping

    assert draining["reconnect_seconds"] > 0
    assert closed.value.rcvd is not None
    assert (1001, 0) == (closed.value.rcvd.code, status)


async def _hold(server: Server, key: str, leaving: asyncio.Event) -> None:
    async with connected(server.url, key):
        await leaving.wait()


def _sessions(server: Server) -> int:
    text = httpx.get(f"{server.url}/metrics", timeout=10).text
    line = next(line for line in text.splitlines() if line.startswith("fieldpost_hub_sessions "))
    return int(float(line.split()[1]))
