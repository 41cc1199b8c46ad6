"""OpenAI's official client, unchanged, against the chat door."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.support.cluster_server import WAYS, server_of
from tests.support.scripted_server import Said, scripted_server
from tests.support.server import Server, free_port, running_server
from tests.support.waiting import eventually_now

ASK: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "How long may I drive?"}]


@pytest.fixture(scope="module", params=WAYS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"FIELDPOST_MODEL_URL": "echo:", "FIELDPOST_MODEL_NAME": "echo"}
    yield from server_of(request, tmp_path_factory.mktemp("server"), settings)


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    return server.add_device()[1]


def _client(server: Server, key: str, *, max_retries: int = 0) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=max_retries, timeout=60)


@pytest.fixture
def client(server: Server, key: str) -> Iterator[OpenAI]:
    with _client(server, key) as made:
        yield made


def test_a_conversation_is_answered(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model="echo",
        messages=[{"role": "system", "content": "Be short."}, *ASK],
        temperature=0.2,
        max_tokens=100,
        seed=7,
        stop=["\n"],
        user="driver-17",
    )

    assert completion.object == "chat.completion"
    assert completion.model == "echo"
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].message.content == "How long may I drive?"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None


def test_a_conversation_is_streamed(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="echo", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "How long may I drive?"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_library_answers_too(client: OpenAI) -> None:
    completion = client.chat.completions.create(model="library", messages=ASK)

    assert completion.choices[0].message.content


def test_what_was_received_does_not_come_again(server: Server, client: OpenAI, key: str) -> None:
    client.chat.completions.create(model="echo", messages=ASK)
    list(client.chat.completions.create(model="echo", messages=ASK, stream=True))

    with server.device(key) as device:
        eventually_now(lambda: device.get("/v1/responses").json() == {"responses": []})


def test_content_in_parts_is_joined(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model="echo",
        messages=[{"role": "user", "content": [{"type": "text", "text": "How "}, {"type": "text", "text": "long?"}]}],
    )

    assert completion.choices[0].message.content == "How long?"


def test_models_are_listed(client: OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {"echo", "library"}
    assert client.models.retrieve("echo").id == "echo"


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as asked:
        client.chat.completions.create(model="gpt-nobody", messages=ASK)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-nobody")

    assert asked.value.code == "model_not_found"
    assert asked.value.param == "model"


def test_a_wrong_key_is_told_as_openai_tells_it(server: Server) -> None:
    with _client(server, "sk-wrong") as client, pytest.raises(openai.AuthenticationError) as refused:
        client.chat.completions.create(model="echo", messages=ASK)

    assert refused.value.code == "invalid_api_key"


def test_the_same_key_is_asked_once(client: OpenAI) -> None:
    headers = {"Idempotency-Key": "order-4711"}

    first = client.chat.completions.create(model="echo", messages=ASK, extra_headers=headers)
    second = client.chat.completions.create(model="echo", messages=ASK, extra_headers=headers)
    streamed = list(client.chat.completions.create(model="echo", messages=ASK, stream=True, extra_headers=headers))

    assert first.id == second.id == streamed[0].id
    with pytest.raises(openai.ConflictError):
        client.chat.completions.create(
            model="echo", messages=[{"role": "user", "content": "What else?"}], extra_headers=headers
        )


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("functions", [{"name": "f"}]),
        ("n", 2),
        ("logprobs", True),
        ("modalities", ["audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}),
        ("function_call", {"name": "f"}),
        ("top_logprobs", 2),
        ("web_search_options", {}),
        # The echo cannot keep to it.
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(client: OpenAI, member: str, value: object) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.chat.completions.create(model="echo", messages=ASK, extra_body={member: value})

    assert refused.value.param == member
    assert member in refused.value.message


def test_what_cannot_be_honoured_is_refused_before_a_stream_begins(client: OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.chat.completions.create(
            model="library", messages=ASK, stream=True, response_format={"type": "json_object"}
        )

    assert refused.value.param == "response_format"


def test_who_takes_the_long_poll_for_openais_responses_is_told_where_to_go(server: Server, client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.responses.create(model="echo", input="How long may I drive?")

    assert refused.value.status_code == 405
    assert "/v1/chat/completions" in str(refused.value)
    assert refused.value.response.headers["content-type"] == "application/problem+json"
    assert refused.value.response.headers["allow"] == "GET, HEAD"


def test_pictures_are_refused(client: OpenAI) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}

    with pytest.raises(openai.UnprocessableEntityError):
        client.chat.completions.create(
            model="echo",
            messages=[{"role": "user", "content": [picture]}],  # type: ignore[list-item, misc]
        )


def test_members_that_nobody_knows_are_passed_over(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model="echo",
        messages=ASK,
        n=1,
        tool_choice="none",
        logprobs=False,
        response_format={"type": "text"},
        extra_body={"store": False, "metadata": {"a": "b"}, "tools": []},
    )

    assert completion.choices[0].message.content


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": "echo"}', b'{"model": "echo", "messages": []}'])
def test_bad_bodies_are_told_in_openais_shape(server: Server, key: str, body: bytes) -> None:
    answer = httpx.post(
        f"{server.url}/v1/chat/completions",
        content=body,
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )

    assert answer.status_code in (400, 422)
    assert set(answer.json()["error"]) == {"message", "type", "code", "param"}


def test_an_answer_that_takes_too_long_is_a_timeout_and_waits_for_the_device(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    settings = {
        "FIELDPOST_CHAT_TIMEOUT_SECONDS": "0.5",
        # Nobody listens there: the request is tried again and again, and does not end.
        "FIELDPOST_MODEL_URL": f"http://127.0.0.1:{free_port()}/v1",
        "FIELDPOST_MODEL_NAME": "away",
        "FIELDPOST_WORKER_RETRY_SECONDS": "60",
    }
    with running_server(tmp_path_factory.mktemp("slow") / "data", settings=settings) as slow:
        key = slow.add_device()[1]
        # As the client is by default: it asks again by itself where that may help.
        with _client(slow, key, max_retries=2) as client, pytest.raises(openai.InternalServerError) as plain:
            client.chat.completions.create(model="away", messages=ASK)
        with _client(slow, key, max_retries=2) as client, pytest.raises(openai.APIError) as streamed:
            list(client.chat.completions.create(model="away", messages=ASK, stream=True))
        with slow.device(key) as device:
            eventually_now(lambda: len(device.get("/v1/requests").json()["requests"]) >= 2)
            requests = device.get("/v1/requests").json()["requests"]

    assert plain.value.status_code == 504
    assert plain.value.code == streamed.value.code == "backend_timeout"
    assert len(requests) == 2


def test_what_failed_is_told_once_and_does_not_come_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    refusal = Said(
        status=400, body=b'{"error": {"message": "filtered"}}', headers=[("Content-Type", "application/json")]
    )
    with scripted_server(refusal) as model:
        settings = {"FIELDPOST_MODEL_URL": f"{model.url}/v1", "FIELDPOST_MODEL_NAME": "strict"}
        with running_server(tmp_path_factory.mktemp("strict") / "data", settings=settings) as strict:
            key = strict.add_device()[1]
            with _client(strict, key, max_retries=2) as client:
                with pytest.raises(openai.APIStatusError) as plain:
                    client.chat.completions.create(model="strict", messages=ASK)
                with pytest.raises(openai.APIError):
                    list(client.chat.completions.create(model="strict", messages=ASK, stream=True))
            with strict.device(key) as device:
                eventually_now(lambda: device.get("/v1/responses").json() == {"responses": []})
                requests = device.get("/v1/requests").json()["requests"]

    assert plain.value.response.headers["x-should-retry"] == "false"
    assert [request["status"] for request in requests] == ["failed", "failed"]


def test_what_a_models_server_understands_reaches_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    parameters: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.5,
        "max_tokens": 7,
        "presence_penalty": 1.0,
        "frequency_penalty": 1.0,
        "seed": 7,
        "stop": ["\n"],
        "logit_bias": {"50256": -100},
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "hours", "schema": {"type": "object"}}},
        "user": "driver-17",
    }
    refusal = Said(status=400, body=b"{}", headers=[("Content-Type", "application/json")])
    with scripted_server(refusal) as model:
        settings = {"FIELDPOST_MODEL_URL": f"{model.url}/v1", "FIELDPOST_MODEL_NAME": "strict"}
        with (
            running_server(tmp_path_factory.mktemp("carrying") / "data", settings=settings) as carrying,
            _client(carrying, carrying.add_device()[1]) as client,
            pytest.raises(openai.APIStatusError),
        ):
            client.chat.completions.create(model="strict", messages=ASK, **parameters)
        asked = json.loads(model.asked[0][2])

    assert {name: asked.get(name) for name in parameters} == parameters


def test_an_assistants_turn_may_be_a_refusal_without_content(client: OpenAI) -> None:
    refusal: openai.types.chat.ChatCompletionMessageParam = {"role": "assistant", "content": None, "refusal": "No."}

    told = client.chat.completions.create(model="echo", messages=[*ASK, refusal, *ASK])
    last = client.chat.completions.create(model="echo", messages=[*ASK, refusal])

    assert told.choices[0].message.content == "How long may I drive?"
    assert last.choices[0].message.content


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "assistant", "content": None}],
        [{"role": "user", "content": None}],
        [{"role": "user"}],
        [{"role": "assistant", "content": None, "refusal": ""}],
        [{"role": "user", "content": None, "refusal": "No."}],
    ],
)
def test_a_turn_in_which_nothing_is_said_is_refused(client: OpenAI, messages: Any) -> None:
    with pytest.raises(openai.UnprocessableEntityError):
        client.chat.completions.create(model="echo", messages=messages)
