"""CPU of a server, told apart from that of the load which measures it."""

import time

from bench.load import cpu_seconds
from bench.processes import cpu_seconds as cpu_seconds_of


class Meter:
    """CPU of the server and of this process since it was made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._started = time.perf_counter()
        self._server = cpu_seconds_of(pid)
        self._own = cpu_seconds()

    def read(self) -> dict[str, float]:
        took = time.perf_counter() - self._started
        return {
            "took_seconds": took,
            "server_cpu_fraction": (cpu_seconds_of(self._pid) - self._server) / took,
            "load_cpu_fraction": (cpu_seconds() - self._own) / took,
        }
