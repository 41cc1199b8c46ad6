"""The SDK against a running Fieldpost, as a program on a device uses it."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest

from fieldpost.client import AsyncClient, Client
from fieldpost.client.stream import Stream
from fieldpost.errors import (
    DeviceDisabledError,
    FieldpostError,
    IdempotencyConflictError,
    NoAnswerYetError,
    NotFoundError,
    OutcomeUnknownError,
    QueueFullError,
    StateConflictError,
    UnauthenticatedError,
    UnknownModelError,
    UnreachableError,
)
from fieldpost.messages.identity import keyed_id
from fieldpost.messages.requests import RequestState
from tests.support.hasty_clock import HastyClock
from tests.support.lossy_proxy import lossy_proxy
from tests.support.scripted_server import Said, scripted_server
from tests.support.server import Server, free_port, running_server
from tests.support.slow_model import SlowModel
from tests.support.waiting import DEADLINE_SECONDS, eventually

MANY = 300


@pytest.fixture
def device(server: Server) -> tuple[int, str]:
    """A device of the test's own: id and key."""
    return server.add_device()


@pytest.fixture
async def client(server: Server, device: tuple[int, str]) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url, device[1]) as connected:
        yield connected


@pytest.fixture
def blocking(server: Server, device: tuple[int, str]) -> Iterator[Client]:
    with Client(server.url, device[1]) as connected:
        yield connected


@pytest.fixture
def own_server(data: Path) -> Iterator[Server]:
    """A server that a test may kill."""
    with running_server(data) as running:
        yield running


def _requests(server: Server, key: str) -> list[str]:
    """Ids of all requests of a device."""
    with server.device(key) as door:
        return [row["id"] for row in door.get("/v1/requests?limit=200").json()["requests"]]


async def _take(stream: Stream, count: int) -> list[UUID]:
    """So many answers, acknowledged."""
    taken: list[UUID] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(taken) < count:
            response = await stream.receive()
            taken.append(response.request_id)
            stream.acknowledge(response)
        await stream.acknowledged()
    return taken


async def test_a_question_is_answered(client: AsyncClient) -> None:
    response = await client.ask("What is in the handbook?")

    assert RequestState.SUCCEEDED is response.status
    assert response.output is not None
    assert response.output.text


def test_a_question_is_answered_without_asyncio_too(blocking: Client) -> None:
    response = blocking.ask([{"role": "user", "content": "What is in the handbook?"}])

    assert RequestState.SUCCEEDED is response.status


async def test_an_answer_with_every_separator_of_unicode_arrives_whole(data: Path) -> None:
    text = "one\u2028two\x85three\u2029four\x0bfive\x1csix"
    settings = {"FIELDPOST_MODEL_URL": "echo:", "FIELDPOST_MODEL_NAME": "echo"}
    with running_server(data, settings=settings) as server:
        async with AsyncClient(server.url, server.add_device()[1]) as client:
            response = await client.ask(text)

    assert response.output is not None
    assert text == response.output.text


async def test_an_answer_that_was_waited_for_does_not_come_again(client: AsyncClient) -> None:
    asked = await client.ask("first")
    standing = await client.status(asked.request_id)
    marker = await client.post("second")

    async with client.connect() as stream:
        assert [marker] == await _take(stream, 1)
    assert standing.acknowledged_at is not None
    assert asked == standing.response


async def test_many_posts_may_be_in_flight(client: AsyncClient) -> None:
    posted = await asyncio.gather(*(client.post(f"question {number}") for number in range(MANY)))
    async with client.connect() as stream:
        streamed = await asyncio.gather(*(stream.post(f"another {number}") for number in range(MANY)))
        answered = await _take(stream, 2 * MANY)

    assert 2 * MANY == len({*posted, *streamed})
    assert sorted([*posted, *streamed]) == sorted(answered)


async def test_the_same_key_is_the_same_request_over_every_door(client: AsyncClient, device: tuple[int, str]) -> None:
    async with client.connect() as stream:
        ids = {
            await client.post("Why?", idempotency_key="order-1"),
            await client.post("Why?", idempotency_key="order-1"),
            await stream.post("Why?", idempotency_key="order-1"),
        }
        for door in (client, stream):
            with pytest.raises(IdempotencyConflictError):
                await door.post("Something else?", idempotency_key="order-1")

    assert {keyed_id(device[0], "order-1")} == ids


async def test_a_lost_reply_does_not_make_a_second_request(server: Server, device: tuple[int, str]) -> None:
    async with lossy_proxy(server.port) as proxy:
        proxy.lose = 3
        async with AsyncClient(proxy.url, device[1], clock=HastyClock()) as client:
            request_id = await client.post("How long may I drive?")
            await eventually(lambda: _requests(server, device[1]) == [str(request_id)])

    assert 3 == proxy.lost


async def test_a_post_outlives_a_server_that_is_killed_and_started_again(own_server: Server) -> None:
    _, key = own_server.add_device()
    own_server.kill()

    async def start() -> None:
        if len(clock.waits) == 2:
            await asyncio.to_thread(own_server.start)

    clock = HastyClock(start)
    async with AsyncClient(own_server.url, key, clock=clock) as client:
        request_id = await client.post("How long may I drive?")

    assert 2 == len(clock.waits)
    await eventually(lambda: _requests(own_server, key) == [str(request_id)])


async def test_a_listener_gets_what_it_missed_and_what_comes_each_once_over_a_kill(own_server: Server) -> None:
    _, key = own_server.add_device()
    troubles: list[FieldpostError] = []
    async with AsyncClient(own_server.url, key) as client:
        missed = [await client.post(f"missed {number}") for number in range(20)]
        async with client.connect(on_trouble=troubles.append) as stream:
            taken = await _take(stream, 20)
            own_server.kill()
            await eventually(lambda: bool(troubles))
            await asyncio.to_thread(own_server.start)
            posted = await asyncio.gather(*(stream.post(f"new {number}") for number in range(20)))
            taken += await _take(stream, 20)

    assert sorted([*missed, *posted]) == sorted(taken)


async def test_answers_in_hand_over_a_kill_come_once_and_are_acknowledged_after_it(own_server: Server) -> None:
    _, key = own_server.add_device()
    troubles: list[FieldpostError] = []
    async with AsyncClient(own_server.url, key) as client:
        first, second = [await client.post("first"), await client.post("second")]
        async with client.connect(on_trouble=troubles.append) as stream:
            in_hand = [await stream.receive(), await stream.receive()]
            own_server.kill()
            await eventually(lambda: bool(troubles))
            stream.acknowledge(*in_hand)
            await asyncio.to_thread(own_server.start)
            await stream.acknowledged()
            third = await stream.post("third")
            assert [third] == await _take(stream, 1)

        standings = [await client.status(request_id) for request_id in (first, second)]
    assert {first, second} == {response.request_id for response in in_hand}
    assert all(standing.acknowledged_at for standing in standings)


async def test_an_answer_at_which_the_loop_is_left_comes_again_and_those_before_do_not(client: AsyncClient) -> None:
    ids = [await client.post(f"question {number}") for number in range(3)]
    seen: list[UUID] = []
    async with aclosing(client.listen()) as answers:
        async for response in answers:
            seen.append(response.request_id)
            if len(seen) == 2:
                break

    async with client.connect() as stream:
        again = await _take(stream, 2)

    assert sorted(ids) == sorted({*seen, *again})
    assert seen[0] not in again
    assert seen[1] in again


async def test_an_error_in_the_loop_comes_out_as_it_is(client: AsyncClient) -> None:
    await client.post("Why?")

    async def fail() -> None:
        async with client.connect() as stream:
            async for _ in stream:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


async def test_a_wrong_key_is_told_at_once_on_every_way(server: Server) -> None:
    clock = HastyClock()
    async with AsyncClient(server.url, "fp_1_" + "x" * 40, clock=clock) as client, client.connect() as stream:
        for call in (client.post("Why?"), client.status(uuid4()), stream.post("Why?"), stream.receive()):
            with pytest.raises(UnauthenticatedError):
                await asyncio.wait_for(call, DEADLINE_SECONDS)

    assert [] == clock.waits


async def test_a_listener_hears_that_its_device_was_disabled(server: Server, client: AsyncClient) -> None:
    async with client.connect() as stream:
        marker = await stream.post("Why?")
        assert [marker] == await _take(stream, 1)
        device_id = repr(client).rpartition(" ")[2].removesuffix(")")
        httpx.patch(
            f"{server.url}/admin/devices/{device_id}", json={"disabled": True}, headers=server.operator
        ).raise_for_status()

        with pytest.raises(DeviceDisabledError):
            await asyncio.wait_for(stream.receive(), DEADLINE_SECONDS)
        with pytest.raises(DeviceDisabledError):
            await stream.post("Why?")


async def test_what_cannot_be_answered_is_refused_with_its_reason(client: AsyncClient) -> None:
    async with client.connect() as stream:
        for door in (client, stream):
            with pytest.raises(UnknownModelError, match="nobody"):
                await door.post("Why?", model="nobody")


async def test_what_is_not_there_is_not_found(client: AsyncClient) -> None:
    for call in (client.status(uuid4()), client.wait(uuid4()), client.cancel(uuid4()), client.acknowledge([uuid4()])):
        with pytest.raises(NotFoundError):
            await call


async def test_a_request_is_cancelled_and_that_is_its_answer(data: Path) -> None:
    with SlowModel() as model, running_server(data, settings=model.settings(drain_seconds=1)) as server:
        async with AsyncClient(server.url, server.add_device()[1]) as client:
            request_id = await client.post("Why?")
            await asyncio.to_thread(model.asked.wait, DEADLINE_SECONDS)
            with pytest.raises(NoAnswerYetError, match=str(request_id)):
                await client.wait(request_id, timeout_seconds=0.1)
            with pytest.raises(StateConflictError):
                await client.acknowledge([request_id])

            state = await client.cancel(request_id)
            response = await client.wait(request_id)

    assert RequestState.CANCELLED is state is response.status
    assert response.output is None


async def test_what_has_ended_cannot_be_cancelled(client: AsyncClient) -> None:
    response = await client.ask("Why?")

    with pytest.raises(StateConflictError):
        await client.cancel(response.request_id)


async def test_what_a_busy_server_asks_for_is_waited(device: tuple[int, str]) -> None:
    busy = Said(status=503, headers=[("Retry-After", "7")])
    request_id = uuid4()
    clock = HastyClock()
    with scripted_server(busy, busy, Said(status=202, body=b'{"id":"%s"}' % str(request_id).encode())) as script:
        async with AsyncClient(script.url, device[1], clock=clock) as client:
            posted = await client.post("Why?")

    assert request_id == posted
    assert 2 == len(clock.waits)
    assert min(clock.waits) >= 7
    assert 1 == len({body for _, _, body in script.asked})


async def test_a_server_that_stays_busy_is_given_up_with_what_it_said(device: tuple[int, str]) -> None:
    body = b'{"type":"urn:fieldpost:problem:queue-full","title":"The queue is full.","status":503,"detail":"200000"}'
    clock = HastyClock()
    with scripted_server(Said(status=503, body=body)) as script:
        async with AsyncClient(script.url, device[1], clock=clock, give_up_seconds=60) as client:
            with pytest.raises(QueueFullError, match=r"200000 \(request .*\)"):
                await client.post("Why?")

    assert sum(clock.waits) <= 60
    assert len(script.asked) >= 4


async def test_where_nobody_listens_is_told_after_a_while(device: tuple[int, str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with AsyncClient(url, device[1], clock=HastyClock()) as client:
        with pytest.raises(UnreachableError, match=url):
            await client.post("Why?")
        with pytest.raises(NoAnswerYetError, match=url):
            await client.wait(uuid4())


async def test_an_unknown_outcome_says_so_and_names_the_request(server: Server, device: tuple[int, str]) -> None:
    async with lossy_proxy(server.port) as proxy:
        proxy.lose = 100
        async with AsyncClient(proxy.url, device[1], clock=HastyClock()) as client:
            with pytest.raises(OutcomeUnknownError) as caught:
                await client.post("Why?", idempotency_key="order-1")

    assert str(keyed_id(device[0], "order-1")) in caught.value.detail
    assert "order-1" in caught.value.detail
    await eventually(lambda: _requests(server, device[1]) == [str(keyed_id(device[0], "order-1"))])


def test_a_client_may_be_used_by_many_threads(blocking: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda number: blocking.ask(f"question {number}"), range(32)))

    assert 32 == len({response.request_id for response in responses})
    assert {RequestState.SUCCEEDED} == {response.status for response in responses}


def test_a_loop_without_asyncio_acknowledges_what_it_is_done_with(blocking: Client) -> None:
    ids = [blocking.post(f"question {number}") for number in range(3)]
    seen = []
    for response in blocking.listen():
        seen.append(response.request_id)
        if len(seen) == 3:
            break

    with blocking.connect() as stream:
        marker = stream.post("marker", idempotency_key="marker")
        again = [stream.receive().request_id, stream.receive().request_id]

    assert sorted(ids) == sorted(seen)
    assert sorted([seen[2], marker]) == sorted(again)


def test_closing_ends_the_calls_that_wait_in_other_threads(server: Server, device: tuple[int, str]) -> None:
    client = Client(server.url, device[1])
    with ThreadPoolExecutor(1) as pool:
        has_begun = threading.Event()

        def listen() -> None:
            with client.connect() as stream:
                stream.post("Why?")
                stream.acknowledge(stream.receive())
                has_begun.set()
                stream.receive()

        listening = pool.submit(listen)
        assert has_begun.wait(DEADLINE_SECONDS)

        client.close()
        client.close()

        with pytest.raises(RuntimeError, match="closed"):
            listening.result(DEADLINE_SECONDS)
    with pytest.raises(RuntimeError, match="closed"):
        client.post("Why?")


def test_ctrl_c_ends_a_loop_that_waits(server: Server, device: tuple[int, str]) -> None:
    program = (
        "import sys\n"
        "from fieldpost.client import Client\n"
        "with Client(sys.argv[1], sys.argv[2]) as client:\n"
        "    client.post('Why?')\n"
        "    try:\n"
        "        for response in client.listen():\n"
        "            print('listening', flush=True)\n"
        "    except KeyboardInterrupt:\n"
        "        print(client.ask('And now?').status.value)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, server.url, device[1]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "listening\n" == process.stdout.readline()

    process.send_signal(signal.SIGINT)
    said, complained = process.communicate(timeout=DEADLINE_SECONDS)

    assert (0, "succeeded\n", "") == (process.returncode, said, complained)
