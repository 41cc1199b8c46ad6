"""A load generator for one server of WebSockets, in a process of its own; prints one line of JSON.

    python -m bench.hubs.load SERVER PORT PID KEYS fan-out CONNECTIONS SECONDS     news for all, again and again
    python -m bench.hubs.load SERVER PORT PID KEYS echo CONNECTIONS SECONDS        each asks again once it is answered
    python -m bench.hubs.load SERVER PORT PID KEYS answered CONNECTIONS SECONDS    the same, with requests to a model
    python -m bench.hubs.load SERVER PORT PID KEYS connecting AT_ONCE SECONDS      each connects again once it is greeted
    python -m bench.hubs.load SERVER PORT PID KEYS idle CONNECTIONS SECONDS        nothing is said

SERVER is a name in `bench.hubs.dialects`, PID its process, whose CPU is told beside this one's own. KEYS is a file with a
device's key on each line.
"""

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import uvloop

from bench.cluster.stream import identity
from bench.hubs.client import Client, count_lost, expect_no_refusal, expect_open
from bench.hubs.dialects import DIALECTS, Dialect
from bench.hubs.meter import Meter
from bench.hubs.news import News, is_news
from bench.measuring import WARM_UP_SECONDS, figures
from bench.processes import resident_bytes

#: News that not everybody has yet: the next is made while the last is sent.
_NEWS_AT_ONCE = 4
#: Connections that are opened at once.
_OPENED_AT_ONCE = 50
#: Opened before memory is first looked at: what the first connections make is made once.
_FIRST_CONNECTIONS = 300
#: Until what was opened or closed has settled.
_SETTLING_SECONDS = 1.5
_GREETING_SECONDS = 30.0


class Load:
    """Connections to one server, and the times of what was counted."""

    def __init__(self, dialect: Dialect, port: int, pid: int, keys: Sequence[str]) -> None:
        self.times: list[float] = []
        self._dialect = dialect
        self._port = port
        self._pid = pid
        self._keys = itertools.cycle(keys)
        self._numbers = itertools.count(1)
        self._counted_from = self._deadline = float("inf")

    async def fan_out(self, connections: int, seconds: float) -> dict[str, float]:
        """One more connection has the news sent; a frame counts when it is there, a time when everybody has one."""
        news = News(connections)

        def call() -> None:
            news.call()
            caller.send(self._dialect.call(next(self._numbers)))

        def hear(client: Client, text: bytes) -> None:
            if not is_news(text):
                return
            called = news.arrive(client.texts)
            client.texts += 1
            if called is None:
                return
            now = time.perf_counter()
            if self._counted_from <= now < self._deadline:
                self.times.append(now - called)
            if now < self._deadline:
                call()

        key = next(self._keys)
        clients = await self._open(connections, hear, key=key)
        caller = (await self._open(1, expect_no_refusal, key=key))[0]
        self._begin(seconds)
        for _ in range(_NEWS_AT_ONCE):
            call()
        await self._until(self._counted_from)
        before = sum(client.texts for client in clients)
        found = await self._metered()
        expect_open(clients)
        frames = sum(client.texts for client in clients) - before
        return {**self._figures(found), "per_second": frames / found["took_seconds"]}

    async def echo(self, connections: int, seconds: float) -> dict[str, float]:
        """Each has one small text under way."""

        def hear(client: Client, text: bytes) -> None:
            if text.startswith(self._dialect.pong) and self._note(client):
                client.send(self._dialect.ping(next(self._numbers)))

        return await self._closed(connections, seconds, hear, self._dialect.ping)

    async def answered(self, connections: int, seconds: float) -> dict[str, float]:
        """Each has one request under way, and acknowledges its answer."""

        def hear(client: Client, text: bytes) -> None:
            expect_no_refusal(client, text)
            if not text.startswith(b'{"type":"ResponseReady"'):
                return
            client.send(b'{"type":"Ack","request_ids":["%s"]}' % identity(text, b'"request_id":"'))
            if self._note(client):
                client.send(self._dialect.call(next(self._numbers)))

        return await self._closed(connections, seconds, hear, self._dialect.call)

    async def connecting(self, at_once: int, seconds: float) -> dict[str, float]:
        """From `connect` to the greeting; the connection is closed then, and another one opened."""
        self._begin(seconds)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(self._connect_again())
            await self._until(self._counted_from)
            found = await self._metered()
        return self._figures(found)

    async def idle(self, connections: int, seconds: float) -> dict[str, float]:
        """What memory each takes, and what CPU all of them while they say nothing."""
        # They stay: what they gave back would be taken again, and not be seen.
        first = await self._open(_FIRST_CONNECTIONS)
        await asyncio.sleep(_SETTLING_SECONDS)
        empty_bytes = resident_bytes(self._pid)
        started = time.perf_counter()
        clients = await self._open(connections)
        took = time.perf_counter() - started
        await asyncio.sleep(_SETTLING_SECONDS)
        full_bytes = resident_bytes(self._pid)
        self._deadline = time.perf_counter() + seconds
        return {
            **await self._metered(),
            "per_second": connections / took,
            "bytes_per_connection": (full_bytes - empty_bytes) / connections,
            "held": connections - count_lost([*first, *clients]),
        }

    async def _closed(
        self,
        connections: int,
        seconds: float,
        hear: Callable[[Client, bytes], None],
        first: Callable[[int], bytes],
    ) -> dict[str, float]:
        clients = await self._open(connections, hear)
        self._begin(seconds)
        for client in clients:
            client.sent = time.perf_counter()
            client.send(first(next(self._numbers)))
        await self._until(self._counted_from)
        found = await self._metered()
        expect_open(clients)
        return self._figures(found)

    async def _open(
        self, connections: int, hear: Callable[[Client, bytes], None] = lambda _client, _text: None, *, key: str = ""
    ) -> Sequence[Client]:
        """So many, all of them greeted; each with the next key unless they share one."""
        clients: list[Client] = []
        left = iter(range(connections))

        async def some() -> None:
            clients.extend([await self._greeted(key or next(self._keys), hear) for _ in left])

        async with asyncio.timeout(_GREETING_SECONDS + connections / 50), asyncio.TaskGroup() as tasks:
            for _ in range(_OPENED_AT_ONCE):
                tasks.create_task(some())
        return clients

    async def _greeted(self, key: str, hear: Callable[[Client, bytes], None]) -> Client:
        _, client = await asyncio.get_running_loop().create_connection(
            partial(Client, self._dialect, key, hear), "127.0.0.1", self._port
        )
        await client.greeted
        return client

    async def _connect_again(self) -> None:
        while (started := time.perf_counter()) < self._deadline:
            client = await self._greeted(next(self._keys), lambda _client, _text: None)
            now = time.perf_counter()
            if self._counted_from <= now < self._deadline:
                self.times.append(now - started)
            client.close()

    def _begin(self, seconds: float) -> None:
        self._counted_from = time.perf_counter() + WARM_UP_SECONDS
        self._deadline = self._counted_from + seconds

    def _note(self, client: Client) -> bool:
        """Counts what came; whether there is to be more."""
        now = time.perf_counter()
        if self._counted_from <= now < self._deadline:
            self.times.append(now - client.sent)
        client.sent = now
        return now < self._deadline

    async def _metered(self) -> dict[str, float]:
        """What CPU is taken from now to the deadline."""
        meter = Meter(self._pid)
        await self._until(self._deadline)
        return meter.read()

    def _figures(self, found: Mapping[str, float]) -> dict[str, float]:
        return {**figures(self.times, took=found["took_seconds"]), **found}

    async def _until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - time.perf_counter()))


async def _run(load: Load, mode: str, amount: int, seconds: float) -> dict[str, float]:
    modes = {
        "fan-out": load.fan_out,
        "echo": load.echo,
        "answered": load.answered,
        "connecting": load.connecting,
        "idle": load.idle,
    }
    return await modes[mode](amount, seconds)


if __name__ == "__main__":
    name, port, pid, keys, mode, amount, seconds = sys.argv[1:]
    given = Path(keys).read_text(encoding="ascii").split()
    load = Load(DIALECTS[name], int(port), int(pid), given)
    print(json.dumps(uvloop.run(_run(load, mode, int(amount), float(seconds)))))
