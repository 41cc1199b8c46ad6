import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from fieldpost.errors import ConfigError, PortInUseError, QueueFullError
from fieldpost.observability import Metrics
from fieldpost.web.application import build
from fieldpost.web.operations import Call, Caller, Handler, Operation, Reply
from fieldpost.web.routing import routes_of
from fieldpost.web.server import reserve, serve
from tests.support.doors import open_port
from tests.support.waiting import eventually


async def _count(call: Call) -> Reply:
    return Reply(body=b'{"items":%d}' % len(call.body))


async def _refuse(_call: Call) -> Reply:
    raise QueueFullError(retry_after_seconds=3)


async def _break(_call: Call) -> Reply:
    raise ZeroDivisionError("the secret")


async def _large(_call: Call) -> Reply:
    return Reply(body=b"x" * 5_000_000)


ROUTES = routes_of(
    [
        Operation(method="POST", path="/count", summary="", handler=_count, caller=Caller.ANYONE, body=list[int]),
        Operation(method="GET", path="/refuse", summary="", handler=_refuse, caller=Caller.ANYONE),
        Operation(method="DELETE", path="/refuse", summary="", handler=_refuse, caller=Caller.ANYONE),
        Operation(method="GET", path="/break", summary="", handler=_break, caller=Caller.ANYONE),
        Operation(method="GET", path="/large", summary="", handler=_large, caller=Caller.ANYONE),
    ],
    None,
)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with open_port(ROUTES) as number:
        yield number


@pytest.fixture
async def client(port: int) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as made:
        yield made


async def test_it_is_alive_ready_and_counts(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json() == {"status": "alive"}
    assert (await client.get("/ready")).json() == {"status": "ready"}
    assert "fieldpost_requests_accepted_total" in (await client.get("/metrics")).text


async def test_who_is_not_ready_says_why() -> None:
    async with open_port(ROUTES, not_ready=["draining"], degraded=["watcher"]) as port, httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/ready")

    assert answer.status_code == 503
    assert answer.json() == {"status": "not ready", "reasons": ["draining"], "degraded": ["watcher"]}


async def test_who_can_serve_is_ready_and_names_what_does_not_work() -> None:
    async with open_port(ROUTES, degraded=["watcher"]) as port, httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/ready")

    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "degraded": ["watcher"]}


async def test_what_is_not_there_is_a_problem(client: httpx.AsyncClient) -> None:
    answer = await client.get("/nothing/here")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:fieldpost:problem:not-found"


async def test_a_wrong_method_is_told_all_right_ones(client: httpx.AsyncClient) -> None:
    answer = await client.put("/refuse")

    assert answer.status_code == 405
    assert {"GET", "DELETE"} <= set(answer.headers["allow"].split(", "))


async def test_an_unavailable_backend_says_when_to_come_again(client: httpx.AsyncClient) -> None:
    answer = await client.get("/refuse")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert answer.json()["type"] == "urn:fieldpost:problem:queue-full"


async def test_an_error_inside_says_nothing_of_itself(client: httpx.AsyncClient) -> None:
    answer = await client.get("/break")

    assert answer.status_code == 500
    assert "secret" not in answer.text


async def test_a_large_reply_comes_whole(client: httpx.AsyncClient) -> None:
    answer = await client.get("/large")

    assert len(answer.content) == 5_000_000


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (None, 200),
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.x+json", 200),
        ("text/plain", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)
async def test_bodies_are_json_by_any_of_its_names(
    client: httpx.AsyncClient, content_type: str | None, status: int
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}

    answer = await client.post("/count", content=b"[1, 2]", headers=headers)

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("coding", "status"), [("identity", 200), ("gzip", 415), ("GZIP", 415), ("identity, br", 415), ("deflate", 415)]
)
async def test_bodies_come_as_they_are(client: httpx.AsyncClient, coding: str, status: int) -> None:
    answer = await client.post("/count", content=b"[1, 2]", headers={"Content-Encoding": coding})

    assert answer.status_code == status
    if status == 415:
        assert answer.headers["accept-encoding"] == "identity"
        assert answer.json()["type"] == "urn:fieldpost:problem:unsupported-encoding"


@pytest.mark.parametrize(
    ("body", "status", "name"),
    [
        (b"", 400, "malformed-request"),
        (b"[1", 400, "malformed-request"),
        (b"\xff\xfe", 400, "malformed-request"),
        (b'["\xff"]', 422, "invalid-request"),
        (b"{}", 422, "invalid-request"),
        (b"[" * 100_000 + b"]" * 100_000, 422, "invalid-request"),
    ],
)
async def test_what_cannot_be_read_is_refused(client: httpx.AsyncClient, body: bytes, status: int, name: str) -> None:
    answer = await client.post("/count", content=body)

    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:fieldpost:problem:{name}")


async def test_a_body_over_the_bound_is_refused_announced_or_not(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 65_536

    announced = await client.post("/count", content=b" " * (2**20 + 1))
    not_announced = await client.post("/count", content=pieces())

    assert (announced.status_code, not_announced.status_code) == (413, 413)


async def test_a_body_at_the_bound_is_read(client: httpx.AsyncClient) -> None:
    answer = await client.post("/count", content=b"[1]" + b" " * (2**20 - 3))

    assert answer.json() == {"items": 1}


async def test_a_head_without_end_is_refused(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n" + b"x-a: " + b"a" * 8000 + b"\r\n")
    for _ in range(10):
        writer.write(b"x-a: " + b"a" * 8000 + b"\r\n")

    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in answer
    writer.close()


async def test_what_is_not_http_is_answered_with_a_problem(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")

    answer = await asyncio.wait_for(reader.read(), 30)

    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 400
    writer.close()


async def test_a_caller_who_leaves_ends_the_work_for_it() -> None:
    outcomes: list[str] = []

    async def work(_call: Call) -> Reply:
        outcomes.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            outcomes.append("ended")
        return Reply()

    async def acknowledge() -> None:
        outcomes.append("acknowledged")

    async def answer(_call: Call) -> Reply:
        return Reply(body=b"{}", on_sent=acknowledge)

    routes = routes_of([_waiting("/work", work), _waiting("/answer", answer)], None)
    async with open_port(routes) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        # Two calls on one connection: the second waits for the first, and both learn that the caller left.
        writer.write(b"GET /work HTTP/1.1\r\nhost: x\r\n\r\nGET /answer HTTP/1.1\r\nhost: x\r\n\r\n")
        await eventually(lambda: outcomes == ["began"])

        writer.close()

        await eventually(lambda: "ended" in outcomes)
    assert "acknowledged" not in outcomes


async def test_what_was_sent_whole_is_acknowledged() -> None:
    acknowledged: list[str] = []

    async def acknowledge() -> None:
        await asyncio.sleep(0)
        acknowledged.append("yes")

    async def answer(_call: Call) -> Reply:
        return Reply(body=b"{}", on_sent=acknowledge)

    routes = routes_of([_waiting("/answer", answer)], None)
    async with open_port(routes) as port, httpx.AsyncClient() as client:
        await client.get(f"http://127.0.0.1:{port}/answer")

        await eventually(lambda: acknowledged == ["yes"])


def _waiting(path: str, handler: Handler) -> Operation:
    return Operation(method="GET", path=path, summary="", handler=handler, caller=Caller.ANYONE, waits=True)


def test_a_port_that_cannot_be_had_is_named() -> None:
    with reserve("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=str(port)):
            reserve("127.0.0.1", port)
    # TEST-NET-1: an address that no machine has.
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:0"):
        reserve("192.0.2.1", 0)


async def test_a_server_that_stops_lets_replies_under_way_end() -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def answer_later(_call: Call) -> Reply:
        asked.set()
        await may_answer.wait()
        return Reply(body=b'"whole"')

    operation = Operation(method="GET", path="/later", summary="", handler=answer_later, caller=Caller.ANYONE)
    application = build(routes_of([operation], None), metrics=Metrics(), ready=lambda: ())
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(application, reserve("127.0.0.1", 0), on_listening=listening.set_result))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await listening}", timeout=30) as client:
        asking = asyncio.create_task(client.get("/later"))
        await asked.wait()
        serving.cancel()
        await asyncio.sleep(0)
        may_answer.set()
        reply = await asking
    await asyncio.wait([serving], timeout=30)

    assert reply.content == b'"whole"'
    assert serving.cancelled()
