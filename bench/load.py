"""A load generator in a process of its own; prints one line of JSON.

    python -m bench.load PORT KEYS accepted CONNECTIONS SECONDS    each posts again as soon as it has its 202
    python -m bench.load PORT KEYS answered CONNECTIONS SECONDS    each posts again as soon as it has its answer
    python -m bench.load PORT KEYS paced PER_SECOND SECONDS        posts at fixed times, and waits for the answers

KEYS is a file with a device's key on each line; every connection is a device of its own, as long as there are keys.
Raw sockets and a fixed request, so that its own cost is small and known; its CPU time is told apart. Paced calls are
timed from when they should have been sent, so that a stall counts against everyone who waited behind it.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from bench.measuring import WARM_UP_SECONDS, figures

BODY = b'{"input":{"prompt":"How long may I drive without a break, and what counts as a break?"}}'
_MAX_PACED = 500


class Connection(asyncio.Protocol):
    """One request at a time; `on_reply` hears of each reply and may send the next."""

    def __init__(self, request: bytes, expected: bytes, on_reply: Callable[["Connection"], None]) -> None:
        self.sent = 0.0
        self.refused = 0
        self.is_refused = False
        #: Of the latest reply.
        self.body = b""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._expected = expected
        self._on_reply = on_reply
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        start = head.lower().find(b"content-length:")
        length = int(head[start + 15 :].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        self._buffer, self.body = b"", rest
        self.is_refused = not head.startswith(self._expected)
        self.refused += self.is_refused
        self._on_reply(self)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def send(self, at: float, request: bytes = b"") -> None:
        """Sends its request, or another one."""
        self.sent = at
        self._transport.write(request or self._request)

    def close(self) -> None:
        self._transport.close()


class Load:
    """Sends the same request over and over, and keeps the times of those after the warm-up."""

    def __init__(self, port: int, keys: Sequence[str], *, waits: bool) -> None:
        self.times: list[float] = []
        self._port = port
        self._expected = b"HTTP/1.1 200" if waits else b"HTTP/1.1 202"
        self._requests = [
            b"POST /v1/requests HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %s\r\n%s"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            % (key.encode(), b"prefer: wait=60\r\n" if waits else b"", len(BODY), BODY)
            for key in keys
        ]
        self._counted_from = time.perf_counter() + WARM_UP_SECONDS
        self._connections: list[Connection] = []

    async def closed(self, connections: int, seconds: float) -> dict[str, float]:
        """As fast as `connections` callers go that wait for each other's reply."""
        deadline = self._counted_from + seconds

        def again(connection: Connection) -> None:
            now = self._note(connection)
            if now < deadline:
                connection.send(now)
            else:
                connection.close()

        for _ in range(connections):
            (await self._connect(again)).send(time.perf_counter())
        await self._until_counted()
        before = cpu_seconds()
        await asyncio.gather(*(connection.lost for connection in self._connections))
        return self._result(time.perf_counter() - self._counted_from, before)

    async def paced(self, per_second: float, seconds: float) -> dict[str, float]:
        """At fixed times, however long replies take."""
        idle: list[Connection] = []

        def done(connection: Connection) -> None:
            self._note(connection)
            idle.append(connection)

        first = self._counted_from - WARM_UP_SECONDS
        before = cpu_seconds()
        for number in range(int(per_second * (seconds + WARM_UP_SECONDS))):
            due = first + number / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if not idle and len(self._connections) >= _MAX_PACED:
                sys.exit("the server does not keep up")
            connection = idle.pop() if idle else await self._connect(done)
            connection.send(due)
        took = time.perf_counter() - self._counted_from
        async with asyncio.timeout(60):
            while len(idle) < len(self._connections):
                await asyncio.sleep(0.01)
        return self._result(took, before)

    async def _connect(self, on_reply: Callable[[Connection], None]) -> Connection:
        request = self._requests[len(self._connections) % len(self._requests)]
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(request, self._expected, on_reply), "127.0.0.1", self._port
        )
        self._connections.append(connection)
        return connection

    async def _until_counted(self) -> None:
        await asyncio.sleep(max(0.0, self._counted_from - time.perf_counter()))

    def _note(self, connection: Connection) -> float:
        now = time.perf_counter()
        if connection.sent >= self._counted_from and not connection.is_refused:
            self.times.append(now - connection.sent)
        return now

    def _result(self, took: float, cpu_before: float) -> dict[str, float]:
        return {
            **figures(self.times, took=took),
            "refused": sum(connection.refused for connection in self._connections),
            "load_cpu_fraction": (cpu_seconds() - cpu_before) / took,
        }


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _run(port: int, keys: Sequence[str], mode: str, amount: float, seconds: float) -> dict[str, float]:
    load = Load(port, keys, waits=mode != "accepted")
    if mode == "paced":
        return await load.paced(amount, seconds)
    return await load.closed(int(amount), seconds)


if __name__ == "__main__":
    port, keys, mode, amount, seconds = sys.argv[1:]
    given = Path(keys).read_text(encoding="ascii").split()
    print(json.dumps(uvloop.run(_run(int(port), given, mode, float(amount), float(seconds)))))
