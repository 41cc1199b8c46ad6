"""Schemathesis holds the server to its own OpenAPI document, with all its checks."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Server, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "FIELDPOST_MODEL_URL": "echo:",
        "FIELDPOST_MODEL_NAME": "echo",
        "FIELDPOST_SERVER_MAX_WAIT_SECONDS": "1",
    }
    with running_server(tmp_path_factory.mktemp("server") / "data", settings=settings) as running:
        yield running


#: What violates the schema may be too large as well, and then that is said.
_REFUSED_AS_TOO_LARGE = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]
"""


def _hold(server: Server, directory: Path, key: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--checks=all"]
    options = [
        "--max-examples=30",
        "--generation-deterministic",
        "--no-color",
        "--request-timeout=30",
    ]
    header = ["--header", f"Authorization: Bearer {key}"]
    (directory / "schemathesis.toml").write_text(_REFUSED_AS_TOO_LARGE)
    done = subprocess.run(
        [*command, *options, *header, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_devices_calls_do_what_is_described(server: Server, tmp_path: Path) -> None:
    # Deleting a request cancels it: it is meant to be there afterwards. The stream has no end, and its own tests.
    options = ("--exclude-tag=operators", "--exclude-checks=use_after_free", "--exclude-path=/v1/stream")
    _hold(server, tmp_path, server.add_device()[1], *options)


def test_operators_calls_do_what_is_described(server: Server, tmp_path: Path) -> None:
    _hold(server, tmp_path, server.operator_key, "--include-tag=operators")
