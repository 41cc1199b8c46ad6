"""A server that is away for a while is waited for; one that has gone for good ends the run. Over real sockets."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from fieldpost.errors import UnreachableError
from fieldpost.fleet.pulse import Pulse
from tests.support.clock import FakeClock
from tests.support.server import free_port
from tests.support.waiting import eventually


class Healthy(BaseHTTPRequestHandler):
    status = 200
    body = b""

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Says nothing."""


class Starting(Healthy):
    status = 503
    body = b'{"status":"not ready","reasons":["starting"]}'


class Draining(Healthy):
    status = 503
    body = b'{"status":"not ready","reasons":["draining"]}'


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


@pytest.mark.parametrize("handler", [Healthy, Draining])
async def test_a_server_that_comes_back_is_waited_for(clock: FakeClock, handler: type[Healthy]) -> None:
    port = free_port()
    pulse = Pulse(f"http://127.0.0.1:{port}", gone_seconds=1_000_000, clock=clock)
    beating = asyncio.create_task(pulse.run())
    await eventually(lambda: not pulse.is_up)

    with _serving(port, handler):

        def is_back() -> bool:
            clock.advance(1)
            return pulse.is_up

        await eventually(is_back)
        beating.cancel()
        await asyncio.wait([beating])

    assert beating.cancelled()


async def test_a_server_that_never_gets_beyond_starting_is_away(clock: FakeClock) -> None:
    port = free_port()
    with _serving(port, Starting):
        pulse = Pulse(f"http://127.0.0.1:{port}", gone_seconds=30, clock=clock)
        beating = asyncio.create_task(pulse.run())

        def has_ended() -> bool:
            clock.advance(1)
            return beating.done()

        await eventually(has_ended)

    with pytest.raises(UnreachableError):
        await beating


@contextmanager
def _serving(port: int, handler: type[Healthy]) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        try:
            yield
        finally:
            server.shutdown()
            serving.join(30)
