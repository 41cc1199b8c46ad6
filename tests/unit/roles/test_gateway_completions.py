"""How a completion grows, with events put on the bus by hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from fieldpost.errors import BackendTimeoutError
from fieldpost.messages.events import Event, ResponseChunk, ResponseReady, device_channel
from fieldpost.messages.problems import problem
from fieldpost.messages.requests import Request, RequestState
from fieldpost.messages.responses import Output, Problem, Response, Usage
from fieldpost.ports.ledger import Ledger
from fieldpost.ports.ledger_values import Finish
from fieldpost.services.intake import Intake
from fieldpost.services.queues import requests_queue
from tests.support.doors import Doors, open_doors
from tests.support.waiting import eventually

BODY = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "How long may I drive?"}]}


class Stream:
    """One streamed completion: what its client has seen so far, and the request behind it."""

    def __init__(self, doors: Doors, answer: httpx.Response, request: Request) -> None:
        self.request = request
        self._doors = doors
        self._lines = answer.aiter_lines()
        self.is_done = False

    async def publish(self, *events: Event) -> None:
        """Puts events on the bus, as workers and processors do."""
        await self._doors.backends.shared.bus.publish(device_channel(self.request.device_id), events)

    def chunk(self, text: str, *, offset: int, attempt: int = 1, index: int = 0) -> ResponseChunk:
        return ResponseChunk(
            request_id=self.request.id,
            device_id=self.request.device_id,
            attempt=attempt,
            index=index,
            offset=offset,
            text=text,
        )

    def ready(self, text: str | None, *, error: Problem | None = None, usage: Usage | None = None) -> ResponseReady:
        response = self.response(text, error=error, usage=usage)
        return ResponseReady(
            request_id=self.request.id, device_id=self.request.device_id, body=msgspec.json.encode(response)
        )

    def response(self, text: str | None, *, error: Problem | None = None, usage: Usage | None = None) -> Response:
        return Response(
            request_id=self.request.id,
            status=RequestState.FAILED if text is None else RequestState.SUCCEEDED,
            model=self.request.model,
            attempts=1,
            accepted_at=self.request.accepted_at,
            completed_at=self.request.accepted_at,
            output=None if text is None else Output(text=text, usage=usage),
            error=error,
        )

    async def event(self) -> dict[str, Any]:
        """The next event; `is_done` after the last."""
        async with asyncio.timeout(30):
            async for line in self._lines:
                if line == "data: [DONE]":
                    self.is_done = True
                    return {}
                if line.startswith("data: "):
                    event: dict[str, Any] = msgspec.json.decode(line.removeprefix("data: "))
                    return event
        return {}

    async def text(self) -> str:
        """The next event's text."""
        event = await self.event()
        return str(event["choices"][0]["delta"].get("content", ""))

    async def rest(self) -> list[dict[str, Any]]:
        """All events until the stream ends."""
        events = []
        while event := await self.event():
            events.append(event)
        return events


class Caller:
    """Opens streams, and closes them when the test ends."""

    def __init__(self, doors: Doors, stack: AsyncExitStack) -> None:
        self._doors = doors
        self._stack = stack

    async def open(self, **more: object) -> Stream:
        """A stream whose request was accepted and whose first chunk has come."""
        client = await self._stack.enter_async_context(self._doors.device())
        answer = await self._stack.enter_async_context(
            client.stream("POST", "/v1/chat/completions", json={**BODY, **more})
        )
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = Stream(self._doors, answer, await self._take_request())
        assert (await stream.event())["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        return stream

    async def _take_request(self) -> Request:
        async with self._doors.backends.broker.consume([requests_queue("shard1")], prefetch=1) as consumer:
            deliveries = await asyncio.wait_for(consumer.receive(1), 30)
            await consumer.ack(deliveries)
            return msgspec.msgpack.decode(deliveries[0].body, type=Request)


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
async def caller(doors: Doors) -> AsyncIterator[Caller]:
    async with AsyncExitStack() as stack:
        yield Caller(doors, stack)


async def test_pieces_come_as_they_are_made_and_the_rest_at_the_end(caller: Caller) -> None:
    stream = await caller.open()

    await stream.publish(stream.chunk("Nine ", offset=0))
    first = await stream.text()
    await stream.publish(stream.chunk("hours", offset=5), stream.ready("Nine hours."))
    events = await stream.rest()

    assert first == "Nine "
    assert [event["choices"][0]["delta"].get("content") for event in events] == ["hours", ".", None]
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert stream.is_done


async def test_usage_comes_last_when_it_is_asked_for(caller: Caller) -> None:
    stream = await caller.open(stream_options={"include_usage": True})

    await stream.publish(stream.ready("Nine hours.", usage=Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)))
    events = await stream.rest()

    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["total_tokens"] == 5
    assert stream.is_done


async def test_another_attempt_after_something_was_shown_ends_with_an_error(caller: Caller) -> None:
    stream = await caller.open()

    await stream.publish(stream.chunk("Nine ", offset=0))
    await stream.text()
    await stream.publish(stream.chunk("Ten ", offset=0, attempt=2))
    events = await stream.rest()

    assert [event["error"]["code"] for event in events] == ["stream_broken_off"]
    assert not stream.is_done


async def test_another_attempt_before_anything_was_shown_is_not_noticed(caller: Caller) -> None:
    stream = await caller.open()

    await stream.publish(stream.chunk("hours", offset=5, attempt=1), stream.chunk("Ten ", offset=0, attempt=2))

    assert await stream.text() == "Ten "


async def test_after_a_lost_piece_the_rest_comes_with_the_whole_answer(caller: Caller) -> None:
    stream = await caller.open()

    await stream.publish(stream.chunk("Nine ", offset=0), stream.chunk(".", offset=10), stream.ready("Nine hours."))
    events = await stream.rest()

    assert [event["choices"][0]["delta"].get("content") for event in events] == ["Nine ", "hours.", None]


async def test_an_answer_that_is_not_what_was_shown_ends_with_an_error(caller: Caller) -> None:
    stream = await caller.open()

    await stream.publish(stream.chunk("Nine ", offset=0), stream.ready("Ten hours."))
    events = await stream.rest()

    assert events[-1]["error"]["type"] == "server_error"
    assert not stream.is_done


async def test_a_failure_is_an_error_event(caller: Caller) -> None:
    stream = await caller.open()

    await stream.publish(stream.ready(None, error=problem("model-refused", "The model refuses this request.", 422)))
    events = await stream.rest()

    assert [event["error"]["code"] for event in events] == ["model_refused"]
    assert not stream.is_done


async def test_an_answer_that_only_the_ledger_knows_is_found(doors: Doors, caller: Caller) -> None:
    stream = await caller.open()

    await _answer(doors.backends.ledgers["shard1"], stream, "Nine hours.")
    events = await stream.rest()

    assert events[0]["choices"][0]["delta"]["content"] == "Nine hours."
    assert stream.is_done


async def test_what_was_streamed_whole_does_not_come_again(doors: Doors, caller: Caller) -> None:
    stream = await caller.open()
    await _answer(doors.backends.ledgers["shard1"], stream, "Nine hours.")

    await stream.rest()

    await eventually(lambda: _is_acknowledged(doors, stream.request.id))


async def test_without_a_key_an_unknown_outcome_is_not_to_be_asked_for_again(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(_intake: Intake, _request: Request) -> None:
        raise BackendTimeoutError("not confirmed")

    monkeypatch.setattr(Intake, "_publish", silent)
    async with doors.device() as client:
        for body in (BODY, {**BODY, "stream": False}):
            without = await client.post("/v1/chat/completions", json=body)
            with_key = await client.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": "order-1"})

            assert (504, "false") == (without.status_code, without.headers["x-should-retry"])
            assert 504 == with_key.status_code
            assert "x-should-retry" not in with_key.headers


async def test_a_caller_who_leaves_gets_the_answer_later(doors: Doors) -> None:
    async with AsyncExitStack() as stack:
        stream = await Caller(doors, stack).open()
    await eventually(lambda: not doors.mailbox.device_ids)

    await _answer(doors.backends.ledgers["shard1"], stream, "Nine hours.")

    waiting = await doors.answers.undelivered(doors.device_id, limit=10)
    assert [answer.request_id for answer in waiting.answers] == [stream.request.id]


async def _answer(ledger: Ledger, stream: Stream, text: str) -> None:
    request, now = stream.request, stream.request.accepted_at
    await ledger.records.record([request], dispatched=[], now=now)
    claims = await ledger.claims.claim([request.id], holder="w", now=now, until=now + timedelta(minutes=1))
    finish = Finish(request_id=request.id, attempt=claims[0].attempt, response=stream.response(text))
    assert await ledger.claims.finish([finish], [], now=now)


async def _is_acknowledged(doors: Doors, request_id: UUID) -> bool:
    status = await doors.answers.status(doors.device_id, request_id)
    return status.acknowledged_at is not None
