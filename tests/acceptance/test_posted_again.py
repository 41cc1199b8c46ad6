"""What a device is told that posts a request again which was cancelled meanwhile: the same at every door."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.server import Server, running_server
from tests.support.slow_model import SlowModel
from tests.support.sockets import connected
from tests.support.waiting import eventually, eventually_now

ASK: dict[str, Any] = {"input": {"prompt": "How long may I drive?"}, "model": "slow"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with (
        SlowModel() as model,
        running_server(tmp_path_factory.mktemp("server") / "data", settings=model.settings(drain_seconds=1)) as running,
    ):
        yield running


@pytest.fixture
def device(server: Server) -> tuple[int, str]:
    return server.add_device()


def _cancelled(device: httpx.Client, key: str) -> str:
    """A request under this key that was cancelled when the ledger had it; its id."""
    first = device.post("/v1/requests", json=ASK, headers={"Idempotency-Key": key}).json()
    assert first["status"] == "queued"
    eventually_now(lambda: device.get(f"/v1/requests/{first['id']}").json().get("attempts") == 1)
    again = device.post("/v1/requests", json=ASK, headers={"Idempotency-Key": key}).json()
    assert again == {"id": first["id"], "status": "processing"}
    assert device.delete(f"/v1/requests/{first['id']}").json()["status"] == "cancelled"
    return str(first["id"])


def test_over_http_the_status_says_so(server: Server, device: tuple[int, str]) -> None:
    with server.device(device[1]) as client:
        request_id = _cancelled(client, "order-1")

        again = client.post("/v1/requests", json=ASK, headers={"Idempotency-Key": "order-1"})
        waited = client.post("/v1/requests", json=ASK, headers={"Idempotency-Key": "order-1", "Prefer": "wait=30"})

    assert (again.status_code, again.json()) == (202, {"id": request_id, "status": "cancelled"})
    assert (waited.status_code, waited.json()["status"]) == (200, "cancelled")


def test_over_the_chat_door_it_is_a_conflict_that_says_so(server: Server, device: tuple[int, str]) -> None:
    body = {"model": "slow", "messages": [{"role": "user", "content": "How long may I drive?"}]}
    with server.device(device[1]) as client:
        posted = client.post(
            "/v1/requests",
            json={"model": "slow", "input": {"messages": body["messages"]}},
            headers={"Idempotency-Key": "order-2"},
        ).json()
        eventually_now(lambda: client.get(f"/v1/requests/{posted['id']}").json().get("attempts") == 1)
        client.delete(f"/v1/requests/{posted['id']}").raise_for_status()

        again = client.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": "order-2"})

    assert (again.status_code, again.json()["error"]["code"]) == (409, "cancelled")
    assert again.headers["x-should-retry"] == "false"


async def test_over_the_websocket_what_is_accepted_has_its_status(server: Server, device: tuple[int, str]) -> None:
    async with connected(server.url, device[1]) as peer:
        await peer.say("Request", ref="order-3", body=ASK)
        first = await peer.hear("Accepted")
        with server.device(device[1]) as client:
            path = f"/v1/requests/{first['request_id']}"
            await eventually(lambda: client.get(path).json().get("attempts") == 1)
        await peer.say("Cancel", request_id=first["request_id"])
        await peer.hear("Cancel")
        await peer.say("Request", ref="order-3", body=ASK)
        again = await peer.hear("Accepted")

    assert "status" not in first
    assert (again["request_id"], again["status"]) == (first["request_id"], "cancelled")


def test_in_a_folder_the_answer_says_so(server: Server, device: tuple[int, str]) -> None:
    device_id, key = device
    with server.device(key) as client:
        request_id = _cancelled(client, "order-4")
    folder: Path = server.cloud / "Requests" / str(device_id)
    folder.mkdir(parents=True)
    (folder / "again.json").write_text(json.dumps({**ASK, "idempotency_key": "order-4"}))

    answer = server.cloud / "Responses" / str(device_id) / "again.json.answer.json"
    eventually_now(answer.exists)

    told = json.loads(answer.read_bytes())
    assert (told["request_id"], told["status"], told["file_name"]) == (request_id, "cancelled", "again.json")
