"""`fieldpost demo` as a person runs it: a process, beside a server that works, is killed, loses things or goes away."""

import contextlib
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from fieldpost.fleet.questions import QUESTIONS
from tests.support.server import Server, running_server
from tests.support.slow_model import SlowModel
from tests.support.waiting import eventually_now

_PROGRESS = re.compile(r"sent (\d+), answered (\d+), in flight (\d+)")


class Demo:
    """A running demo; its output is in files, so that nothing waits for a reader."""

    def __init__(self, server: Server, folder: Path, *words: str, more: dict[str, str] | None = None) -> None:
        folder.mkdir()
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fieldpost", "demo", *words],
                stdout=out,
                stderr=err,
                cwd=folder,
                env=server.environment | (more or {}),
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def answered(self) -> int:
        """As the latest line of progress tells; fails when the demo has ended already."""
        assert self.process.poll() is None, self.out + self.err
        told = _PROGRESS.findall(self.out)
        return int(told[-1][1]) if told else 0

    def status(self) -> int:
        return self.process.wait(timeout=100)

    def summary(self, status: int = 0) -> Any:
        assert status == self.status(), self.out + self.err
        return json.loads(self.out)


@contextlib.contextmanager
def _demo(server: Server, folder: Path, *words: str, more: dict[str, str] | None = None) -> Iterator[Demo]:
    demo = Demo(server, folder, *words, more=more)
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait(timeout=30)


def _demo_devices(server: Server) -> list[str]:
    with contextlib.closing(sqlite3.connect(server.data / "fieldpost.db", timeout=30)) as database:
        rows = database.execute("SELECT name FROM devices WHERE removed_at IS NULL AND name LIKE 'demo %'")
        return [name for (name,) in rows]


def test_a_fleet_asks_through_all_doors_and_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    # Ids grow: what belongs to devices after this one is this run's, and not what came late for an interrupted one.
    marker, _ = server.add_device()
    with _demo(server, tmp_path / "demo", "--seconds", "5", "--devices", "10", "--rate", "20", "--json") as demo:
        summary = demo.summary()

    assert "" == demo.err
    assert 10 == summary["devices"]
    assert summary["sent"] == summary["accepted"] == summary["answered"] > 0
    assert [] == summary["lost"] == summary["duplicated"] == summary["unexpected"]
    assert 0 == summary["failed"]
    assert {} == summary["refused"]
    assert summary["reconnects"] > 0
    assert {"http", "websocket", "folder", "total"} == set(summary["latency_seconds"])
    for latency in summary["latency_seconds"].values():
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    assert [] == _demo_devices(server)
    assert [] == [path for path in server.cloud.rglob("*") if path.is_file() and int(path.parent.name) > marker]


def test_without_the_data_directory_the_folders_devices_use_http(server: Server, tmp_path: Path) -> None:
    elsewhere = {"FIELDPOST_DATA": str(tmp_path / "none"), "FIELDPOST_OPERATOR_KEY": server.operator_key}

    with _demo(server, tmp_path / "demo", "--seconds", "2", "--devices", "3", more=elsewhere) as demo:
        status = demo.status()

    assert (0, "") == (status, demo.err)
    first, *_, last = demo.out.splitlines()
    assert f"{tmp_path / 'none'} is not the data directory of {server.url}" in first
    assert "use HTTP" in first
    assert "Nothing was lost, nothing was answered twice." == last.rstrip()
    assert "folder " not in demo.out.partition("From asking")[2]


def test_the_handbook_answers_what_devices_ask(server: Server) -> None:
    _, key = server.add_device()

    with server.device(key) as device:
        for question in {question for questions in QUESTIONS.values() for question in questions}:
            asked = device.post("/v1/requests", json={"input": {"prompt": question}}, headers={"Prefer": "wait=30"})
            assert asked.json()["output"]["sources"], question


def test_a_terminal_shows_a_table_that_nothing_wraps(server: Server) -> None:
    reading, terminal = pty.openpty()
    environment = server.environment | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24", "NO_COLOR": "1"}
    words = ["demo", "--seconds", "2", "--devices", "5"]
    demo = subprocess.Popen([sys.executable, "-m", "fieldpost", *words], stdout=terminal, env=environment)
    os.close(terminal)
    shown = b""
    with demo, contextlib.suppress(OSError):
        # The end of a terminal is an error.
        while piece := os.read(reading, 65_536):
            shown += piece
    os.close(reading)

    assert 0 == demo.returncode
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()))
    assert any(
        line.split() == ["kind", "door", "devices", "away", "sent", "answered", "in", "flight"] for line in lines
    )
    assert max(len(line) for line in lines) <= 80
    assert any("Nothing was lost, nothing was answered twice." in line for line in lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_takes_its_devices_away(server: Server, tmp_path: Path, number: signal.Signals) -> None:
    with _demo(server, tmp_path / "demo", "--seconds", "60", "--devices", "6") as demo:
        eventually_now(lambda: demo.answered > 0)
        assert 6 == len(_demo_devices(server))

        demo.process.send_signal(number)

        assert 130 == demo.status()
    assert "" == demo.err
    assert [] == _demo_devices(server)
    # What was under way when it was interrupted may still be answered; nothing is left to be asked.
    assert [] == [path for path in (server.cloud / "Requests").rglob("*") if path.is_file()]


@pytest.mark.timeout(240)
def test_a_server_that_is_killed_and_started_again_loses_nothing(data: Path, tmp_path: Path) -> None:
    words = ["--seconds", "12", "--devices", "10", "--rate", "20"]
    with running_server(data) as server, _demo(server, tmp_path / "demo", *words) as demo:
        eventually_now(lambda: demo.answered > 10)
        server.kill()
        eventually_now(lambda: "the server is away" in demo.out)
        before = demo.answered
        server.start()

        status = demo.status()

        assert (0, "") == (status, demo.err), demo.out
        (answered,) = re.findall(r"^answered +(\d+)", demo.out, re.MULTILINE)
        assert int(answered) > before
        assert "Nothing was lost, nothing was answered twice." == demo.out.splitlines()[-1].rstrip()
        assert [] == _demo_devices(server)


@pytest.mark.timeout(240)
def test_requests_that_vanish_from_the_server_are_lost(data: Path, tmp_path: Path) -> None:
    words = ["--seconds", "10", "--devices", "5", "--settle", "2", "--json"]
    with (
        SlowModel() as model,
        running_server(data, settings=model.settings(drain_seconds=1)) as server,
        _demo(server, tmp_path / "demo", *words) as demo,
    ):
        eventually_now(lambda: len(_unanswered(server)) >= 3)
        server.kill()
        vanished = _unanswered(server)
        _forget_everything_asked(server)
        model.answer.set()
        server.start()

        summary = demo.summary(status=1)

    assert vanished & set(summary["lost"])
    assert [] == summary["duplicated"] == summary["unexpected"]
    assert summary["answered"] > 0


def test_a_server_that_goes_away_for_good_is_an_error_and_no_loss(data: Path, tmp_path: Path) -> None:
    words = ["--seconds", "60", "--devices", "4", "--gone", "2"]
    with running_server(data) as server, _demo(server, tmp_path / "demo", *words) as demo:
        eventually_now(lambda: demo.answered > 0)
        server.kill()

        status = demo.status()

    first, second = demo.err.splitlines()
    assert 1 == status
    assert first.startswith("fieldpost: these devices of the demo are still there: 1, 2, 3, 4 (")
    assert second == (
        f"fieldpost: The server cannot be reached; nothing was accepted: "
        f"{server.url} went away and did not come back within 2 s"
    )
    assert "lost" not in demo.out


def test_a_device_that_the_server_refuses_from_now_on_is_an_error(server: Server, tmp_path: Path) -> None:
    with _demo(server, tmp_path / "demo", "--seconds", "60", "--devices", "4") as demo:
        eventually_now(lambda: demo.answered > 0)
        disabled = {"disabled": True}
        device = f"{server.url}/admin/devices/{_id_of(server, 'demo truck 1')}"
        assert 200 == httpx.patch(device, json=disabled, headers=server.operator, timeout=30).status_code

        status = demo.status()

    assert 1 == status
    assert re.fullmatch(r"fieldpost: This device is disabled: device \d+\n", demo.err)
    assert [] == _demo_devices(server)


def _id_of(server: Server, name: str) -> int:
    with contextlib.closing(sqlite3.connect(server.data / "fieldpost.db", timeout=30)) as database:
        (row,) = database.execute("SELECT id FROM devices WHERE removed_at IS NULL AND name = ?", (name,))
        return int(row[0])


def _unanswered(server: Server) -> set[str]:
    """Ids of what the ledger holds without a final state; a file's request has none that its device knows."""
    with contextlib.closing(sqlite3.connect(server.data / "fieldpost.db", timeout=30)) as database:
        rows = database.execute("SELECT id FROM requests WHERE state < 2 AND channel <> 'folder'")
        return {str(UUID(bytes=row[0])) for row in rows}


def _forget_everything_asked(server: Server) -> None:
    """What a server does not do: its devices stay, their requests are gone."""
    with contextlib.closing(sqlite3.connect(server.data / "fieldpost.db", timeout=30)) as database, database:
        database.execute("DELETE FROM requests")
        database.execute("DELETE FROM messages")
