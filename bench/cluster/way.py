"""The load for the whole way: posts to a gateway, hears the answers at a hub's WebSockets; prints one line of JSON.

    python -m bench.cluster.way GATEWAY HUB KEYS closed OUTSTANDING SECONDS    so many are not answered at any time
    python -m bench.cluster.way GATEWAY HUB KEYS paced PER_SECOND SECONDS      posts at fixed times
    python -m bench.cluster.way GATEWAY HUB KEYS reading PER_SECOND SECONDS   and asks for each answer once more

GATEWAY and HUB are ports. A time is from when a request was (or, at a fixed rate, should have been) sent to when its
answer stood at the WebSocket. See `bench.load`, whose connections these are.
"""

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import uvloop

from bench.cluster.stream import Stream, identity
from bench.load import BODY, Connection, cpu_seconds
from bench.measuring import WARM_UP_SECONDS, figures

#: More posts than this without a reply: the gateway does not keep up.
_MAX_CONNECTIONS = 1000
_LAST_ANSWER_SECONDS = 60.0


class Way:
    """Devices with a WebSocket each; posts go over as many connections as there are in flight."""

    def __init__(self, gateway: int, hub: int, keys: Sequence[str], *, reads: bool) -> None:
        self.times: list[float] = []
        self.refused = 0
        self._gateway, self._hub = gateway, hub
        self._keys = keys
        self._reads = reads
        self._posts = [_request(b"POST /v1/requests", key, BODY) for key in keys]
        self._made = 0
        self._idle: list[Connection] = []
        self._readers: list[Connection] = []
        self._unread: deque[bytes] = deque()
        self._streams: list[Stream] = []
        #: When it was sent, by id; an answer may be there before the reply that tells its id.
        self._sent: dict[bytes, float] = {}
        self._early: dict[bytes, float] = {}
        self._in_flight = 0
        self._limit = 0
        self._deadline = 0.0
        self._counted_from = 0.0

    async def connect(self) -> None:
        """Opens every device's WebSocket."""
        loop = asyncio.get_running_loop()
        for key in self._keys:
            _, stream = await loop.create_connection(partial(Stream, key, self._answered), "127.0.0.1", self._hub)
            self._streams.append(stream)
            await asyncio.wait_for(stream.opened, 30)
            if self._reads:
                self._readers.append(await self._connect(b"", b"HTTP/1.1 200", self._was_read))
        for _ in range(4 * len(self._keys)):
            self._idle.append(await self._connection())

    async def closed(self, outstanding: int, seconds: float) -> dict[str, float]:
        """As many as `outstanding` wait for their answer."""
        self._begin(seconds)
        self._limit = outstanding
        while self._in_flight < outstanding:
            await self._post(time.perf_counter())
        await asyncio.sleep(self._counted_from - time.perf_counter())
        before = cpu_seconds()
        await asyncio.sleep(self._deadline - time.perf_counter())
        return await self._result(seconds, before)

    async def paced(self, per_second: float, seconds: float) -> dict[str, float]:
        """At fixed times, however long answers take."""
        self._begin(seconds)
        first = self._counted_from - WARM_UP_SECONDS
        before = cpu_seconds()
        for number in range(int(per_second * (seconds + WARM_UP_SECONDS))):
            due = first + number / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await self._post(due)
        result = await self._result(seconds, before)
        result["load_cpu_fraction"] *= seconds / (seconds + WARM_UP_SECONDS)
        return result

    def _begin(self, seconds: float) -> None:
        self._counted_from = time.perf_counter() + WARM_UP_SECONDS
        self._deadline = self._counted_from + seconds

    async def _post(self, due: float) -> None:
        if not self._idle:
            self._idle.append(await self._connection())
        self._send(self._idle.pop(), due)

    def _send(self, connection: Connection, due: float) -> None:
        self._in_flight += 1
        connection.send(due)

    async def _connection(self) -> Connection:
        self._made += 1
        if self._made > _MAX_CONNECTIONS:
            sys.exit("the gateway does not keep up")
        return await self._connect(self._posts[self._made % len(self._posts)], b"HTTP/1.1 202", self._accepted)

    async def _connect(self, request: bytes, expected: bytes, on_reply: Callable[[Connection], None]) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(request, expected, on_reply), "127.0.0.1", self._gateway
        )
        return connection

    def _accepted(self, connection: Connection) -> None:
        self._idle.append(connection)
        if connection.is_refused:
            self.refused += 1
            self._in_flight -= 1
            return
        request_id = identity(connection.body, b'"id":"')
        arrived = self._early.pop(request_id, None)
        if arrived is None:
            self._sent[request_id] = connection.sent
        else:
            self._note(connection.sent, arrived)

    def _was_read(self, connection: Connection) -> None:
        self.refused += connection.is_refused
        if self._unread:
            connection.send(0.0, self._unread.popleft())
        else:
            self._readers.append(connection)

    def _read(self, key: str, request_id: bytes) -> None:
        request = _request(b"GET /v1/requests/" + request_id, key, b"")
        if self._readers:
            self._readers.pop().send(0.0, request)
        else:
            self._unread.append(request)

    def _answered(self, key: str, request_id: bytes) -> None:
        if self._reads:
            self._read(key, request_id)
        now = time.perf_counter()
        sent = self._sent.pop(request_id, None)
        if sent is None:
            self._early[request_id] = now
        else:
            self._note(sent, now)

    def _note(self, sent: float, arrived: float) -> None:
        self._in_flight -= 1
        # With a fixed number in flight a rate is what arrives; at a fixed rate a time is of what was sent.
        counted = arrived if self._limit else sent
        if self._counted_from <= counted < self._deadline:
            self.times.append(arrived - sent)
        if arrived < self._deadline and self._in_flight < self._limit and self._idle:
            self._send(self._idle.pop(), arrived)

    async def _result(self, seconds: float, cpu_before: float) -> dict[str, float]:
        cpu = cpu_seconds() - cpu_before
        self._limit = self._limit and -1
        until = time.perf_counter() + _LAST_ANSWER_SECONDS
        while self._in_flight:
            await asyncio.sleep(0.01)
            if time.perf_counter() > until:
                sys.exit(f"{self._in_flight} answers never came, {len(self._early)} of others did")
        for stream in self._streams:
            stream.close()
        return {
            **figures(self.times, took=seconds),
            "refused": self.refused,
            "load_cpu_fraction": cpu / seconds,
        }


def _request(line: bytes, key: str, body: bytes) -> bytes:
    return (
        b"%s HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %s\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (line, key.encode(), len(body), body)
    )


async def _run(way: Way, mode: str, amount: float, seconds: float) -> dict[str, float]:
    await way.connect()
    if mode == "closed":
        return await way.closed(int(amount), seconds)
    return await way.paced(amount, seconds)


if __name__ == "__main__":
    gateway, hub, keys, mode, amount, seconds = sys.argv[1:]
    given = Path(keys).read_text(encoding="ascii").split()

    async def main() -> dict[str, float]:
        return await _run(
            Way(int(gateway), int(hub), given, reads=mode == "reading"), mode, float(amount), float(seconds)
        )

    print(json.dumps(uvloop.run(main())))
