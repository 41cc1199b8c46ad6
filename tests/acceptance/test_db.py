"""A data directory is copied while it is in use, and lives on as the copy."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from tests.support.server import Server, running_server
from tests.support.waiting import eventually_now

ASK = {"input": {"prompt": "tyre tread depth"}}


def _backup(server: Server, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fieldpost", "db", "backup", str(target)],
        capture_output=True,
        text=True,
        env=server.environment,
        timeout=60,
        check=False,
    )


def _ask(device: httpx.Client) -> str:
    asked = device.post("/v1/requests", json=ASK)
    assert asked.status_code == 202, asked.text
    request_id: str = asked.json()["id"]
    return request_id


def test_a_copy_made_under_load_has_every_request_accepted_before_it_and_every_key(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copies" / "first"
    with running_server(data) as server:
        device_id, key = server.add_device()
        with server.device(key) as device:
            before = [_ask(device) for _ in range(20)]
        (server.cloud / "Responses" / str(device_id)).mkdir(exist_ok=True)
        (server.cloud / "Responses" / str(device_id) / "kept.answer.json").write_text("{}")
        is_over = threading.Event()
        loading = threading.Thread(target=_load, args=(server, key, is_over))
        loading.start()
        try:
            done = _backup(server, copy)
        finally:
            is_over.set()
            loading.join(60)
    assert (0, f"{copy}\n", "") == (done.returncode, done.stdout, done.stderr)
    assert 0o700 == stat.S_IMODE(copy.stat().st_mode)
    assert [copy] == list(copy.parent.iterdir())
    assert (copy / "Cloud" / "Responses" / str(device_id) / "kept.answer.json").is_file()

    with running_server(copy) as restored, restored.device(key) as device:

        def are_answered() -> bool:
            return all(device.get(f"/v1/requests/{one}").json().get("status") == "succeeded" for one in before)

        eventually_now(are_answered)


def _load(server: Server, key: str, is_over: threading.Event) -> None:
    with server.device(key) as device:
        while not is_over.is_set():
            _ask(device)


def test_a_backup_has_files_and_links_and_says_what_it_left_out(server: Server, tmp_path: Path) -> None:
    rejected = server.cloud / "Rejected" / "1"
    rejected.mkdir(parents=True)
    os.mkfifo(rejected / "pipe.txt")
    (rejected / "link.txt").symlink_to("nowhere")
    (rejected / "folder").symlink_to(tmp_path)
    (rejected / "kept.txt").write_text("kept")

    done = _backup(server, tmp_path / "copy")

    assert (0, f"{tmp_path / 'copy'}\n") == (done.returncode, done.stdout)
    assert f"left out, neither a file nor a link: '{rejected / 'pipe.txt'}'\n" == done.stderr
    copied = tmp_path / "copy" / "Cloud" / "Rejected" / "1"
    assert {"folder", "kept.txt", "link.txt"} == {entry.name for entry in copied.iterdir()}
    assert (copied / "link.txt").is_symlink()


def test_a_backup_is_written_over_nothing_and_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()

    refused = _backup(server, there)

    assert 1 == refused.returncode
    assert "is there already" in refused.stderr
    assert 1 == len(refused.stderr.splitlines())
    assert [] == list(there.iterdir())

    (server.data / "pepper.key").rename(server.data / "elsewhere")
    failed = _backup(server, tmp_path / "copy")
    (server.data / "elsewhere").rename(server.data / "pepper.key")

    assert 1 == failed.returncode
    assert failed.stderr.startswith("fieldpost: The data directory cannot be copied: ")
    assert "pepper.key" in failed.stderr
    assert [there] == list(tmp_path.iterdir())
