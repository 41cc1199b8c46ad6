"""What a process holds at once for calls: how many, how much of their bodies, and whose."""

import asyncio
import gc
import tracemalloc
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from fieldpost.errors import OverloadedError, TooManyCallsError
from fieldpost.messages.devices import Credential, DeviceKind
from fieldpost.services import intake
from fieldpost.settings import ServerSettings
from fieldpost.web.application import Application
from fieldpost.web.bodies import Bodies
from fieldpost.web.calls import CallsInHand
from fieldpost.web.operations import Call, Caller, Operation, Reply
from fieldpost.web.routing import routes_of
from tests.support.doors import open_doors
from tests.support.waiting import eventually

_TRUCK, _OFFICE = (
    Credential(device_id=number, kind=DeviceKind.TRUCK, key_hash=bytes(32), disabled=False) for number in (1, 2)
)


def test_one_device_has_its_share_and_all_have_the_whole() -> None:
    calls = CallsInHand(limit_per_device=2, limit=4)

    calls.enter(_TRUCK)
    calls.enter(_TRUCK)
    with pytest.raises(TooManyCallsError):
        calls.enter(_TRUCK)
    calls.enter(_OFFICE)
    calls.enter(None)
    with pytest.raises(OverloadedError):
        calls.enter(None)

    calls.leave(_TRUCK)
    calls.enter(_TRUCK)


async def test_a_device_over_its_share_is_in_nobodys_way(tmp_path: Path) -> None:
    settings = ServerSettings(max_calls_per_device=2)
    async with (
        open_doors(tmp_path / "data", server_settings=settings) as doors,
        doors.device() as device,
        doors.operator() as operator,
        doors.client() as anyone,
    ):
        made = await operator.post("/admin/devices", json={"kind": "truck", "name": "Truck 18"})
        polls = [asyncio.create_task(device.get("/v1/responses", params={"wait": 60})) for _ in range(2)]

        async def is_refused() -> bool:
            return (await device.get("/v1/models")).status_code == 429

        await eventually(is_refused)
        refused = await device.post("/v1/requests", json={"input": {"prompt": "One more?"}})
        async with doors.client(made.json()["key"]) as other:
            assert (await other.get("/v1/models")).status_code == 200
        assert (await operator.get("/admin/devices")).status_code == 200
        for probe in ("/health", "/ready", "/metrics"):
            assert (await anyone.get(probe)).status_code == 200

        polls[0].cancel()
        await eventually(lambda: _is_answered(device.get("/v1/models")))
        polls[1].cancel()

    assert refused.json()["type"] == "urn:fieldpost:problem:too-many-calls"
    assert refused.headers["retry-after"] == "1"


async def _is_answered(asking: Any) -> bool:
    return bool((await asking).status_code == 200)


async def test_no_place_is_needed_by_who_needs_no_key() -> None:
    async def tell(_call: Call) -> Reply:
        return Reply(body=b"{}")

    operation = Operation(method="GET", path="/probe", summary="", handler=tell, caller=Caller.ANYONE)
    application = Application(routes_of([operation], None), CallsInHand(limit_per_device=1, limit=0), Bodies())

    assert await _asked(application, "GET", "/probe") == 200


async def test_a_call_that_waits_holds_no_body(tmp_path: Path) -> None:
    prompt = "x" * 900_000
    async with open_doors(tmp_path / "data") as doors, doors.device() as device:
        body = b'{"input":{"prompt":"%s"}}' % prompt.encode()
        chat = b'{"model":"echo","messages":[{"role":"user","content":"%s"}]}' % prompt.encode()
        streamed = chat[:-1] + b',"stream":true}'
        tracemalloc.start()
        try:
            waiting = [
                *(asyncio.create_task(device.post("/v1/requests", content=body, headers=_PREFER)) for _ in range(8)),
                *(asyncio.create_task(device.post("/v1/chat/completions", content=chat)) for _ in range(8)),
                *(asyncio.create_task(device.post("/v1/chat/completions", content=streamed)) for _ in range(8)),
            ]
            await eventually(lambda: len(_calls()) == 24 and all(call.body is None for call in _calls()))
            # What waits in the queue was encoded by the intake, and is the broker's.
            snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, intake.__file__)])
        finally:
            tracemalloc.stop()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    # Each of the 24 is of 900 KB.
    assert sum(trace.size for trace in snapshot.traces) < 4_000_000


_PREFER = {"Prefer": "wait=60"}


def _calls() -> list[Call]:
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) is Call]


async def test_large_bodies_share_one_budget_whatever_their_path_and_nobody_takes_it_alone() -> None:
    async def count(call: Call) -> Reply:
        return Reply(body=b"%d" % len(call.body))

    operations = [
        Operation(method="POST", path=path, summary="", handler=count, caller=Caller.ANYONE, body=list[int])
        for path in ("/one", "/other")
    ]
    bodies = Bodies(max_large=3, max_large_per_device=2)
    application = Application(routes_of(operations, None), CallsInHand(limit_per_device=9), bodies)
    slow, slower, waiting, others = _Upload(), _Upload(), _Upload(), _Upload()

    # Callers without a key have one share together.
    asking = [
        asyncio.create_task(_asked(application, "POST", path, upload))
        for path, upload in (("/one", slow), ("/one", slower), ("/other", waiting))
    ]
    reading = asyncio.create_task(bodies.read(_scope("POST", "/one"), others.receive, _TRUCK))
    await eventually(lambda: (slow.asked, slower.asked, others.asked) == (2, 2, 2))
    assert waiting.asked == 1

    others.rest.set()
    assert await reading == b"[1, 2]"
    assert waiting.asked == 1
    slow.rest.set()
    await eventually(lambda: waiting.asked == 2)
    for upload in (slower, waiting):
        upload.rest.set()
    assert await asyncio.gather(*asking) == [200, 200, 200]


class _Upload:
    """A body in two pieces, the second when it may come."""

    def __init__(self) -> None:
        self.asked = 0
        self.rest = asyncio.Event()

    async def receive(self) -> MutableMapping[str, Any]:
        self.asked += 1
        if self.asked == 1:
            return {"type": "http.request", "body": b"[1,", "more_body": True}
        await self.rest.wait()
        return {"type": "http.request", "body": b" 2]", "more_body": False}


def _scope(method: str, path: str) -> MutableMapping[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}


async def _asked(application: Application, method: str, path: str, upload: _Upload | None = None) -> int:
    """The status of the answer."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await application(_scope(method, path), (upload or _Upload()).receive, send)
    return int(sent[0]["status"])
