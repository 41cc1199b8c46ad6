"""The servers of WebSockets that are measured beside each other: Fieldpost, and peers in an environment of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import processes
from bench.processes import PEERS_PYTHON, Server, cores, free_port, start, wait_until_listening

FIELDPOST = "fieldpost"


@contextmanager
def running(name: str, directory: Path, *, devices: int) -> Iterator[Server]:
    """The server of this name (`bench.hubs.dialects`), listening, on the server's core."""
    if name == FIELDPOST:
        with processes.running("fieldpost-hub", directory, devices=devices) as server:
            yield server
        return
    keys = directory / "keys"
    keys.write_text("any", encoding="ascii")
    port = free_port()
    process = start([f"bench.peers.{name}_hub", str(port)], affinity=cores()[0], python=PEERS_PYTHON)
    try:
        wait_until_listening(port, process)
        yield Server(port=port, pid=process.pid, keys=keys)
    finally:
        process.kill()
        process.wait()
