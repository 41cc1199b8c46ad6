"""One trace id from every door to the model's server and the answer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fieldpost.client import AsyncClient
from fieldpost.tracing import read, trace_id_of
from tests.support.collector import collecting
from tests.support.openai_server import OpenAIServer, Say, openai_server
from tests.support.server import Server, free_port, running_server
from tests.support.sockets import connected
from tests.support.waiting import eventually_now

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def _ask(words: str) -> dict[str, Any]:
    return {"input": {"prompt": words}}


@pytest.fixture(scope="module")
def model() -> Iterator[OpenAIServer]:
    with openai_server() as running:
        for words in ("http", "other", "chat", "socket", "folder", "client", "stream"):
            running.always(words, Say(text="so."))
        yield running


@pytest.fixture(scope="module")
def server(model: OpenAIServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"FIELDPOST_MODEL_URL": model.url, "FIELDPOST_MODEL_NAME": "so", "FIELDPOST_LOG_LEVEL": "debug"}
    with running_server(tmp_path_factory.mktemp("server") / "data", settings=settings) as running:
        yield running


@pytest.fixture
def key(server: Server) -> str:
    return server.add_device()[1]


@pytest.fixture
def device(server: Server, key: str) -> Iterator[httpx.Client]:
    with server.device(key) as client:
        yield client


def _asked_under(model: OpenAIServer, words: str) -> str:
    return next(asked.headers["traceparent"] for asked in model.asked if asked.question == words)


def test_over_http(model: OpenAIServer, device: httpx.Client) -> None:
    accepted = device.post("/v1/requests", json=_ask("http"), headers={"traceparent": SENT})
    eventually_now(lambda: "response" in device.get(accepted.headers["location"]).json())
    response = device.get(accepted.headers["location"]).json()["response"]

    assert SENT == accepted.headers["traceparent"] == response["traceparent"] == _asked_under(model, "http")


@pytest.mark.parametrize("sent", ["", "00-nothing", f"00-{'0' * 32}-00f067aa0ba902b7-01"])
def test_what_is_no_trace_is_ignored_and_one_begins(device: httpx.Client, sent: str) -> None:
    answer = device.post("/v1/requests", json=_ask("other"), headers={"traceparent": sent, "Prefer": "wait=30"})

    made = answer.headers["traceparent"]
    assert answer.status_code == 200
    assert made == read(made) == answer.json()["traceparent"] != ""


def test_over_chat_completions(model: OpenAIServer, device: httpx.Client) -> None:
    body = {"model": "so", "messages": [{"role": "user", "content": "chat"}]}
    assert device.post("/v1/chat/completions", json=body, headers={"traceparent": SENT}).status_code == 200

    assert SENT == _asked_under(model, "chat")


async def test_over_a_websocket(server: Server, model: OpenAIServer, key: str) -> None:
    async with connected(server.url, key) as peer:
        await peer.say("Request", ref="one", body=_ask("socket"), traceparent=SENT)
        accepted = await peer.hear("Accepted")
        ready = await peer.hear("ResponseReady")
        await peer.say("Request", ref="two", body=_ask("socket"), traceparent="nothing")
        other = await peer.hear("Accepted")

    assert SENT == accepted["traceparent"] == ready["response"]["traceparent"] == _asked_under(model, "socket")
    assert other["traceparent"] == read(other["traceparent"]) != ""


def test_through_a_folder(server: Server, model: OpenAIServer) -> None:
    device_id, _ = server.add_device()
    folder = server.cloud / "Requests" / str(device_id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ask.json.partial").write_text(json.dumps({**_ask("folder"), "traceparent": SENT}))
    (folder / "ask.json.partial").rename(folder / "ask.json")
    answer = server.cloud / "Responses" / str(device_id) / "ask.json.answer.json"
    eventually_now(answer.exists)

    assert SENT == json.loads(answer.read_text())["traceparent"] == _asked_under(model, "folder")


async def test_through_the_client(server: Server, model: OpenAIServer, key: str) -> None:
    async with AsyncClient(server.url, key) as client:
        response = await client.ask("client", traceparent=SENT)
        async with client.connect() as stream:
            await stream.post("stream", traceparent=SENT)
            streamed = await stream.receive()

    assert SENT == response.traceparent == _asked_under(model, "client")
    assert SENT == streamed.traceparent == _asked_under(model, "stream")


def test_every_step_of_a_request_can_be_found_in_the_log_by_its_trace(server: Server, device: httpx.Client) -> None:
    answer = device.post("/v1/requests", json=_ask("other"), headers={"Prefer": "wait=30"})
    trace_id = trace_id_of(answer.headers["traceparent"])

    def told() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in server.log().splitlines() if trace_id in line]
        return [line for line in lines if line.get("trace_id") == trace_id]

    events = {"request_accepted", "request_recorded", "attempt_claimed", "attempt_ended", "request_finished"}
    eventually_now(lambda: events <= {line["event"] for line in told()})
    assert {answer.json()["request_id"]} == {line["request_id"] for line in told()}
    assert {1} == {line["attempt"] for line in told() if line["event"].startswith("attempt_")}


def test_a_collector_is_told_every_step_as_one_trace(model: OpenAIServer, tmp_path: Path) -> None:
    model.always("collected", Say(text="so."))
    settings = {"FIELDPOST_MODEL_URL": model.url, "FIELDPOST_MODEL_NAME": "so"}
    steps = {"accept", "record", "dispatch-wait", "attempt", "deliver"}

    with (
        collecting() as collector,
        running_server(tmp_path / "data", settings={**settings, "FIELDPOST_TRACING_ENDPOINT": collector.url}) as server,
        server.device(server.add_device()[1]) as device,
    ):
        answer = device.post("/v1/requests", json=_ask("collected"), headers={"traceparent": SENT, "Prefer": "wait=30"})
        eventually_now(lambda: steps <= collector.of(TRACE).keys())
    told = collector.of(TRACE)

    carried = f"00-{TRACE}-{told['accept'].span_id}-01"
    assert carried == answer.headers["traceparent"] == answer.json()["traceparent"]
    assert "00f067aa0ba902b7" == told["accept"].parent_id
    assert {told["accept"].span_id} == {told[name].parent_id for name in steps - {"accept"}}
    assert f"00-{TRACE}-{told['attempt'].span_id}-01" == _asked_under(model, "collected")
    assert {"model": "so", "attempt": 1} == told["attempt"].attributes
    assert ("http", False) == (told["accept"].attributes["channel"], told["attempt"].is_failed)


def test_a_collector_that_is_away_is_in_nobodys_way(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/v1/traces"
    settings = {"FIELDPOST_MODEL_URL": "echo:", "FIELDPOST_TRACING_ENDPOINT": nobody}

    with (
        running_server(tmp_path / "data", settings=settings) as server,
        server.device(server.add_device()[1]) as device,
    ):
        answer = device.post("/v1/requests", json=_ask("anyone?"), headers={"Prefer": "wait=30"})
        eventually_now(lambda: "trace_export_failed" in server.log())
        assert server.stop() == 0

    assert answer.json()["output"]["text"] == "anyone?"
    assert all(line.startswith("{") for line in server.log().splitlines() if "rror" in line)
