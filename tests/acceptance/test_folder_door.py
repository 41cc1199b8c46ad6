"""The folder door, as a device with a synced folder sees it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster_server import WAYS, server_of
from tests.support.server import Server, running_server
from tests.support.waiting import eventually_now

PROBLEM = "urn:fieldpost:problem:"


@pytest.fixture(scope="module", params=WAYS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from server_of(request, tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def truck(server: Server) -> int:
    return server.add_device(name="a truck with a folder")[0]


def _drop(server: Server, device: int, name: str, content: bytes) -> None:
    folder = server.cloud / "Requests" / str(device)
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{name}.partial"
    aside.write_bytes(content)
    aside.rename(folder / name)


def _answer(server: Server, device: int, name: str) -> dict[str, Any]:
    return _arrived(server.cloud / "Responses" / str(device) / f"{name}.answer.json")


def _reason(server: Server, device: int, name: str) -> dict[str, Any]:
    return _arrived(server.cloud / "Rejected" / str(device) / f"{name}.reason.json")


def _arrived(path: Path) -> dict[str, Any]:
    eventually_now(path.exists)
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content


def test_a_dropped_question_is_answered_in_the_devices_folder_and_moved_to_done(server: Server, truck: int) -> None:
    _drop(server, truck, "question.txt", b"How long may I drive without a break?")

    answer = _answer(server, truck, "question.txt")

    assert "succeeded" == answer["status"]
    assert "question.txt" == answer["file_name"]
    assert answer["output"]["text"]
    eventually_now((server.cloud / "Done" / str(truck) / "question.txt").exists)
    assert not (server.cloud / "Requests" / str(truck) / "question.txt").exists()


def test_an_envelope_is_answered_and_can_be_followed_over_http(server: Server) -> None:
    device, key = server.add_device(name="a truck with both")
    envelope = {"input": {"messages": [{"role": "user", "content": "What about rest?"}]}, "idempotency_key": "order-1"}
    _drop(server, device, "order.json", json.dumps(envelope).encode())

    answer = _answer(server, device, "order.json")

    with server.device(key) as client:
        status = client.get(f"/v1/requests/{answer['request_id']}").json()
        again = client.post("/v1/requests", json=envelope)
    assert "succeeded" == status["status"]
    assert answer["request_id"] == again.json()["id"]


def test_a_file_that_asks_what_another_door_or_file_asked_gets_the_same_answer_under_its_own_name(
    server: Server,
) -> None:
    device, key = server.add_device(name="a truck that asks twice")
    envelope = {"input": {"prompt": "How long may I drive?"}, "idempotency_key": "order-2"}
    with server.device(key) as client:
        posted = client.post("/v1/requests", json=envelope).json()
        _drop(server, device, "first.json", json.dumps(envelope).encode())
        first = _answer(server, device, "first.json")
        _drop(server, device, "second.json", json.dumps(envelope).encode())
        second = _answer(server, device, "second.json")
        waiting = client.get("/v1/responses").json()
    _drop(server, device, "third.json", json.dumps(envelope | {"input": {"prompt": "Why?"}}).encode())

    assert {posted["id"]} == {first["request_id"], second["request_id"]}
    assert ["first.json", "second.json"] == [first["file_name"], second["file_name"]]
    assert first["output"] == second["output"]
    # The door that asked first still brings its answer.
    assert [posted["id"]] == [response["request_id"] for response in waiting["responses"]]
    assert f"{PROBLEM}idempotency-conflict" == _reason(server, device, "third.json")["type"]


def test_what_cannot_be_taken_is_rejected_with_its_reason(server: Server, truck: int) -> None:
    _drop(server, truck, "photo.jpg", b"\xff\xd8")
    _drop(server, truck, "broken.json", b"{")
    _drop(server, truck, "blank.txt", b"\n")

    assert f"{PROBLEM}unsupported-media-type" == _reason(server, truck, "photo.jpg")["type"]
    assert f"{PROBLEM}malformed-request" == _reason(server, truck, "broken.json")["type"]
    assert f"{PROBLEM}invalid-request" == _reason(server, truck, "blank.txt")["type"]
    assert (server.cloud / "Rejected" / str(truck) / "photo.jpg").exists()


def test_a_folder_that_is_no_devices_gets_no_answers(server: Server) -> None:
    _drop(server, 999_999, "question.txt", b"Who am I?")

    assert f"{PROBLEM}not-found" == _reason(server, 999_999, "question.txt")["type"]
    assert not (server.cloud / "Responses" / "999999").exists()


def test_files_dropped_while_fieldpost_is_down_are_answered_after_the_next_start(data: Path) -> None:
    server = Server(data)
    server.start()
    try:
        device, _ = server.add_device()
        server.kill()
        for number in range(20):
            _drop(server, device, f"{number}.txt", b"How long may I drive? %d" % number)
        server.start()

        answers = [_answer(server, device, f"{number}.txt") for number in range(20)]
    finally:
        server.kill()

    assert 20 == len({answer["request_id"] for answer in answers})
    assert all(answer["status"] == "succeeded" for answer in answers)


def test_a_flood_of_bad_files_is_no_flood_of_lines(data: Path) -> None:
    with running_server(data) as server:
        device = server.add_device()[0]
        for number in range(300):
            _drop(server, device, f"{number}.exe", b"junk")
        rejected = server.cloud / "Rejected" / str(device)
        eventually_now(lambda: rejected.exists() and len(list(rejected.glob("*.reason.json"))) == 300, seconds=60)

        assert 1 <= server.log().count("drop_rejected") < 30


def test_killed_again_and_again_it_answers_every_file_once(data: Path) -> None:
    server = Server(data)
    server.start()
    ids: dict[str, str] = {}
    try:
        device, _ = server.add_device()
        responses = server.cloud / "Responses" / str(device)
        for turn in range(4):
            names = [f"{turn}-{number}.txt" for number in range(10)]
            for name in names:
                _drop(server, device, name, name.encode())
            # In the middle of the work, wherever that is.
            eventually_now(lambda first=names[0]: (responses / f"{first}.answer.json").exists())  # type: ignore[misc]
            server.kill()
            ids |= _ids(responses, ids)
            server.start()
        eventually_now(lambda: len(list(responses.glob("*.answer.json"))) == 40)
        eventually_now(lambda: len(list((server.cloud / "Done" / str(device)).glob("*.txt"))) == 40)
        ids |= _ids(responses, ids)
    finally:
        server.kill()

    assert 40 == len(set(ids.values()))


def _ids(responses: Path, known: dict[str, str]) -> dict[str, str]:
    """Request ids by file; a file's never changes."""
    ids = {path.name: json.loads(path.read_bytes())["request_id"] for path in responses.glob("*.answer.json")}
    assert known.items() <= ids.items()
    return ids
