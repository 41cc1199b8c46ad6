"""Large replies that nobody reads."""

import asyncio
import socket

import pytest

from fieldpost.errors import OverloadedError
from fieldpost.messages.devices import Credential, DeviceKind
from fieldpost.observability import Metrics
from fieldpost.web.application import build
from fieldpost.web.operations import Call, Caller, Operation, Reply
from fieldpost.web.routing import routes_of
from fieldpost.web.server import reserve, serve
from fieldpost.web.unsent import UnsentReplies
from tests.support.waiting import eventually

TRUCK, OFFICE = (
    Credential(device_id=number, kind=DeviceKind.TRUCK, key_hash=bytes(32), disabled=False) for number in (1, 2)
)
MIB = 2**20


def test_one_device_has_its_share_and_all_have_the_whole() -> None:
    unsent = UnsentReplies(limit_bytes=4 * MIB, limit_bytes_per_device=2 * MIB)

    with unsent.holding(MIB, TRUCK), unsent.holding(MIB, TRUCK):
        with pytest.raises(OverloadedError), unsent.holding(MIB, TRUCK):
            pass
        with unsent.holding(2 * MIB, OFFICE):
            with pytest.raises(OverloadedError), unsent.holding(MIB, None):
                pass
            with unsent.holding(1000, TRUCK), unsent.holding(1000, None):
                pass
        with unsent.holding(2 * MIB, None):
            pass
    assert (0, {}) == (unsent._bytes, unsent._of_device)


def test_a_single_reply_always_has_room() -> None:
    unsent = UnsentReplies(limit_bytes=2 * MIB, limit_bytes_per_device=MIB)

    with unsent.holding(8 * MIB, TRUCK), pytest.raises(OverloadedError), unsent.holding(MIB, OFFICE):
        pass


@pytest.mark.parametrize("waits", [False, True])
async def test_a_reply_without_room_is_given_up_and_not_taken_for_delivered(waits: bool) -> None:
    acknowledged: list[int] = []

    async def acknowledge() -> None:
        acknowledged.append(1)

    async def large(_call: Call) -> Reply:
        return Reply(body=bytes(32 * MIB), on_sent=acknowledge)

    operation = Operation(method="GET", path="/large", summary="", handler=large, caller=Caller.ANYONE, waits=waits)
    application = build(routes_of([operation], None), metrics=Metrics(), ready=list)
    application.unsent = UnsentReplies(limit_bytes=48 * MIB, limit_bytes_per_device=48 * MIB)
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve(application, reserve("127.0.0.1", 0), on_listening=listening.set_result))
        port = await asyncio.wait_for(listening, 30)
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
            await eventually(lambda: application.unsent._bytes > 0)

            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            writer.close()

        await eventually(lambda: application.unsent._bytes == 0)
        serving.cancel()

    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after" in head
    assert [] == acknowledged
