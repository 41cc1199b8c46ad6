"""Set-up: `fieldpost up` makes what it needs, says where it is, refuses what cannot be, drains, and comes back."""

import contextlib
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.server import Server, free_port, running_server
from tests.support.slow_model import SlowModel
from tests.support.waiting import eventually_now

ECHO = {"FIELDPOST_MODEL_URL": "echo:", "FIELDPOST_MODEL_NAME": "echo"}
#: Everything that only a server, or a command that speaks to one, needs.
HEAVY = ("httpx", "sqlalchemy", "openai", "uvicorn", "starlette", "uvloop", "alembic", "pypdf", "watchfiles")


def _environment(changes: dict[str, str] | None = None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FIELDPOST_")}
    return inherited | (changes or {})


def _fieldpost(*arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> tuple[int, str, str]:
    """A command that ends by itself: status, output, errors."""
    done = subprocess.run(
        [sys.executable, "-m", "fieldpost", *arguments],
        capture_output=True,
        text=True,
        env=_environment(env),
        cwd=cwd,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@contextlib.contextmanager
def _up(
    *arguments: str, cwd: Path, env: dict[str, str] | None = None, log: str = os.devnull
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`fieldpost up` in a directory, once it has said that it is up: the process, and what it said."""
    with (
        open(log, "w") as errors,  # noqa: PTH123
        subprocess.Popen(
            [str(Path(sys.executable).with_name("fieldpost")), "up", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=_environment(env),
            cwd=cwd,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line)
                if "Ctrl-C" in line:
                    break
            yield process, "".join(lines)
        finally:
            process.kill()


def _address(said: str) -> str:
    found = re.search(r"(http://\S+)/v1/requests", said)
    assert found, said
    return found[1]


def test_it_says_where_everything_is_and_keeps_it_in_one_directory(tmp_path: Path) -> None:
    with _up("--port", "0", cwd=tmp_path) as (_, said):
        url = _address(said)
        page = re.search(r"page\s+(\S+)\s+\(key: (\S+)\)", said)

        assert 200 == httpx.get(f"{url}/ready").status_code
        assert page
        assert 200 == httpx.get(page[1]).status_code
        assert "fieldpost-data/operator.key" == page[2]
        assert (tmp_path / "fieldpost-data" / "operator.key").read_text().strip() not in said
        assert f"{url.replace('http', 'ws')}/v1/stream" in said
        assert "fieldpost-data/Cloud/Requests/<device id>/" in said
        assert "fieldpost-data/knowledge/" in said
        made = tmp_path / "fieldpost-data"
        assert all((made / name).is_dir() for name in ("Cloud/Requests", "Cloud/Responses", "knowledge"))
        assert (made / "fieldpost.db").is_file()
        assert all(0o600 == path.stat().st_mode & 0o777 for path in made.glob("fieldpost.db*"))
        assert [made] == list(tmp_path.iterdir())


def test_a_person_at_a_terminal_gets_the_page_with_the_operators_key(tmp_path: Path) -> None:
    with _at_a_terminal(tmp_path) as terminal:
        said = b""
        while b"Ctrl-C" not in said:
            said += os.read(terminal, 4096)

    key = (tmp_path / "fieldpost-data" / "operator.key").read_text().strip()
    assert f"/#key={key}\r\n".encode() in said


@contextlib.contextmanager
def _at_a_terminal(directory: Path) -> Iterator[int]:
    """`fieldpost up` whose output is a terminal: where that terminal is read."""
    terminal, output = pty.openpty()
    command = [sys.executable, "-m", "fieldpost", "up", "--port", "0"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL, env=_environment(), cwd=directory
    )
    os.close(output)
    try:
        yield terminal
    finally:
        process.kill()
        process.wait(60)
        os.close(terminal)


def test_serving_goes_on_where_the_greeting_cannot_be_written(tmp_path: Path) -> None:
    port = free_port()
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "fieldpost", "up", "--port", str(port)],
            stdout=full,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            cwd=tmp_path,
        )
    try:
        eventually_now(lambda: _is_ready(port))
    finally:
        process.kill()
        process.wait(60)


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_the_command_to_try_next_works_as_it_was_printed(tmp_path: Path) -> None:
    # given a data directory whose name the shell would take apart
    with _up("--port", "0", "--data", "my data", cwd=tmp_path) as (_, said):
        command = said.partition("Try next, in another terminal:\n")[2].splitlines()[0].strip()

        done = subprocess.run(
            ["sh", "-c", command],
            capture_output=True,
            text=True,
            env=_environment(),
            cwd=tmp_path,
            timeout=60,
            check=False,
        )

        assert 0 == done.returncode, done.stderr
        assert "Truck 17" in done.stdout
        assert re.search(r"fp_1_\S+", done.stdout)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0.0.0.0"])
def test_it_listens_where_it_is_told_to(tmp_path: Path, host: str) -> None:
    port = free_port()
    with _up("--host", host, "--port", str(port), "--data", str(tmp_path / "x"), cwd=tmp_path) as (_, said):
        assert _address(said).endswith(f":{port}")
        assert 200 == httpx.get(f"{_address(said)}/health").status_code


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    # given a log on a full disk, and a document that is told of in it
    env = {**ECHO, "FIELDPOST_LOG_LEVEL": "debug"}
    with _up("--port", "0", cwd=tmp_path, env=env, log="/dev/full") as (process, said):
        key = (tmp_path / "fieldpost-data" / "operator.key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=_address(said), headers=headers, timeout=30) as operator:
            made = operator.post("/admin/devices", json={"kind": "truck", "name": "x"}).json()
        with httpx.Client(base_url=_address(said), headers={"Authorization": f"Bearer {made['key']}"}) as device:
            request_id = device.post("/v1/requests", json={"input": {"prompt": "a question"}}).json()["id"]
            eventually_now(partial(_is_answered, device, request_id))

        process.terminate()

        assert 0 == process.wait(60)


def test_what_is_kept_can_be_read_by_its_owner_only(server: Server) -> None:
    modes = {name: stat.S_IMODE((server.data / name).stat().st_mode) for name in (".", "operator.key", "pepper.key")}

    assert {".": 0o700, "operator.key": 0o600, "pepper.key": 0o600} == modes


def test_a_first_start_that_was_killed_half_way_is_made_up_for(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / ".knowledge.new").mkdir(parents=True)
    for name in ("operator.new", "pepper.new"):
        (data / name).write_text("")

    with running_server(data) as server:
        _, key = server.add_device()
        with server.device(key) as device:
            assert 202 == device.post("/v1/requests", json={"input": {"prompt": "tyre tread depth"}}).status_code

    assert {"knowledge", "operator.key", "pepper.key"} <= {path.name for path in data.iterdir()}
    assert len(list((data / "knowledge").glob("*.md"))) >= 5


def test_a_lost_pepper_is_not_made_anew_once_there_are_devices(data: Path) -> None:
    with running_server(data) as server:
        _, key = server.add_device()
        server.stop()
    pepper = (data / "pepper.key").read_text()
    refused = {}
    for name, content in (("missing", None), ("garbled", "not hexadecimal\n")):
        (data / "pepper.key").unlink(missing_ok=True)
        if content is not None:
            (data / "pepper.key").write_text(content)
        refused[name] = _fieldpost("up", "--data", str(data), "--port", "0")
        assert content is not None or not (data / "pepper.key").exists()
    (data / "pepper.key").write_text(pepper)

    for status, output, errors in refused.values():
        assert (1, "") == (status, output)
        assert 1 == len(errors.splitlines())
        assert "pepper.key" in errors
        assert "backup" in errors
    with running_server(data) as server, server.device(key) as device:
        assert 200 == device.get("/v1/requests").status_code


def test_another_pepper_is_refused_until_it_is_accepted_and_then_keys_are_rotated(data: Path) -> None:
    with running_server(data) as server:
        device_id, old = server.add_device()
        server.stop()
    (data / "pepper.key").unlink()

    (data / "pepper.key").write_text(f"{'ab' * 32}\n")
    status, output, errors = _fieldpost("up", "--data", str(data), "--port", "0")
    (data / "pepper.key").unlink()
    accepted = _fieldpost("db", "accept-pepper", "--data", str(data))

    assert (1, "") == (status, output)
    assert 1 == len(errors.splitlines())
    assert "copy it from another machine" in errors
    assert "accept-pepper" in errors
    assert 0 == accepted[0]
    with running_server(data) as server:
        with httpx.Client(base_url=server.url, headers=server.operator, timeout=30) as operator:
            new = operator.post(f"/admin/devices/{device_id}/rotate").json()["key"]
        with server.device(old) as device:
            assert 401 == device.get("/v1/requests").status_code
        with server.device(new) as device:
            assert 200 == device.get("/v1/requests").status_code


def test_a_data_directory_in_use_is_refused(server: Server) -> None:
    status, output, errors = _fieldpost("up", "--data", str(server.data), "--port", "0")

    assert (1, "") == (status, output)
    assert "Another Fieldpost process is using this data directory" in errors
    assert str(server.data) in errors
    assert f"pid {server.pid}" in errors
    assert 1 == len(errors.splitlines())
    assert 200 == httpx.get(f"{server.url}/ready").status_code


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        status, output, errors = _fieldpost("up", "--data", str(tmp_path / "data"), "--port", str(port))

    assert (1, "") == (status, output)
    assert f"fieldpost: Another process already listens on this port: 127.0.0.1:{port}" in errors
    assert 1 == len(errors.splitlines())
    assert not (tmp_path / "data").exists()


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    status, _, errors = _fieldpost("up", "--data", str(tmp_path / "file" / "data"), "--port", "0")

    assert 1 == status
    assert "cannot be used" in errors
    assert "Traceback" not in errors


def test_a_database_that_is_none_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "fieldpost.db").write_bytes(b"not a database, but somebody's only copy of something" * 100)

    status, _, errors = _fieldpost("up", "--data", str(tmp_path / "data"), "--port", "0")

    assert 1 == status
    assert "Traceback" not in errors
    assert (tmp_path / "data" / "fieldpost.db").read_bytes().startswith(b"not a database")


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"FIELDPOST_SERVER_PROT": "1"}, "FIELDPOST_SERVER_PROT"),
        ({"FIELDPOST_PORT": "many"}, "server.port"),
        ({"FIELDPOST_WORKER_CONCURRENCY": "0"}, "worker.concurrency"),
        ({"FIELDPOST_CONFIG": "nowhere.toml"}, "nowhere.toml"),
    ],
)
def test_a_wrong_setting_in_the_environment_is_refused_by_name(tmp_path: Path, env: dict[str, str], named: str) -> None:
    status, _, errors = _fieldpost("up", "--data", "data", env=env, cwd=tmp_path)

    assert 1 == status
    assert named in errors
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[server]\nprot = 1\n", "prot"),
        ("[sever]\nport = 1\n", "sever"),
        ("[server]\nport = 'many'\n", "server.port"),
        ("[server\n", "line 1"),
    ],
)
def test_a_wrong_setting_in_the_file_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "fieldpost.toml").write_text(text)

    status, _, errors = _fieldpost("up", "--data", "data", cwd=tmp_path)

    assert 1 == status
    assert named in errors
    assert "fieldpost.toml" in errors
    assert not (tmp_path / "data").exists()


def test_help_loads_nothing_that_only_a_server_needs() -> None:
    status, output, errors = _fieldpost("--help", env={"PYTHONPROFILEIMPORTTIME": "1"})

    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in errors.splitlines()}
    assert 0 == status
    assert "up" in output
    assert "typer" in loaded
    assert not loaded.intersection(HEAVY)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_and_what_was_accepted_is_answered_afterwards(
    data: Path, number: signal.Signals
) -> None:
    with running_server(data, settings=ECHO) as server:
        _, key = server.add_device()
        with server.device(key) as device:
            accepted = [
                device.post("/v1/requests", json={"input": {"prompt": f"question {number}"}}).json()["id"]
                for number in range(50)
            ]

        assert 0 == server.stop(number)
        assert "stopped" in server.log()
        assert "Traceback" not in server.log()
        server.start()

        with server.device(key) as device:
            for request_id in accepted:
                eventually_now(partial(_is_answered, device, request_id))


def test_a_signal_waits_for_an_answer_that_is_under_way(data: Path) -> None:
    with SlowModel() as model, running_server(data, settings=model.settings(drain_seconds=30)) as server:
        _, key = server.add_device()
        with server.device(key) as device:
            request_id = device.post("/v1/requests", json={"input": {"prompt": "a question"}}).json()["id"]
            model.asked.wait(30)
            os.kill(server.pid, signal.SIGTERM)
            # New work is refused by then.
            eventually_now(lambda: "draining" in server.log())
            model.answer.set()

            assert 0 == server.wait()
            server.start()
            assert _is_answered(device, request_id)
            assert 1 == device.get(f"/v1/requests/{request_id}").json()["attempts"]


def test_a_signal_hands_back_what_takes_too_long(data: Path) -> None:
    with SlowModel() as model, running_server(data, settings=model.settings(drain_seconds=0.5)) as server:
        _, key = server.add_device()
        with server.device(key) as device:
            request_id = device.post("/v1/requests", json={"input": {"prompt": "a question"}}).json()["id"]
            model.asked.wait(30)

            assert 0 == server.stop()
            model.answer.set()
            server.start()

            eventually_now(partial(_is_answered, device, request_id))
            assert 2 == device.get(f"/v1/requests/{request_id}").json()["attempts"]


def _is_answered(device: httpx.Client, request_id: str) -> bool:
    return bool(device.get(f"/v1/requests/{request_id}").json()["status"] == "succeeded")


def test_devices_keys_and_requests_are_there_after_a_restart(data: Path) -> None:
    with running_server(data, settings=ECHO) as server:
        device_id, key = server.add_device(name="Truck 17")
        operator_key = server.operator_key
        with server.device(key) as device:
            request_id = device.post("/v1/requests", json={"input": {"prompt": "a question"}}).json()["id"]
            eventually_now(partial(_is_answered, device, request_id))
            before = device.get(f"/v1/requests/{request_id}").json()
        assert 0 == server.stop()

        server.start()

        shown = httpx.get(
            f"{server.url}/admin/devices/{device_id}", headers={"Authorization": f"Bearer {operator_key}"}
        )
        with server.device(key) as device:
            after = device.get(f"/v1/requests/{request_id}").json()
    assert "Truck 17" == shown.json()["name"]
    assert before == after
    assert operator_key == server.operator_key
