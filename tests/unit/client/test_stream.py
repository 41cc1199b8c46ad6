"""The stream against a hub that does what a test says: what real ones do seldom, and what broken ones do."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from fieldpost.client import AsyncClient, Stream
from fieldpost.errors import (
    ConnectionLostError,
    CorruptDataError,
    FieldpostError,
    InvalidRequestError,
    OutcomeUnknownError,
    RequestTooLargeError,
)
from fieldpost.messages.responses import Response
from tests.support.hasty_clock import HastyClock
from tests.support.messages import a_request, a_response
from tests.support.waiting import DEADLINE_SECONDS, eventually

KEY = "fp_17_0123456789abcdef"
Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The hub's end of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send(msgspec.json.encode({"type": kind, **fields}), text=True)

    async def hello(self, *responses: Response, **fields: Any) -> None:
        await self.say("Hello", device_id=17, session="s", responses=responses, **fields)

    async def hear(self, kind: str) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await asyncio.wait_for(self.socket.recv(), DEADLINE_SECONDS))
        assert kind == frame["type"], frame
        return frame

    async def stay(self) -> None:
        """Until the client leaves."""
        await self.socket.wait_closed()


@contextlib.asynccontextmanager
async def _streaming(clock: HastyClock, *scripts: Script) -> AsyncIterator[tuple[Stream, list[FieldpostError]]]:
    """A stream to a hub whose connections follow the scripts, one after the other; the last one for ever after."""
    left = list(scripts)
    troubles: list[FieldpostError] = []
    failures: list[BaseException] = []

    async def follow(socket: ServerConnection) -> None:
        script = left.pop(0) if len(left) > 1 else left[0]
        try:
            await script(Peer(socket))
        except ConnectionClosed:
            return
        except AssertionError as error:
            failures.append(error)

    async with serve(follow, "127.0.0.1", 0) as hub:
        url = f"http://127.0.0.1:{next(iter(hub.sockets)).getsockname()[1]}"
        async with AsyncClient(url, KEY, clock=clock) as client, client.connect(on_trouble=troubles.append) as stream:
            yield stream, troubles
    assert [] == failures


async def _receive(stream: Stream) -> Response:
    return await asyncio.wait_for(stream.receive(), DEADLINE_SECONDS)


def _answers(count: int) -> list[Response]:
    return [a_response(a_request()) for _ in range(count)]


async def _stay(peer: Peer) -> None:
    await peer.hello()
    await peer.stay()


async def test_a_hub_that_leaves_is_called_again_after_the_time_that_it_says() -> None:
    async def leave(peer: Peer) -> None:
        await peer.hello()
        await peer.say("Draining", reconnect_seconds=3.25)
        await peer.socket.close(1001)

    clock, answer = HastyClock(), _answers(1)[0]

    async def greet(peer: Peer) -> None:
        await peer.hello(answer)
        await peer.stay()

    async with _streaming(clock, leave, greet) as (stream, troubles):
        assert answer == await _receive(stream)

    assert [3.25] == clock.waits
    assert 1 == len(troubles)


async def test_a_hub_that_breaks_off_again_and_again_is_called_less_and_less_often() -> None:
    clock = HastyClock()

    async def refuse(peer: Peer) -> None:
        await peer.socket.close(1011)

    async with _streaming(clock, refuse) as (_, troubles):
        await eventually(lambda: len(troubles) >= 7)

    assert [1, 2, 4, 8, 16, 30] == [_step(wait) for wait in clock.waits[:6]]


def _step(wait: float) -> int:
    return max(step for step in (1, 2, 4, 8, 16, 30) if step <= wait)


async def test_a_connection_that_is_lost_is_called_that_and_puts_no_outcome_in_doubt() -> None:
    async def break_off(peer: Peer) -> None:
        await peer.hello()
        await peer.socket.close(1011)

    async with _streaming(HastyClock(), break_off) as (_, troubles):
        await eventually(lambda: bool(troubles))

    assert isinstance(troubles[0], ConnectionLostError)
    assert "outcome" not in troubles[0].title + troubles[0].detail


async def test_pings_are_answered_with_their_nonce() -> None:
    pongs: list[dict[str, Any]] = []

    async def ping(peer: Peer) -> None:
        await peer.hello()
        for nonce in ("one", None):
            await peer.say("Ping", nonce=nonce)
            pongs.append(await peer.hear("Pong"))
        await peer.stay()

    async with _streaming(HastyClock(), ping):
        await eventually(lambda: len(pongs) == 2)

    assert ["one", None] == [pong.get("nonce") for pong in pongs]


async def test_the_next_page_is_asked_for_once_the_last_one_is_read() -> None:
    first, second = _answers(2), _answers(1)
    asked: list[str] = []

    async def page(peer: Peer) -> None:
        await peer.hello(*first, next="cursor")
        asked.append((await peer.hear("Hello"))["after"])
        await peer.hello(*second)
        await peer.stay()

    async with _streaming(HastyClock(), page) as (stream, _):
        taken = [await _receive(stream) for _ in range(3)]

    assert [*first, *second] == taken
    assert ["cursor"] == asked


async def test_an_acknowledgement_without_its_acked_is_sent_again_and_the_answer_is_not_taken_twice() -> None:
    answer, other = _answers(2)

    async def cut_off(peer: Peer) -> None:
        await peer.hello(answer)
        assert [str(answer.request_id)] == (await peer.hear("Ack"))["request_ids"]

    async def go_on(peer: Peer) -> None:
        await peer.hello(answer, other)
        assert [str(answer.request_id)] == (await peer.hear("Ack"))["request_ids"]
        await peer.say("Acked", request_ids=[answer.request_id])
        await peer.stay()

    async with _streaming(HastyClock(), cut_off, go_on) as (stream, _):
        stream.acknowledge(await _receive(stream))
        assert other == await _receive(stream)
        await stream.acknowledged()


async def test_an_acknowledgement_that_is_refused_for_now_is_sent_again_after_the_time_that_is_asked_for() -> None:
    answer, clock = _answers(1)[0], HastyClock()

    async def refuse_once(peer: Peer) -> None:
        await peer.hello(answer)
        await peer.hear("Ack")
        problem = {"type": "urn:fieldpost:problem:backend-unavailable", "title": "", "status": 503}
        await peer.say("Rejected", problem=problem, retry_after_seconds=5)
        await peer.hear("Ack")
        await peer.say("Acked", request_ids=[answer.request_id])
        await peer.stay()

    async with _streaming(clock, refuse_once) as (stream, troubles):
        stream.acknowledge(await _receive(stream))
        await stream.acknowledged()

    assert [5] == clock.waits
    assert [] == troubles


async def test_a_post_that_is_refused_for_now_is_sent_again_under_its_key() -> None:
    request_id, clock, keys = uuid4(), HastyClock(), []

    async def refuse_once(peer: Peer) -> None:
        await peer.hello()
        frame = await peer.hear("Request")
        keys.append(frame["body"]["idempotency_key"])
        problem = {"type": "urn:fieldpost:problem:queue-full", "title": "", "status": 503}
        await peer.say("Rejected", ref=frame["ref"], problem=problem, retry_after_seconds=9)
        frame = await peer.hear("Request")
        keys.append(frame["body"]["idempotency_key"])
        await peer.say("Accepted", ref=frame["ref"], request_id=request_id)
        await peer.stay()

    async with _streaming(clock, refuse_once) as (stream, _):
        assert request_id == await stream.post("Why?", idempotency_key="order-1")

    assert ["order-1", "order-1"] == keys
    assert 1 == len(clock.waits)
    assert clock.waits[0] >= 9


async def test_outcomes_find_their_posts_in_any_order() -> None:
    ids = {f"question {number}": uuid4() for number in range(10)}

    async def answer_backwards(peer: Peer) -> None:
        await peer.hello()
        asked = [await peer.hear("Request") for _ in ids]
        for frame in reversed(asked):
            await peer.say("Accepted", ref=frame["ref"], request_id=ids[frame["body"]["input"]["prompt"]])
        await peer.stay()

    async with _streaming(HastyClock(), answer_backwards) as (stream, _):
        posted = await asyncio.gather(*(stream.post(question) for question in ids))

    assert list(ids.values()) == posted


async def test_a_post_whose_connection_is_lost_every_time_is_unknown_in_the_end() -> None:
    async def swallow(peer: Peer) -> None:
        await peer.hello()
        await peer.hear("Request")

    async with _streaming(HastyClock(), swallow) as (stream, _):
        with pytest.raises(OutcomeUnknownError, match="order-1"):
            await stream.post("Why?", idempotency_key="order-1")


async def test_a_post_larger_than_a_frame_is_refused_before_it_is_sent() -> None:
    async with _streaming(HastyClock(), _stay) as (stream, _):
        with pytest.raises(RequestTooLargeError):
            await stream.post("x" * (2**20 - 80))


async def test_frames_of_a_later_version_are_left_alone() -> None:
    answer = _answers(1)[0]

    async def say_something_new(peer: Peer) -> None:
        await peer.hello(later="field")
        await peer.say("Weather", sky="blue")
        await peer.say("ResponseReady", response=answer, later="field")
        await peer.stay()

    async with _streaming(HastyClock(), say_something_new) as (stream, _):
        assert answer == await _receive(stream)


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", '{"type": "Accepted"}', '{"type": "ResponseReady", "response": {"request_id": 1}}']
)
async def test_a_hub_that_cannot_be_understood_ends_the_stream_with_an_error(text: str) -> None:
    async def babble(peer: Peer) -> None:
        await peer.hello()
        await peer.socket.send(text)
        await peer.stay()

    async with _streaming(HastyClock(), babble) as (stream, _):
        with pytest.raises(CorruptDataError):
            await _receive(stream)
        with pytest.raises(CorruptDataError):
            await stream.post("Why?")


async def test_a_hub_that_does_not_understand_this_client_ends_the_stream_with_its_reason() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.hello()
        problem = {
            "type": "urn:fieldpost:problem:invalid-request",
            "title": "",
            "status": 422,
            "detail": "no such frame",
        }
        await peer.say("Rejected", problem=problem)
        await peer.stay()

    async with _streaming(HastyClock(), refuse) as (stream, _):
        with pytest.raises(InvalidRequestError, match="no such frame"):
            await _receive(stream)


async def test_what_ends_a_stream_is_told_to_every_post_with_its_own_id() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.hello()
        await peer.hear("Request")
        await peer.socket.send("no JSON")
        await peer.stay()

    async with _streaming(HastyClock(), refuse) as (stream, _):
        errors = await asyncio.gather(*(stream.post(f"question {n}") for n in range(3)), return_exceptions=True)

    # A server that is not understood may well have accepted them.
    assert all(isinstance(error, OutcomeUnknownError) for error in errors), errors
    assert 3 == len({str(error) for error in errors})
    assert all("cannot be read" in str(error) for error in errors)


async def test_closing_ends_the_posts_that_wait_for_a_connection() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.socket.close(1011)

    async with _streaming(HastyClock(), refuse) as (stream, troubles):
        posting = asyncio.create_task(stream.post("Why?"))
        await eventually(lambda: len(troubles) >= 2)

        await stream.aclose()

        with pytest.raises(RuntimeError, match="closed"):
            await asyncio.wait_for(posting, DEADLINE_SECONDS)


async def test_a_stream_is_closed_for_good() -> None:
    async with _streaming(HastyClock(), _stay) as (stream, _):
        await stream.aclose()
        await stream.aclose()

        with pytest.raises(RuntimeError, match="closed"):
            await stream.receive()
        with pytest.raises(RuntimeError, match="closed"):
            await stream.post("Why?")
        with pytest.raises(RuntimeError, match="open already"):
            await stream.__aenter__()


async def test_frames_that_nobody_here_wants_or_knows_are_left_alone() -> None:
    answer = _answers(1)[0]

    async def talk(peer: Peer) -> None:
        await peer.hello()
        await peer.say("Broadcast", broadcast_id=uuid4(), text="Snow.", colour="white")
        await peer.say("Novelty", text="of a later server")
        await peer.say("ResponseReady", response=answer)
        await peer.stay()

    async with _streaming(HastyClock(), talk) as (stream, troubles):
        assert answer == await _receive(stream)

    assert [] == troubles
