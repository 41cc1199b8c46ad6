"""The one pepper of machines that share a PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fieldpost.cli import db
from fieldpost.clock import SystemClock
from fieldpost.errors import ConfigError
from fieldpost.ports.devices import DeviceDirectory
from fieldpost.settings import load
from fieldpost.wiring import databases, keys
from tests.support import engines


def test_a_new_pepper_is_accepted_for_all_machines(
    postgresql: engines.PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.make_database()
    (tmp_path / "fieldpost.toml").write_text(
        f'[[database.shards]]\nname = "shard2"\nfirst = 1000\nurl = "postgresql://nobody@127.0.0.1:1/none"\n'
        f'[[database.shards]]\nname = "shard1"\nfirst = 1\nlast = 999\nurl = "{url}"\n'
    )
    monkeypatch.chdir(tmp_path)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    _with_devices(lambda devices: _start(tmp_path / "one", devices))
    with pytest.raises(ConfigError, match="is missing"):
        _with_devices(lambda devices: _start(tmp_path / "other", devices))

    db.accept_pepper(data=str(tmp_path / "other"))

    _with_devices(lambda devices: _start(tmp_path / "other", devices))
    with pytest.raises(ConfigError, match="not the one"):
        _with_devices(lambda devices: _start(tmp_path / "one", devices))
    postgresql.drop_database(url)


async def _start(directory: Path, devices: DeviceDirectory) -> None:
    await keys.check_pepper(directory, await keys.pepper(directory, devices), devices)


def _with_devices(use: Callable[[DeviceDirectory], Awaitable[None]]) -> None:
    async def run() -> None:
        async with databases.open_directory(load(), SystemClock()) as devices:
            await use(devices)

    asyncio.run(run())
