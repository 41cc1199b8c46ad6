"""Every command as a person or a script runs it: a process, its output and its exit status."""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from fieldpost.messages.requests import MAX_BODY_BYTES
from tests.support.server import Server, free_port, running_server
from tests.support.waiting import DEADLINE_SECONDS, eventually_now

TOPIC = "Zyrplak"
DOCUMENT = f"# {TOPIC}\n\nThe {TOPIC} valve is closed by hand before the ferry.\n"


class Ran:
    """What became of a command."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.status = process.returncode
        self.out = process.stdout
        self.err = process.stderr

    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "fieldpost", *words]


def _fieldpost(
    server: Server, *words: str, key: str = "", stdin: bytes = b"", more: dict[str, str] | None = None
) -> Ran:
    """Runs a command as it finds this server, and a device's key if one is given."""
    environment = server.environment | ({"FIELDPOST_KEY": key} if key else {}) | (more or {})
    process = subprocess.run(
        _command(*words), input=stdin, capture_output=True, env=environment, timeout=DEADLINE_SECONDS, check=False
    )
    return Ran(subprocess.CompletedProcess(words, process.returncode, process.stdout.decode(), process.stderr.decode()))


def _is_one_line(text: str) -> bool:
    return text.startswith("fieldpost: ") and text.count("\n") == 1 and text.endswith("\n")


@pytest.fixture(scope="module")
def handbook(server: Server) -> None:
    """A document that the library can answer from."""
    (server.data / "knowledge" / "ferry.md").write_text(DOCUMENT)
    _, key = server.add_device()
    ask = {"input": {"prompt": TOPIC}}
    with server.device(key) as device:
        eventually_now(lambda: TOPIC in device.post("/v1/requests", json=ask, headers={"Prefer": "wait=30"}).text)


@pytest.fixture
def key(server: Server) -> str:
    """The key of a device of the test's own."""
    return server.add_device()[1]


def _id_of(key: str) -> str:
    return key.split("_")[1]


# Devices


def test_an_added_device_is_shown_with_its_key_and_a_command_that_works_as_printed(server: Server) -> None:
    ran = _fieldpost(server, "devices", "add", "--kind", "truck", "--name", "Truck 17")

    first, second, _, hint = ran.out.splitlines()
    assert (0, "") == (ran.status, ran.err)
    assert first.startswith("device ")
    assert first.endswith("Truck 17")
    assert second.startswith("key     fp_")
    elsewhere = {name: value for name, value in server.environment.items() if not name.startswith("FIELDPOST_")}
    asked = subprocess.run(
        shlex.split(hint), capture_output=True, env=elsewhere, timeout=DEADLINE_SECONDS, check=False, text=True
    )
    assert (0, "") == (asked.returncode, asked.stderr)
    assert asked.stdout


def test_where_the_shell_does_not_find_it_a_command_names_it_by_its_path(server: Server) -> None:
    program = str(Path(sys.executable).with_name("fieldpost"))
    command = [program, "devices", "add", "--kind", "truck", "--name", "Truck 17"]
    elsewhere = server.environment | {"PATH": "/usr/bin:/bin"}

    added = subprocess.run(command, capture_output=True, env=elsewhere, timeout=DEADLINE_SECONDS, check=True, text=True)

    assert [program, "send"] == shlex.split(added.stdout.splitlines()[-1])[:2]


def test_a_server_is_found_by_options_too(server: Server) -> None:
    elsewhere = {name: value for name, value in server.environment.items() if not name.startswith("FIELDPOST_")}
    words = [
        "devices",
        "add",
        "--kind",
        "office",
        "--name",
        "Desk",
        "--url",
        f"{server.url}/",
        "--data",
        str(server.data),
    ]
    added = subprocess.run(
        _command(*words, "--json"), capture_output=True, env=elsewhere, timeout=DEADLINE_SECONDS, check=True, text=True
    )

    made = json.loads(added.stdout)

    assert "office" == made["device"]["kind"]
    with server.device(made["key"]) as device:
        assert 200 == device.get("/v1/requests").status_code


def test_a_devices_life_in_json(server: Server) -> None:
    def run(*words: str) -> Any:
        return _fieldpost(server, "devices", *words, "--json").json()

    made = run("add", "--kind", "warehouse", "--name", "Süd", "--id", "4711")
    device = made["device"]
    rotated = run("rotate", "4711")

    assert (4711, "warehouse", "Süd", False) == tuple(device[name] for name in ("id", "kind", "name", "disabled"))
    assert device == run("show", "4711") == rotated["device"]
    assert made["key"] != rotated["key"]
    assert device in run("list")
    assert run("disable", "4711")["disabled"]
    assert not run("enable", "4711")["disabled"]
    assert {"removed": 4711} == run("remove", "4711")
    assert device not in run("list")


def test_a_devices_life_in_words(server: Server) -> None:
    def run(*words: str) -> str:
        ran = _fieldpost(server, "devices", *words)
        assert (0, "") == (ran.status, ran.err)
        return ran.out

    run("add", "--kind", "truck", "--name", "Truck 42", "--id", "4242")
    shown = run("show", "4242")

    assert "device  4242   truck      enabled   Truck 42\n" == shown
    assert shown in run("list")
    assert shown.replace("enabled ", "disabled") == run("disable", "4242")
    assert shown == run("enable", "4242")
    assert run("rotate", "4242").startswith(f"{shown}key     fp_4242_")
    assert "device 4242 removed\n" == run("remove", "4242")
    assert "4242" not in run("list")


def test_all_devices_are_listed_over_more_than_one_page(data: Path) -> None:
    with running_server(data) as server:
        assert "No devices yet" in _fieldpost(server, "devices", "list").out
        with httpx.Client(base_url=server.url, headers=server.operator, timeout=30) as operator:
            for number in range(510):
                operator.post("/admin/devices", json={"kind": "truck", "name": f"T{number}"}).raise_for_status()

        listed = _fieldpost(server, "devices", "list", "--json").json()

    assert [f"T{number}" for number in range(510)] == [device["name"] for device in listed]


@pytest.mark.parametrize(
    "words",
    [
        ("show", "999999"),
        ("rotate", "999999"),
        ("disable", "999999"),
        ("enable", "999999"),
        ("remove", "999999"),
    ],
)
def test_a_device_that_is_not_there_is_one_line_and_status_1(server: Server, words: tuple[str, ...]) -> None:
    ran = _fieldpost(server, "devices", *words)

    assert (1, "") == (ran.status, ran.out)
    assert _is_one_line(ran.err)
    assert "999999" in ran.err


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("FIELDPOST_OPERATOR_KEY", "fpa_operator_" + "x" * 43, "valid key"),
        ("FIELDPOST_OPERATOR_KEY", "fpa_operator_ü", "fpa_"),
        ("FIELDPOST_DATA", "/nowhere", "/nowhere/operator.key"),
        ("FIELDPOST_URL", "http://127.0.0.1:1", "fieldpost up"),
        ("FIELDPOST_URL", "localhost", "address"),
        ("FIELDPOST_NONSENSE", "1", "FIELDPOST_NONSENSE"),
    ],
)
def test_what_is_wrong_with_an_operators_command_is_one_line(
    server: Server, setting: str, value: str, told: str
) -> None:
    ran = _fieldpost(server, "devices", "list", more={setting: value})

    assert (1, "") == (ran.status, ran.out)
    assert _is_one_line(ran.err)
    assert told in ran.err


# Asking


def test_what_is_sent_is_answered_to_a_person(server: Server, handbook: None, key: str) -> None:
    ran = _fieldpost(server, "send", f"What about the {TOPIC}?", "--wait", key=key)

    assert (0, "") == (ran.status, ran.err)
    assert f"The {TOPIC} valve is closed by hand before the ferry." in ran.out
    assert f"\nSources:\n  ferry.md, {TOPIC}\n" in ran.out


def test_what_is_sent_is_answered_to_a_program(server: Server, handbook: None, key: str) -> None:
    response = _fieldpost(server, "send", TOPIC, "--wait", "--json", key=key).json()

    assert "succeeded" == response["status"]
    assert {"file": "ferry.md", "heading": TOPIC} in response["output"]["sources"]


def test_what_is_sent_without_waiting_is_told_by_its_id(server: Server, key: str) -> None:
    words = ("send", "Why?", "--idempotency-key", "order-1")
    plain = _fieldpost(server, *words, key=key)
    again = _fieldpost(server, *words, "--json", "--key", key).json()
    other = _fieldpost(server, "send", "Something else?", "--idempotency-key", "order-1", key=key)

    with server.device(key) as device:
        status = device.get(f"/v1/requests/{plain.out.strip()}").json()
    assert plain.out.strip() == again["id"] == status["id"]
    assert (1, "") == (other.status, other.out)
    assert _is_one_line(other.err)


def test_a_file_is_asked(server: Server, handbook: None, key: str, tmp_path: Path) -> None:
    file = tmp_path / "question.txt"
    file.write_text(f"\ufeffWhat about\nthe {TOPIC}?", encoding="utf-8")

    from_file = _fieldpost(server, "send", "--file", str(file), "--wait", key=key)
    from_stdin = _fieldpost(server, "send", "--file", "-", "--wait", key=key, stdin=file.read_bytes())

    assert "by hand" in from_file.out
    assert from_file.out == from_stdin.out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "input.prompt"),
        (b"\xff\xfe", "UTF-8"),
        (b"x" * (MAX_BODY_BYTES + 1), "more than"),
        (b"x" * (MAX_BODY_BYTES - 10), "at most"),
    ],
)
def test_a_file_that_cannot_be_asked_is_one_line(server: Server, key: str, content: bytes, told: str) -> None:
    ran = _fieldpost(server, "send", "--file", "-", key=key, stdin=content)

    assert (1, "") == (ran.status, ran.out)
    assert _is_one_line(ran.err)
    assert told in ran.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--file", "/nowhere/question.txt"), "/nowhere/question.txt"),
        (("Why?", "--model", "nobody"), "nobody"),
        (("Why?", "--deadline", "-1"), "deadline_seconds"),
        (("Why?", "--key", "fp_1_" + "x" * 43), "valid key"),
        (("Why?", "--key", "nonsense"), "fp_<device id>_<secret>"),
        (("Why?", "--url", "http://127.0.0.1:1", "--retry", "0"), "fieldpost up"),
        (("Why?", "--url", "127.0.0.1:5000"), "address"),
    ],
)
def test_what_cannot_be_sent_is_one_line_and_status_1(
    server: Server, key: str, words: tuple[str, ...], told: str
) -> None:
    ran = _fieldpost(server, "send", *words, key=key)

    assert (1, "") == (ran.status, ran.out)
    assert _is_one_line(ran.err)
    assert told in ran.err


def test_without_a_key_it_is_told_where_one_goes(server: Server) -> None:
    for words in (("send", "Why?"), ("listen",)):
        ran = _fieldpost(server, *words)

        assert 1 == ran.status
        assert "FIELDPOST_KEY" in ran.err


@pytest.mark.parametrize("words", [("send",), ("send", "Why?", "--file", "-"), ("send", "--nonsense"), ("listen", "x")])
def test_a_command_used_wrongly_has_status_2(server: Server, key: str, words: tuple[str, ...]) -> None:
    assert 2 == _fieldpost(server, *words, key=key).status


def test_an_answer_that_does_not_come_in_time_is_one_line_with_the_id(data: Path) -> None:
    with running_server(data, settings={"FIELDPOST_MODEL_URL": f"http://127.0.0.1:{free_port()}/v1"}) as server:
        key = server.add_device()[1]

        late = _fieldpost(server, "send", "Why?", "--wait", "--timeout", "0.2", "--idempotency-key", "one", key=key)
        request_id = _fieldpost(server, "send", "Why?", "--idempotency-key", "one", key=key).out.strip()
        expired = _fieldpost(server, "send", "Why?", "--wait", "--deadline", "0.3", key=key)
        in_json = _fieldpost(server, "send", "Why?", "--wait", "--deadline", "0.3", "--json", key=key)

    assert (1, "") == (late.status, late.out)
    assert request_id in late.err
    assert (1, "") == (expired.status, expired.out)
    assert all(_is_one_line(ran.err) for ran in (late, expired, in_json))
    assert "expired" in expired.err
    assert (1, "expired") == (in_json.status, json.loads(in_json.out)["status"])


# Listening


def test_what_was_missed_is_heard_and_not_heard_again(server: Server, handbook: None, key: str) -> None:
    ids = [_fieldpost(server, "send", TOPIC, key=key).out.strip() for _ in range(2)]
    heard = _fieldpost(server, "listen", "--count", "2", "--json", key=key)
    third = _fieldpost(server, "send", TOPIC, key=key).out.strip()
    heard_later = _fieldpost(server, "listen", "--count", "1", key=key)

    lines = [json.loads(line) for line in heard.out.splitlines()]
    assert (0, "") == (heard.status, heard.err)
    assert sorted(ids) == sorted(line["request_id"] for line in lines)
    assert heard_later.out.startswith(f"{third}  succeeded  ")
    assert f"  ferry.md, {TOPIC}\n" in heard_later.out


def test_listening_goes_on_over_a_restart_and_ctrl_c_ends_it_in_order(data: Path, tmp_path: Path) -> None:
    said, complained = tmp_path / "said", tmp_path / "complained"
    with running_server(data) as server, said.open("wb") as out, complained.open("wb") as err:
        key = server.add_device()[1]
        listening = subprocess.Popen(
            _command("listen", "--json"), stdout=out, stderr=err, env=server.environment | {"FIELDPOST_KEY": key}
        )
        try:
            first = _fieldpost(server, "send", "Why?", key=key).out.strip()
            eventually_now(lambda: first in said.read_text())
            server.kill()
            eventually_now(lambda: "Trying again." in complained.read_text())
            server.start()
            second = _fieldpost(server, "send", "Why?", key=key).out.strip()
            eventually_now(lambda: second in said.read_text())
            listening.send_signal(signal.SIGINT)
            status = listening.wait(DEADLINE_SECONDS)
        finally:
            listening.kill()
            listening.wait(DEADLINE_SECONDS)

    assert 0 == status
    assert [first, second] == [json.loads(line)["request_id"] for line in said.read_text().splitlines()]
    assert "Traceback" not in complained.read_text()


def test_listening_with_a_wrong_key_ends_with_one_line(server: Server) -> None:
    ran = _fieldpost(server, "listen", key="fp_1_" + "x" * 43)

    assert (1, "") == (ran.status, ran.out)
    assert _is_one_line(ran.err)


# Broadcasts


def test_what_an_operator_tells_is_printed_by_who_listens(server: Server, key: str, tmp_path: Path) -> None:
    said, as_json = tmp_path / "said", tmp_path / "json"
    keys = (key, server.add_device()[1])
    listening = []
    try:
        for own, words, path in zip(keys, ((), ("--json",)), (said, as_json), strict=True):
            with path.open("wb") as out:
                command = _command("listen", "--count", "2", *words)
                listening.append(subprocess.Popen(command, stdout=out, env=server.environment | {"FIELDPOST_KEY": own}))
            first = _fieldpost(server, "send", "Why?", key=own).out.strip()
            eventually_now(lambda: first in path.read_text())  # noqa: B023 called at once
        devices = [word for own in keys for word in ("--device", _id_of(own))]
        told = _fieldpost(server, "broadcast", "Snow on the pass.", "--kind", "truck", *devices)
        others = [
            _fieldpost(server, "broadcast", "For others.", "--kind", "office", "--json"),
            _fieldpost(server, "broadcast", "For others.", "--device", "1000001", "--device", "1000002"),
        ]
        for own in keys:
            _fieldpost(server, "send", "And why?", key=own)
        statuses = [process.wait(DEADLINE_SECONDS) for process in listening]
    finally:
        for process in listening:
            process.kill()
            process.wait(DEADLINE_SECONDS)

    broadcast_id = told.out.strip()
    assert [0, 0, 0] == [told.status, *statuses]
    assert {"id"} == set(others[0].json())
    assert 0 == others[1].status
    assert f"{broadcast_id}  broadcast\nSnow on the pass.\n\n" in said.read_text()
    told_lines = [json.loads(line) for line in as_json.read_text().splitlines() if broadcast_id in line]
    assert [{"broadcast_id": broadcast_id, "text": "Snow on the pass."}] == told_lines
    assert "For others." not in said.read_text() + as_json.read_text()


def test_a_broadcast_that_is_none_is_refused_with_one_line(server: Server) -> None:
    ran = _fieldpost(server, "broadcast", " ")

    assert (1, "") == (ran.status, ran.out)
    assert _is_one_line(ran.err)
    assert "text" in ran.err


def test_a_broadcast_that_cannot_be_printed_ends_the_listening(server: Server, key: str) -> None:
    with Path("/dev/full").open("wb") as full:
        listening = subprocess.Popen(
            _command("listen"),
            stdout=full,
            stderr=subprocess.PIPE,
            env=server.environment | {"FIELDPOST_KEY": key},
            text=True,
        )
    try:

        def has_ended() -> bool:
            _fieldpost(server, "broadcast", "Snow.", "--device", _id_of(key))
            return listening.poll() is not None

        eventually_now(has_ended)
        _, errors = listening.communicate(timeout=DEADLINE_SECONDS)
    finally:
        listening.kill()
        listening.wait(DEADLINE_SECONDS)

    assert 1 == listening.returncode
    assert _is_one_line(errors)
    assert "No space left on device" in errors


# An output that takes nothing


def _into_a_full_device(server: Server, key: str, *words: str) -> tuple[int, str]:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            _command(*words),
            stdout=full,
            stderr=subprocess.PIPE,
            env=server.environment | {"FIELDPOST_KEY": key},
            timeout=DEADLINE_SECONDS,
            check=False,
        )
    return ran.returncode, ran.stderr.decode()


@pytest.mark.parametrize("words", [("version",), ("config",), ("devices", "list"), ("--help",)])
def test_an_output_that_cannot_be_written_is_one_line_and_status_1(
    server: Server, key: str, words: tuple[str, ...]
) -> None:
    status, errors = _into_a_full_device(server, key, *words)

    assert 1 == status
    assert _is_one_line(errors)
    assert "No space left on device" in errors


@pytest.mark.parametrize("more", [(), ("--wait",), ("--wait", "--json")])
def test_a_request_whose_id_cannot_be_printed_is_named_on_standard_error(
    server: Server, key: str, more: tuple[str, ...]
) -> None:
    status, errors = _into_a_full_device(server, key, "send", TOPIC, "--idempotency-key", "one", *more)
    request_id = _fieldpost(server, "send", TOPIC, "--idempotency-key", "one", key=key).out.strip()

    assert 1 == status
    assert _is_one_line(errors)
    assert request_id in errors


@pytest.mark.parametrize("words", [("listen", "--count", "1"), ("send", TOPIC, "--idempotency-key", "one", "--wait")])
def test_an_answer_that_cannot_be_printed_is_not_acknowledged(server: Server, key: str, words: tuple[str, ...]) -> None:
    request_id = _fieldpost(server, "send", TOPIC, "--idempotency-key", "one", key=key).out.strip()

    status, errors = _into_a_full_device(server, key, *words)

    assert 1 == status
    assert _is_one_line(errors)
    assert request_id in _fieldpost(server, "listen", "--count", "1", key=key).out


def test_a_device_whose_key_cannot_be_printed_can_get_another(server: Server, key: str) -> None:
    status, errors = _into_a_full_device(server, key, "devices", "add", "--kind", "truck", "--name", "Lost")

    assert 1 == status
    assert _is_one_line(errors)
    rotate = shlex.split(errors.strip())[-3:]
    assert ["devices", "rotate"] == rotate[:2]
    assert "Lost" in _fieldpost(server, *rotate).out


# The rest


def test_settings_in_force_are_shown_without_secrets(server: Server, key: str) -> None:
    ran = _fieldpost(
        server,
        "config",
        key=key,
        more={
            "FIELDPOST_OPERATOR_KEY": "fpa_operator_secret",
            "FIELDPOST_PORT": "5055",
            "FIELDPOST_BROKER_URL": "amqp://me:p@ss1@a:1,b:2/",
        },
    )

    assert 0 == ran.status
    assert "[server]\n" in ran.out
    assert "port = 5055\n" in ran.out
    assert f'url = "{server.url}"\n' in ran.out
    assert 'url = "amqp://me:********@a:1,b:2/"\n' in ran.out
    assert key not in ran.out
    assert "fpa_operator_secret" not in ran.out


def test_the_version_is_shown(server: Server) -> None:
    ran = _fieldpost(server, "version")

    assert 0 == ran.status
    assert ran.out[0].isdigit()


@pytest.mark.parametrize(
    "command", [(), ("send",), ("listen",), ("broadcast",), ("devices",), ("devices", "add"), ("up",), ("config",)]
)
def test_every_command_explains_itself(server: Server, command: tuple[str, ...]) -> None:
    ran = _fieldpost(server, *command, "--help")

    assert (0, "") == (ran.status, ran.err)
    assert "Usage: " in ran.out


def test_help_loads_no_vendor() -> None:
    program = (
        "import sys\n"
        "sys.argv = ['fieldpost', '--help']\n"
        "from fieldpost.cli.app import app\n"
        "app(standalone_mode=False)\n"
        "print(sorted({'httpx', 'websockets', 'msgspec', 'uvicorn', 'sqlalchemy'} & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert "[]" == ran.stdout.splitlines()[-1]
