"""A process has one name: whoever finds it with a claim finds the process in the registry and in the logs."""

import socket
import sqlite3
from pathlib import Path

from tests.support.server import running_server
from tests.support.slow_model import SlowModel


def test_a_claim_is_held_under_the_name_of_the_process(tmp_path: Path) -> None:
    with SlowModel() as model, running_server(tmp_path, settings=model.settings(drain_seconds=0.1)) as server:
        _, key = server.add_device()
        with server.device(key) as device:
            assert (
                202 == device.post("/v1/requests", json={"input": {"prompt": "Hold on"}, "model": "slow"}).status_code
            )
        assert model.asked.wait(30)

        with sqlite3.connect(tmp_path / "fieldpost.db") as database:
            holders = database.execute("SELECT holder FROM requests WHERE state = 1").fetchall()

        assert [(f"fieldpost-{socket.gethostname()}-{server.pid}",)] == holders
