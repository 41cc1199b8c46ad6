"""A model of one's own behind `fieldpost up`: a real server that answers, stalls, breaks off and is overloaded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from fieldpost.client import Chunk, Client
from tests.support.openai_server import Cut, Fail, OpenAIServer, Say, Stall, openai_server
from tests.support.server import Server, free_port, running_server
from tests.support.waiting import eventually_now

SETTINGS = {
    "FIELDPOST_MODEL_NAME": "local-7b",
    "FIELDPOST_MODEL_KEY": "of-the-model",
    "FIELDPOST_WORKER_RETRY_SECONDS": "0.05",
    "FIELDPOST_WORKER_MAX_ATTEMPTS": "3",
    "FIELDPOST_WORKER_CONCURRENCY": "4",
}


@pytest.fixture(scope="module")
def model() -> Iterator[OpenAIServer]:
    with openai_server() as running:
        yield running


@pytest.fixture(scope="module")
def server(model: OpenAIServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {**SETTINGS, "FIELDPOST_MODEL_URL": model.url}
    with running_server(tmp_path_factory.mktemp("server") / "data", settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    return server.add_device()[1]


@pytest.fixture
def device(server: Server, key: str) -> Iterator[httpx.Client]:
    with server.device(key) as client:
        yield client


@pytest.fixture
def client(server: Server, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=60) as made:
        yield made


def _ask(device: httpx.Client, prompt: str) -> dict[str, Any]:
    answer = device.post("/v1/requests", json={"input": {"prompt": prompt}}, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
    response: dict[str, Any] = answer.json()
    return response


def _stream(client: openai.OpenAI, prompt: str) -> Iterator[str]:
    stream = client.chat.completions.create(
        model="local-7b", messages=[{"role": "user", "content": prompt}], temperature=0.5, stream=True
    )
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content


def test_requests_go_to_that_model(model: OpenAIServer, device: httpx.Client, client: openai.OpenAI) -> None:
    response = _ask(device, "plainly asked")

    assert response["status"] == "succeeded"
    assert response["model"] == "local-7b"
    assert response["output"]["text"] == "You asked: plainly asked"
    assert response["output"]["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert {"local-7b", "library"} == {card.id for card in client.models.list()}
    (asked,) = [asked for asked in model.asked if asked.question == "plainly asked"]
    assert asked.headers["authorization"] == "Bearer of-the-model"
    assert asked.body["messages"] == [{"role": "user", "content": "plainly asked"}]


def test_stalled_answers_do_not_stop_the_others(model: OpenAIServer, device: httpx.Client) -> None:
    model.always("stalls", Stall(after="I think "))
    deserted = model.deserted
    stalled = [
        device.post("/v1/requests", json={"input": {"prompt": f"stalls {number}"}}).json()["id"] for number in range(3)
    ]
    eventually_now(lambda: model.times_asked("stalls") == 3)

    for number in range(5):
        assert _ask(device, f"goes on {number}")["status"] == "succeeded"

    # A cancellation reaches the model's server.
    for request_id in stalled:
        assert device.delete(f"/v1/requests/{request_id}").status_code == 200
    eventually_now(lambda: model.deserted == deserted + 3)


def test_an_overloaded_model_is_asked_again_when_it_wants_to_be(model: OpenAIServer, device: httpx.Client) -> None:
    model.on("overloaded", Fail(status=429, headers={"Retry-After": "1"}))

    response = _ask(device, "overloaded once")

    assert response["status"] == "succeeded"
    assert response["attempts"] == 2
    first, second = (asked.at_seconds for asked in model.asked if "overloaded" in asked.question)
    assert second - first >= 1


def test_a_model_that_only_fails_ends_the_request_with_its_reason(
    model: OpenAIServer, device: httpx.Client, server: Server
) -> None:
    model.always("fails for ever", Fail(status=500))

    response = _ask(device, "fails for ever")

    assert response["status"] == "failed"
    assert response["attempts"] == model.times_asked("fails for ever") == 3
    assert response["error"]["type"].endswith("model-unavailable")
    assert response["error"]["detail"] == "the model's server answered 500"


def test_what_the_model_does_is_in_the_log_and_in_the_numbers(
    model: OpenAIServer, device: httpx.Client, server: Server
) -> None:
    model.always("wrong key", Fail(status=401, body='{"error": {"message": "no such key"}}'))

    failed = _ask(device, "wrong key")

    lines = [json.loads(line) for line in server.log().splitlines() if '"attempt_failed"' in line]
    # Three attempts for one reason are one line.
    (told,) = [line for line in lines if line["request_id"] == failed["request_id"]]
    assert ("local-7b", 1, "no such key") == (told["model"], told["attempt"], told["server_says"])
    assert "the model's server does not accept the key (401)" in told["reason"]

    def answered(outcome: str) -> float:
        return _metric(server, f'fieldpost_answer_seconds_count{{model="local-7b",outcome="{outcome}"}}')

    eventually_now(lambda: answered("failed") >= 1)
    before = answered("succeeded")
    _ask(device, "counted")
    eventually_now(lambda: answered("succeeded") > before)
    seconds = _metric(server, 'fieldpost_answer_seconds_sum{model="local-7b",outcome="succeeded"}')
    assert 0 < seconds < 3600 * answered("succeeded")


def _metric(server: Server, name: str) -> float:
    """The sample's value; 0 when there is none."""
    lines = httpx.get(f"{server.url}/metrics", timeout=30).text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} ")), 0.0)


def test_a_refused_request_is_not_asked_twice(model: OpenAIServer, device: httpx.Client) -> None:
    model.always("too long", Fail(status=400, body='{"error": {"message": "maximum context length is 4096"}}'))

    response = _ask(device, "too long")

    assert response["status"] == "failed"
    assert model.times_asked("too long") == 1
    assert response["error"]["type"].endswith("model-refused")
    assert "maximum context length is 4096" in response["error"]["detail"]


@pytest.mark.parametrize("after", ["", "I was about to "])
def test_a_cut_answer_is_asked_for_again(model: OpenAIServer, device: httpx.Client, after: str) -> None:
    prompt = f"cut after {len(after)}"
    model.on(prompt, Cut(after=after))

    response = _ask(device, prompt)

    assert response["status"] == "succeeded"
    assert response["attempts"] == 2
    assert response["output"]["text"] == f"You asked: {prompt}"


def test_a_completion_streams_through(model: OpenAIServer, client: openai.OpenAI) -> None:
    model.on("stream through", Say(text="Thirty-three pallets fit, says the plan."))

    pieces = list(_stream(client, "stream through"))

    assert "".join(pieces) == "Thirty-three pallets fit, says the plan."
    (asked,) = [asked for asked in model.asked if asked.question == "stream through"]
    assert asked.body["temperature"] == 0.5


def test_pieces_of_an_answer_in_the_making_reach_a_listener_that_asks_for_them(
    model: OpenAIServer, server: Server
) -> None:
    model.on("in pieces", Say(text="Thirty-three pallets fit, says the plan."))
    chunks: list[Chunk] = []

    with Client(server.url, server.add_device()[1]) as asking, asking.connect(on_chunk=chunks.append) as stream:
        request_id = stream.post("in pieces")
        response = stream.receive()

    assert {(request_id, 1)} == {(chunk.request_id, chunk.attempt) for chunk in chunks}
    assert list(range(len(chunks))) == [chunk.index for chunk in chunks]
    assert len(chunks) > 1
    assert response.output is not None
    assert response.output.text == "".join(chunk.text for chunk in chunks)


@pytest.mark.parametrize("failure", [Cut(), Fail(status=503)], ids=["cut", "503"])
def test_a_failure_before_the_first_word_is_not_seen(
    model: OpenAIServer, client: openai.OpenAI, failure: Cut | Fail
) -> None:
    prompt = f"unseen {type(failure).__name__}"
    model.on(prompt, failure)

    assert "".join(_stream(client, prompt)) == f"You asked: {prompt}"
    assert model.times_asked(prompt) == 2


def test_a_failure_after_the_first_word_ends_the_stream_with_an_error(
    model: OpenAIServer, client: openai.OpenAI
) -> None:
    model.on("breaks off", Cut(after="I was about to "))
    pieces: list[str] = []

    with pytest.raises(openai.APIError) as broken:
        pieces.extend(_stream(client, "breaks off"))

    assert "".join(pieces) == "I was about to "
    assert broken.value.code == "stream_broken_off"
    assert model.times_asked("breaks off") == 2


def test_the_library_stays_there_to_be_asked(model: OpenAIServer, device: httpx.Client) -> None:
    body = {"model": "library", "input": {"prompt": "tyre tread depth"}}

    response = device.post("/v1/requests", json=body, headers={"Prefer": "wait=60"}).json()

    assert response["output"]["sources"][0]["file"] == "pre-trip-checks.md"
    assert model.times_asked("tyre tread depth") == 0


def test_the_librarys_passages_reach_the_model_as_context(
    model: OpenAIServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = {**SETTINGS, "FIELDPOST_MODEL_URL": model.url, "FIELDPOST_LIBRARY_CONTEXT": "true"}
    with (
        running_server(tmp_path_factory.mktemp("context") / "data", settings=settings) as server,
        server.device(server.add_device()[1]) as device,
    ):
        response = _ask(device, "When the reefer alarm sounds, what then?")

    (asked,) = [asked for asked in model.asked if "reefer alarm" in asked.question]
    system, question = asked.body["messages"]
    assert system["role"] == "system"
    assert '"file": "cold-chain.md"' in system["content"]
    assert "Read the code on the display" in system["content"]
    assert question["role"] == "user"
    assert response["output"]["sources"][0]["file"] == "cold-chain.md"


def test_requests_whose_model_was_taken_out_of_the_settings_wait_for_it_and_ready_names_it(data: Path) -> None:
    away = {**SETTINGS, "FIELDPOST_MODEL_URL": f"http://127.0.0.1:{free_port()}/v1", "FIELDPOST_MODEL_NAME": "old"}
    echo = {"FIELDPOST_MODEL_URL": "echo:"}
    with running_server(data, settings={**away, "FIELDPOST_WORKER_MAX_ATTEMPTS": "1000"}) as server:
        _, key = server.add_device()
        with server.device(key) as device:
            request_id = device.post("/v1/requests", json={"input": {"prompt": "patiently"}}).json()["id"]
            eventually_now(lambda: device.get(f"/v1/requests/{request_id}").json().get("attempts", 0) >= 1)
        server.stop()

    with running_server(data, settings={**echo, "FIELDPOST_MODEL_NAME": "new"}) as server:
        eventually_now(lambda: bool(httpx.get(f"{server.url}/ready").json().get("degraded")))
        degraded = httpx.get(f"{server.url}/ready").json()["degraded"]
        log = server.log()
        server.stop()
    assert ["model old is not in the settings, requests wait for it: 1"] == degraded
    assert 1 == log.count('"model_missing"')

    with running_server(data, settings={**echo, "FIELDPOST_MODEL_NAME": "old"}) as server, server.device(key) as device:
        eventually_now(lambda: device.get(f"/v1/requests/{request_id}").json()["status"] == "succeeded", seconds=60)
        assert "model old" not in httpx.get(f"{server.url}/ready").text


def test_a_model_may_not_take_the_librarys_name(model: OpenAIServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {"FIELDPOST_MODEL_URL": model.url, "FIELDPOST_MODEL_NAME": "library"}
    server = Server(tmp_path_factory.mktemp("taken") / "data", settings=settings)

    with pytest.raises(AssertionError, match="the server ended with"):
        server.start()

    assert "model.name" in server.log()
