"""A disk that is really full: refused and said so, still running, nothing accepted lost, and accepting again afterwards."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.server import Server, running_server
from tests.support.waiting import eventually_now

DISK = "16m"
ECHO = {"FIELDPOST_MODEL_URL": "echo:", "FIELDPOST_MODEL_NAME": "echo"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(mounted)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"a disk can only be mounted by root: {made.stderr.strip()}")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def _fill(disk: Path) -> Path:
    """Takes all the room there is, to the last byte."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x")
    assert 0 == os.statvfs(disk).f_bavail
    return ballast


def _post(device: httpx.Client, number: int, size: int = 2_000) -> httpx.Response:
    return device.post("/v1/requests", json={"input": {"prompt": f"{number} ".ljust(size, "x")}})


def _until_refused(device: httpx.Client, accepted: dict[str, int]) -> httpx.Response:
    """Posts until something other than `202` comes; what was accepted is written down."""
    for number in range(len(accepted), 50_000):
        answer = _post(device, number)
        if answer.status_code != 202:
            return answer
        accepted[answer.json()["id"]] = number
    raise AssertionError("a full disk took 100 MB")


def _is_answered(device: httpx.Client, request_id: str) -> bool:
    status = device.get(f"/v1/requests/{request_id}").json()
    assert status["status"] in {"queued", "processing", "succeeded"}, status
    return bool(status["status"] == "succeeded")


def _check_all(device: httpx.Client, accepted: dict[str, int]) -> None:
    """Every accepted request has its own answer."""
    for request_id, number in accepted.items():
        eventually_now(partial(_is_answered, device, request_id), seconds=60)
        answer = device.get(f"/v1/requests/{request_id}").json()["response"]["output"]["text"]
        assert f"{number} ".ljust(2_000, "x") == answer


def _accepts(device: httpx.Client, accepted: dict[str, int]) -> bool:
    answer = _post(device, len(accepted))
    if answer.status_code == 202:
        accepted[answer.json()["id"]] = len(accepted)
        return True
    assert 507 == answer.status_code, answer.text
    return False


def _degraded(server: Server) -> list[str]:
    """What `/ready` says of it: what needs no room is served, so that it stays where it is."""
    answer = httpx.get(f"{server.url}/ready")
    assert 200 == answer.status_code
    return list(answer.json().get("degraded", ()))


def _still_works(server: Server, device: httpx.Client, earlier: str) -> None:
    """What needs no room goes on."""
    assert 200 == httpx.get(f"{server.url}/health").status_code
    assert 200 == device.get("/v1/requests").status_code
    assert earlier == device.get(f"/v1/requests/{earlier}").json()["id"]
    assert 200 == httpx.get(f"{server.url}/admin/devices", headers=server.operator).status_code


@pytest.mark.timeout(240)
def test_a_full_disk_refuses_and_says_so_and_accepts_again_when_there_is_room(disk: Path) -> None:
    with running_server(disk, settings=ECHO) as server:
        _, key = server.add_device()
        accepted: dict[str, int] = {}
        with server.device(key) as device:
            assert _accepts(device, accepted)
            earlier = next(iter(accepted))
            eventually_now(partial(_is_answered, device, earlier))
            pid = server.pid

            for _ in range(3):
                ballast = _fill(disk)
                refused = _until_refused(device, accepted)

                assert (507, "application/problem+json") == (refused.status_code, refused.headers["content-type"])
                assert int(refused.headers["retry-after"]) >= 1
                assert refused.json()["type"].endswith("storage-full")
                assert "intake: The disk is full" in _degraded(server)
                _still_works(server, device, earlier)
                operator = httpx.post(
                    f"{server.url}/admin/devices", json={"kind": "truck", "name": "x" * 200}, headers=server.operator
                )
                assert operator.status_code in {201, 507}

                ballast.unlink()
                eventually_now(partial(_accepts, device, accepted))
            assert pid == server.pid
            eventually_now(lambda: not _degraded(server), seconds=60)

            _check_all(device, accepted)
            assert 0 == server.stop()


@pytest.mark.timeout(240)
def test_what_was_accepted_before_the_disk_was_full_survives_a_kill_while_it_is(disk: Path) -> None:
    # given a disk that has the log on it too
    with running_server(disk / "data", settings=ECHO) as server:
        _, key = server.add_device()
        accepted: dict[str, int] = {}
        with server.device(key) as device:
            ballast = _fill(disk)
            assert 507 == _until_refused(device, accepted).status_code

            server.kill()
            ballast.unlink()
            server.start()

            _check_all(device, accepted)
            assert _accepts(device, accepted)
            _check_all(device, accepted)


@pytest.mark.timeout(240)
def test_a_file_dropped_on_a_full_disk_is_taken_when_there_is_room(disk: Path) -> None:
    with running_server(disk, settings=ECHO) as server:
        device_id, key = server.add_device()
        requests = server.cloud / "Requests" / str(device_id)
        answers = server.cloud / "Responses" / str(device_id)
        requests.mkdir(parents=True, exist_ok=True)
        # A file that was there before the disk was full, moved in when it is: a rename needs no room.
        waiting = disk / "question.txt"
        waiting.write_text("a question from a folder")
        ballast = _fill(disk)
        with server.device(key) as device:
            assert 507 == _until_refused(device, {}).status_code
        waiting.rename(requests / "question.txt")
        eventually_now(lambda: "storage" in server.log().lower() or "StorageFullError" in server.log())

        ballast.unlink()

        eventually_now(lambda: any(answers.glob("question.txt*")), seconds=60)
        assert "a question from a folder" in next(answers.glob("question.txt*")).read_text()
