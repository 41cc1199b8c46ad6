"""A real Fieldpost as a child process, through whose public doors tests go."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.support.waiting import eventually_now

#: Fast reactions, so that tests that wait for a condition wait briefly.
QUICK = {
    "FIELDPOST_FOLDER_SCAN_SECONDS": "0.1",
    "FIELDPOST_FOLDER_SETTLE_SECONDS": "0.2",
    "FIELDPOST_DISPATCH_INTERVAL_SECONDS": "0.05",
    "FIELDPOST_DISPATCH_REAP_INTERVAL_SECONDS": "0.2",
    "FIELDPOST_DISPATCH_LOST_AFTER_SECONDS": "0.5",
    "FIELDPOST_LIBRARY_SCAN_SECONDS": "0.5",
    "FIELDPOST_HUB_SWEEP_SECONDS": "0.3",
    "FIELDPOST_LOG_FORMAT": "json",
}


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """`fieldpost up` over a data directory; started, stopped, killed and started again on the same port.

    The log of all runs is in `<data>.log`. `wrapper` goes before the command (a tracer, a namespace).
    """

    def __init__(
        self, data: Path, *, settings: dict[str, str] | None = None, wrapper: tuple[str, ...] = (), port: int = 0
    ) -> None:
        self.data = data
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = data.with_suffix(".log")
        self._settings = {**QUICK, **(settings or {})}
        self._wrapper = wrapper
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What commands need to find this server."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FIELDPOST_")}
        return {**inherited, "FIELDPOST_URL": self.url, "FIELDPOST_DATA": str(self.data)}

    @property
    def cloud(self) -> Path:
        """The folder door's root."""
        return self.data / "Cloud"

    @property
    def operator_key(self) -> str:
        return (self.data / "operator.key").read_text().strip()

    @property
    def operator(self) -> dict[str, str]:
        """Headers of an operator."""
        return {"Authorization": f"Bearer {self.operator_key}"}

    @property
    def pid(self) -> int:
        """The server's process, or its wrapper's."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when the server says that it is ready."""
        command = [*self._wrapper, sys.executable, "-m", "fieldpost", "up", "--data", str(self.data)]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                stdout=log,
                stderr=log,
                env={**self.environment, **self._settings},
                # Its own group, so that a wrapper's child goes with it.
                start_new_session=True,
            )
        eventually_now(self._is_ready, seconds=30)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Asks it to stop; returns the exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """The exit status, once it has ended by itself."""
        assert self._process is not None
        return self._process.wait(timeout=60)

    def kill(self) -> None:
        """SIGKILL to the server and what it started; returns when it is gone."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=30)

    def add_device(self, *, kind: str = "truck", name: str = "a device", id: int | None = None) -> tuple[int, str]:  # noqa: A002
        """Adds a device; its id and key."""
        body = {"kind": kind, "name": name} | ({} if id is None else {"id": id})
        answer = httpx.post(f"{self.url}/admin/devices", json=body, headers=self.operator, timeout=30)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return int(made["device"]["id"]), str(made["key"])

    def device(self, key: str) -> httpx.Client:
        """An HTTP client that speaks as a device."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def log(self) -> str:
        """Everything it has said so far."""
        return self.log_path.read_text(errors="replace")

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the server ended with {self._process.returncode}:\n{self.log()[-4000:]}")
        try:
            return httpx.get(f"{self.url}/ready", timeout=2).status_code == 200
        except httpx.TransportError:
            return False


@contextlib.contextmanager
def running_server(
    data: Path, *, settings: dict[str, str] | None = None, wrapper: tuple[str, ...] = ()
) -> Iterator[Server]:
    """A running server, killed at the end if it is still there."""
    server = Server(data, settings=settings, wrapper=wrapper)
    server.start()
    try:
        yield server
    finally:
        server.kill()
