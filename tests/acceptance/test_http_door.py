"""The HTTP door, through a real process with the echo of what was asked as its model."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.cluster_server import WAYS, server_of
from tests.support.server import Server
from tests.support.waiting import eventually_now

ASK = {"input": {"prompt": "How long may I drive?"}}


@pytest.fixture(scope="module", params=WAYS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"FIELDPOST_MODEL_URL": "echo:", "FIELDPOST_MODEL_NAME": "echo"}
    yield from server_of(request, tmp_path_factory.mktemp("server"), settings)


@pytest.fixture
def device(server: Server) -> Iterator[httpx.Client]:
    with server.device(server.add_device()[1]) as client:
        yield client


@pytest.fixture
def operator(server: Server) -> Iterator[httpx.Client]:
    with server.device(server.operator_key) as client:
        yield client


def _is_answered(device: httpx.Client, request_id: str) -> bool:
    return "response" in device.get(f"/v1/requests/{request_id}").json()


def test_a_request_is_accepted_answered_and_acknowledged(device: httpx.Client) -> None:
    accepted = device.post("/v1/requests", json=ASK)
    place = accepted.headers["location"]
    eventually_now(lambda: "response" in device.get(place).json())
    status = device.get(place).json()
    waiting = device.get("/v1/responses").json()["responses"]
    acknowledged = device.post(f"{place}/ack")

    assert accepted.status_code == 202
    assert accepted.json() == {"id": place.rpartition("/")[2], "status": "queued"}
    assert status["status"] == "succeeded"
    assert status["response"]["output"]["text"] == "How long may I drive?"
    assert [response["request_id"] for response in waiting] == [status["id"]]
    assert acknowledged.json() == {"acknowledged": [status["id"]]}
    assert device.get("/v1/responses").json() == {"responses": []}
    assert "acknowledged_at" in device.get(place).json()


def test_a_caller_who_prefers_to_wait_gets_the_response_and_it_does_not_come_again(device: httpx.Client) -> None:
    answer = device.post("/v1/requests", json=ASK, headers={"Prefer": "wait=30"})

    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.json()["output"]["text"] == "How long may I drive?"
    place = answer.headers["location"]
    eventually_now(lambda: "acknowledged_at" in device.get(place).json())
    assert device.get("/v1/responses").json() == {"responses": []}


def test_the_same_key_is_the_same_request(device: httpx.Client) -> None:
    key = str(uuid4())

    first = device.post("/v1/requests", json=ASK, headers={"Idempotency-Key": key})
    second = device.post("/v1/requests", json={**ASK, "idempotency_key": key})
    other = device.post("/v1/requests", json={"input": {"prompt": "What else?"}}, headers={"Idempotency-Key": key})
    differing = device.post("/v1/requests", json={**ASK, "idempotency_key": "x"}, headers={"Idempotency-Key": key})

    assert first.json()["id"] == second.json()["id"]
    assert (other.status_code, other.json()["type"]) == (409, "urn:fieldpost:problem:idempotency-conflict")
    assert differing.status_code == 409
    assert len(device.get("/v1/requests").json()["requests"]) <= 1


def test_requests_are_listed_newest_first_in_pages(device: httpx.Client) -> None:
    posted = [device.post("/v1/requests", json=ASK).json()["id"] for _ in range(5)]
    eventually_now(lambda: len(device.get("/v1/requests?status=succeeded").json()["requests"]) == 5)

    pages: list[list[str]] = []
    after: str | None = ""
    while after is not None:
        page = device.get("/v1/requests", params={"limit": 2} | ({"after": after} if after else {})).json()
        pages.append([status["id"] for status in page["requests"]])
        after = page["next"]

    assert [len(page) for page in pages] == [2, 2, 1]
    assert [request_id for page in pages for request_id in page] == posted[::-1]
    assert device.get("/v1/requests?status=failed").json() == {"requests": [], "next": None}


def test_a_request_that_has_ended_cannot_be_cancelled(device: httpx.Client) -> None:
    place = device.post("/v1/requests", json=ASK, headers={"Prefer": "wait=30"}).headers["location"]

    answer = device.delete(place)

    assert (answer.status_code, answer.json()["type"]) == (409, "urn:fieldpost:problem:state-conflict")


def test_a_device_sees_only_its_own(server: Server, device: httpx.Client) -> None:
    request_id = device.post("/v1/requests", json=ASK).json()["id"]
    eventually_now(lambda: _is_answered(device, request_id))

    with server.device(server.add_device()[1]) as other:
        answers = [
            other.get(f"/v1/requests/{request_id}"),
            other.delete(f"/v1/requests/{request_id}"),
            other.post(f"/v1/requests/{request_id}/ack"),
            other.get(f"/v1/requests/{request_id}/events"),
        ]
        listed = other.get("/v1/requests").json()["requests"]
        waiting = other.get("/v1/responses").json()["responses"]

    assert [answer.status_code for answer in answers] == [404] * 4
    assert {answer.json()["type"] for answer in answers} == {"urn:fieldpost:problem:not-found"}
    assert (listed, waiting) == ([], [])
    assert device.get("/v1/responses").json()["responses"]


def test_a_long_poll_ends_as_soon_as_there_is_an_answer(device: httpx.Client) -> None:
    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(device.get, "/v1/responses?wait=60", timeout=90)
        request_id = device.post("/v1/requests", json=ASK).json()["id"]
        responses = polling.result(timeout=50).json()["responses"]

    assert [response["request_id"] for response in responses] == [request_id]


def test_a_long_poll_without_answers_ends_empty(device: httpx.Client) -> None:
    assert device.get("/v1/responses?wait=1").json() == {"responses": []}


def test_a_request_can_be_followed_to_its_response(device: httpx.Client) -> None:
    place = device.post("/v1/requests", json=ASK).headers["location"]

    eventually_now(lambda: device.get(place).status_code == 200)
    with device.stream("GET", f"{place}/events") as stream:
        names = [line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event: ")]

    assert stream.headers["content-type"].startswith("text/event-stream")
    assert names[0] == "status"
    assert names[-1] == "response"


def test_without_a_key_nothing_is_told(server: Server) -> None:
    for headers in ({}, {"Authorization": "Bearer fp_1_wrongwrongwrongwrong"}, {"Authorization": "Basic eDp5"}):
        answer = httpx.get(f"{server.url}/v1/requests", headers=headers)

        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["type"] == "urn:fieldpost:problem:unauthenticated"


def test_an_operators_key_is_no_devices_key_and_the_other_way_round(
    server: Server, device: httpx.Client, operator: httpx.Client
) -> None:
    assert operator.get("/v1/requests").status_code == 401
    assert device.get("/admin/devices").status_code == 401


def test_a_devices_life(server: Server, operator: httpx.Client) -> None:
    made = operator.post("/admin/devices", json={"kind": "office", "name": "Front desk"})
    place = f"/admin/devices/{made.json()['device']['id']}"
    with server.device(made.json()["key"]) as device:
        assert device.get("/v1/requests").status_code == 200

        operator.patch(place, json={"disabled": True})
        disabled = device.get("/v1/requests")
        operator.patch(place, json={"disabled": False, "name": "Back desk"})
        enabled = device.get("/v1/requests")
        rotated = operator.post(f"{place}/rotate").json()
        stale = device.get("/v1/requests")
    with server.device(rotated["key"]) as device:
        fresh = device.get("/v1/requests")
        removed = operator.delete(place)
        gone = device.get("/v1/requests")

    assert made.status_code == 201
    assert (disabled.status_code, disabled.json()["type"]) == (403, "urn:fieldpost:problem:device-disabled")
    assert (enabled.status_code, stale.status_code, fresh.status_code) == (200, 401, 200)
    assert rotated["device"]["name"] == "Back desk"
    assert (removed.status_code, removed.content, gone.status_code) == (204, b"", 401)
    assert operator.get(place).status_code == 404


def test_an_id_is_never_used_again(operator: httpx.Client) -> None:
    body = {"kind": "truck", "name": "Truck", "id": 9001}

    first = operator.post("/admin/devices", json=body)
    again = operator.post("/admin/devices", json=body)
    operator.delete("/admin/devices/9001")
    after_removal = operator.post("/admin/devices", json=body)

    assert [answer.status_code for answer in (first, again, after_removal)] == [201, 409, 409]


def test_devices_are_listed_in_pages(operator: httpx.Client) -> None:
    made = [operator.post("/admin/devices", json={"kind": "truck", "name": f"T{i}"}).json() for i in range(3)]

    ids: list[int] = []
    after: int | None = 0
    while after is not None:
        page = operator.get("/admin/devices", params={"after": after, "limit": 2}).json()
        ids += [device["id"] for device in page["devices"]]
        after = page["next"]

    assert ids == sorted(ids)
    assert {made_one["device"]["id"] for made_one in made} <= set(ids)
    assert "key" not in operator.get("/admin/devices").text


def test_operators_see_who_asked_what(device: httpx.Client, operator: httpx.Client) -> None:
    request_id = device.post("/v1/requests", json={"input": {"prompt": "x" * 900}}).json()["id"]
    eventually_now(lambda: _is_answered(device, request_id))

    rows: list[dict[str, Any]] = operator.get("/admin/requests?limit=500").json()["requests"]
    row = next(row for row in rows if row["id"] == request_id)

    assert row["channel"] == "http"
    assert row["question"] == "x" * 500
    assert row["response"]["output"]["text"] == "x" * 900
    assert "device_id" in row


def test_operators_see_queues_and_dead_letters(operator: httpx.Client) -> None:
    queues = operator.get("/admin/queues").json()["queues"]

    assert {"name", "depth"} == set(queues[0])
    assert "dead_letters" in operator.get("/admin/dead-letters").json()


def test_a_head_is_a_get_without_a_body(server: Server, device: httpx.Client) -> None:
    answer = device.head("/v1/requests")

    assert (answer.status_code, answer.content) == (200, b"")


def test_a_caller_who_hangs_up_while_waiting_gets_the_answer_later(server: Server, operator: httpx.Client) -> None:
    with server.device(server.add_device()[1]) as device:
        hung_up = threading.Event()

        def wait_and_hang_up() -> None:
            with httpx.Client(base_url=server.url, headers=device.headers) as impatient:
                try:
                    impatient.get("/v1/responses?wait=60", timeout=0.3)
                except httpx.ReadTimeout:
                    hung_up.set()

        waiting = threading.Thread(target=wait_and_hang_up)
        waiting.start()
        waiting.join(timeout=30)
        assert hung_up.is_set()
        request_id = device.post("/v1/requests", json=ASK).json()["id"]

        responses = device.get("/v1/responses?wait=30").json()["responses"]

    assert [response["request_id"] for response in responses] == [request_id]


def test_the_server_names_no_version_and_keeps_time(server: Server) -> None:
    answer = httpx.get(f"{server.url}/health")

    assert answer.headers.get("server") in (None, "nginx")
    assert time.strptime(answer.headers["date"], "%a, %d %b %Y %H:%M:%S GMT")
