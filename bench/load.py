"""A load generator in a process of its own: `python -m bench.load PORT KEY CONNECTIONS SECONDS`; prints one line of JSON.

Raw sockets and a fixed request, so that its own cost is small and known; its CPU time is told apart.
"""

import asyncio
import json
import resource
import sys
import time

import uvloop

_BODY = b'{"input":{"prompt":"How long may I drive without a break, and what counts as a break?"}}'


class Connection(asyncio.Protocol):
    """Sends the same request again as soon as the reply is there."""

    def __init__(self, request: bytes, deadline: float) -> None:
        self.seconds: list[float] = []
        self.refused = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._deadline = deadline
        self._buffer = b""
        self._sent = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        start = head.lower().find(b"content-length:")
        length = int(head[start + 15 :].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        self._buffer = b""
        now = time.perf_counter()
        self.seconds.append(now - self._sent)
        if not head.startswith(b"HTTP/1.1 202"):
            self.refused += 1
        if now >= self._deadline:
            self._transport.close()
            self.done.set_result(None)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)


async def _run(port: int, key: str, connections: int, seconds: float) -> dict[str, float]:
    request = (
        b"POST /v1/requests HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %s\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (key.encode(), len(_BODY), _BODY)
    )
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    made = [
        (await loop.create_connection(lambda: Connection(request, started + seconds), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(connection.done for connection in made))
    took = time.perf_counter() - started
    times = sorted(time for connection in made for time in connection.seconds)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "per_second": len(times) / took,
        "p50_seconds": times[len(times) // 2],
        "p99_seconds": times[int(len(times) * 0.99)],
        "refused": sum(connection.refused for connection in made),
        "load_cpu_fraction": (usage.ru_utime + usage.ru_stime) / took,
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_run(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))))
