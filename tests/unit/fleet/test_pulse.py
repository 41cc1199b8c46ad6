"""A server that is away for a while is waited for; one that has gone for good ends the run. Over real sockets."""

import asyncio
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from fieldpost.errors import UnreachableError
from fieldpost.fleet.pulse import Pulse
from tests.support.clock import FakeClock
from tests.support.server import free_port
from tests.support.waiting import eventually


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Says nothing."""


async def test_a_server_that_stays_away_ends_the_run(clock: FakeClock) -> None:
    pulse = Pulse(f"http://127.0.0.1:{free_port()}", gone_seconds=30, clock=clock)
    beating = asyncio.create_task(pulse.run())
    started = clock.monotonic()

    def has_ended() -> bool:
        clock.advance(1)
        return beating.done()

    await eventually(has_ended)

    with pytest.raises(UnreachableError, match="did not come back within 30 s"):
        await beating
    assert not pulse.is_up
    assert clock.monotonic() - started >= 30


async def test_a_server_that_comes_back_is_waited_for(clock: FakeClock) -> None:
    port = free_port()
    pulse = Pulse(f"http://127.0.0.1:{port}", gone_seconds=1_000_000, clock=clock)
    beating = asyncio.create_task(pulse.run())
    await eventually(lambda: not pulse.is_up)

    with ThreadingHTTPServer(("127.0.0.1", port), Healthy) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()

        def is_back() -> bool:
            clock.advance(1)
            return pulse.is_up

        await eventually(is_back)
        beating.cancel()
        await asyncio.wait([beating])
        server.shutdown()
        serving.join(30)

    assert beating.cancelled()
