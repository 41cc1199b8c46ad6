"""What no well-behaved client sends: refused with a problem document, and the server goes on."""

import json
from collections.abc import Iterator
from uuid import UUID

import httpx
import pytest

from tests.support.server import Server


@pytest.fixture(scope="module")
def device(server: Server) -> Iterator[httpx.Client]:
    with server.device(server.add_device()[1]) as client:
        yield client


def _is_problem(answer: httpx.Response) -> bool:
    document = answer.json()
    return (
        answer.headers["content-type"] == "application/problem+json"
        and document["type"].startswith("urn:fieldpost:problem:")
        and document["status"] == answer.status_code
        and bool(document["title"])
    )


BAD_BODIES = [
    ("nothing", b"", 400),
    ("half of it", b'{"input": {"prompt": "x"', 400),
    ("not JSON", b"prompt=x", 400),
    ("bytes that are no text", b'{"input": {"prompt": "\xff\xfe"}}', 422),
    ("half a surrogate pair", b'{"input": {"prompt": "\\ud800"}}', 400),
    ("deep nesting", b"[" * 200_000, 422),
    ("a list", b"[]", 422),
    ("no input", b"{}", 422),
    ("empty input", b'{"input": {}}', 422),
    ("an empty prompt", b'{"input": {"prompt": ""}}', 422),
    ("both forms", b'{"input": {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}}', 422),
    ("no messages", b'{"input": {"messages": []}}', 422),
    ("an unknown role", b'{"input": {"messages": [{"role": "god", "content": "x"}]}}', 422),
    ("an unknown member", b'{"input": {"prompt": "x"}, "colour": "red"}', 422),
    ("an unknown model", b'{"input": {"prompt": "x"}, "model": "nobody"}', 422),
    ("an unknown priority", b'{"input": {"prompt": "x"}, "priority": "urgent"}', 422),
    ("a deadline in the past", b'{"input": {"prompt": "x"}, "deadline_seconds": -1}', 422),
    ("a deadline past all dates", b'{"input": {"prompt": "x"}, "deadline_seconds": 1e300}', 422),
    ("a number that is none", b'{"input": {"prompt": "x"}, "deadline_seconds": NaN}', 400),
    ("a long key", json.dumps({"input": {"prompt": "x"}, "idempotency_key": "k" * 256}).encode(), 422),
]


@pytest.mark.parametrize(("body", "status"), [case[1:] for case in BAD_BODIES], ids=[case[0] for case in BAD_BODIES])
def test_a_bad_body_is_refused_with_a_problem(device: httpx.Client, body: bytes, status: int) -> None:
    answer = device.post("/v1/requests", content=body, headers={"Content-Type": "application/json"})

    assert (answer.status_code, _is_problem(answer)) == (status, True), answer.text


def test_the_wrong_member_is_named(device: httpx.Client) -> None:
    answer = device.post("/v1/requests", json={"input": {"prompt": 5}})

    assert answer.json()["errors"] == ["input.prompt"]


@pytest.mark.parametrize(
    ("path", "member", "value"),
    [
        ("/v1/requests", "colour" * 150_000, "red"),
        ("/v1/requests", "priority", "x" * 900_000),
        ("/v1/chat/completions", "model", "x" * 900_000),
        ("/v1/chat/completions", "messages", [{"role": "x" * 900_000, "content": "x"}]),
    ],
    ids=["unknown member", "priority", "model", "role"],
)
def test_no_refusal_says_all_that_was_sent_again(device: httpx.Client, path: str, member: str, value: object) -> None:
    asked: dict[str, object] = {"input": {"prompt": "x"}}
    if path == "/v1/chat/completions":
        asked = {"model": "library", "messages": [{"role": "user", "content": "x"}]}

    answer = device.post(path, json={**asked, member: value})

    assert answer.status_code in (404, 422)
    assert len(answer.content) < 2000


def test_what_stands_between_the_lines_is_kept(device: httpx.Client) -> None:
    prompt = "escape \x1b, line\r\nbreak, \U0001f69a, \u202ereversed, <script>, '; drop table requests; --"

    place = device.post("/v1/requests", json={"input": {"prompt": prompt}}, headers={"Prefer": "wait=30"})

    assert place.status_code == 200
    assert place.json()["status"] == "succeeded"


@pytest.mark.parametrize("prompt", [" \n\t", "nul \x00"])
def test_what_asks_nothing_or_cannot_be_kept_is_refused(device: httpx.Client, prompt: str) -> None:
    answers = [
        device.post("/v1/requests", json={"input": {"prompt": prompt}}),
        device.post("/v1/requests", json={"input": {"messages": [{"role": "user", "content": prompt}]}}),
        device.post(
            "/v1/chat/completions", json={"model": "library", "messages": [{"role": "user", "content": prompt}]}
        ),
    ]

    assert [answer.status_code for answer in answers] == [422, 422, 422]


def test_a_devices_name_of_two_lines_is_refused(server: Server) -> None:
    answer = httpx.post(f"{server.url}/admin/devices", json={"kind": "truck", "name": "a\nb"}, headers=server.operator)

    assert (answer.status_code, answer.json()["errors"]) == (422, ["name"])


def test_a_body_over_one_mebibyte_is_refused(device: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    headers = {"Content-Type": "application/json"}
    announced = device.post("/v1/requests", content=b" " * 2_000_000, headers=headers)
    not_announced = device.post("/v1/requests", content=pieces(), headers=headers)

    assert (announced.status_code, _is_problem(announced)) == (413, True)
    assert (not_announced.status_code, _is_problem(not_announced)) == (413, True)


def test_another_content_type_is_refused(device: httpx.Client) -> None:
    answer = device.post("/v1/requests", data={"prompt": "x"})

    assert (answer.status_code, _is_problem(answer)) == (415, True)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/requests/not-an-id",
        f"/v1/requests/{UUID(int=7)}",
        "/v1/requests/%00",
        "/v1/requests/..%2f..%2fetc%2fpasswd",
        f"/v1/requests/{UUID(int=7)}/events",
        "/v1/unknown",
        "/page/..%2fpage.js",
        "/page/%2e%2e/index.html",
    ],
)
def test_what_is_not_there_is_not_found(device: httpx.Client, path: str) -> None:
    answer = device.get(path)

    assert (answer.status_code, _is_problem(answer)) == (404, True)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=-1",
        "limit=1e1",
        "limit=٣",
        "after=x",
        "status=lost",
        "limit=" + "9" * 50,
    ],
)
def test_a_bad_query_is_refused_and_named(device: httpx.Client, query: str) -> None:
    answer = device.get(f"/v1/requests?{query}")

    assert (answer.status_code, _is_problem(answer)) == (422, True)
    assert answer.json()["errors"] == [query.partition("=")[0]]


@pytest.mark.parametrize("wait", ["-1", "301", "x"])
def test_a_bad_wait_is_refused(device: httpx.Client, wait: str) -> None:
    assert device.get(f"/v1/responses?wait={wait}").status_code == 422


def test_a_wish_that_cannot_be_read_is_no_wish(device: httpx.Client) -> None:
    answer = device.post("/v1/requests", json={"input": {"prompt": "x"}}, headers={"Prefer": "wait=soon"})

    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_bad_idempotency_key_is_refused(device: httpx.Client, key: str) -> None:
    answer = device.post("/v1/requests", json={"input": {"prompt": "x"}}, headers={"Idempotency-Key": key})

    assert (answer.status_code, answer.json()["errors"]) == (422, ["Idempotency-Key"])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "spaceship", "name": "x"},
        {"kind": "truck", "name": ""},
        {"kind": "truck", "name": "x" * 201},
        {"kind": "truck", "name": "x", "id": 0},
        {"kind": "truck", "name": "x", "id": 2**63},
        {"kind": "truck", "name": "x", "secret": "mine"},
    ],
)
def test_a_bad_device_is_refused(server: Server, body: dict[str, object]) -> None:
    answer = httpx.post(f"{server.url}/admin/devices", json=body, headers=server.operator)

    assert (answer.status_code, _is_problem(answer)) == (422, True)


@pytest.mark.parametrize("device_id", ["0", "-1", "x", "99999999999999999999", "1.0", "%31%00"])
def test_a_device_that_is_not_there_is_not_found(server: Server, device_id: str) -> None:
    answer = httpx.get(f"{server.url}/admin/devices/{device_id}", headers=server.operator)

    assert answer.status_code == 404


def test_after_all_this_it_is_still_ready(server: Server) -> None:
    assert httpx.get(f"{server.url}/ready").status_code == 200
