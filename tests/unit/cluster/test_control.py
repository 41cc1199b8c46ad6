import asyncio
from pathlib import Path

import pytest

from fieldpost.cluster.control import Command, Reply, ask, serving
from fieldpost.errors import ConfigError, FieldpostError, UnreachableError


async def _repeat(command: Command) -> Reply:
    if command.verb == "fail":
        raise ConfigError("there is no such part")
    return Reply(message=f"{command.verb} {command.part}")


async def test_a_command_is_answered(tmp_path: Path) -> None:
    async with serving(tmp_path, _repeat):
        reply = await ask(tmp_path, Command(verb="kill", part="redis-1"), seconds=10)

        assert reply.message == "kill redis-1"
        assert (tmp_path / "control.sock").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "control.sock").exists()


async def test_what_is_wrong_with_a_command_comes_back(tmp_path: Path) -> None:
    async with serving(tmp_path, _repeat):
        with pytest.raises(FieldpostError, match="there is no such part"):
            await ask(tmp_path, Command(verb="fail"), seconds=10)


async def test_a_directory_may_have_a_long_name(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()

    async with serving(directory, _repeat):
        assert (await ask(directory, Command(verb="status"), seconds=10)).message == "status "


async def test_without_a_cluster_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="no cluster runs on"):
        await ask(tmp_path, Command(verb="status"), seconds=10)


async def test_a_socket_that_a_killed_cluster_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "control.sock").touch()

    async with serving(tmp_path, _repeat):
        assert (await ask(tmp_path, Command(verb="status"), seconds=10)).message == "status "


async def test_a_command_under_way_at_the_end_is_over_by_then_and_says_so(tmp_path: Path) -> None:
    has_begun, is_over = asyncio.Event(), False

    async def never(_command: Command) -> Reply:
        nonlocal is_over
        has_begun.set()
        try:
            return await asyncio.Future()
        finally:
            await asyncio.sleep(0)
            is_over = True

    async with asyncio.TaskGroup() as tasks:
        async with serving(tmp_path, never):
            asked = tasks.create_task(_error_of(tmp_path))
            await has_begun.wait()
        assert is_over

    assert asked.result() == "the cluster is stopping; the command was not carried to its end"


async def test_what_the_machine_refuses_comes_back(tmp_path: Path) -> None:
    async def full(_command: Command) -> Reply:
        raise OSError(28, "No space left on device")

    async with serving(tmp_path, full):
        assert "No space left on device" in await _error_of(tmp_path)


async def _error_of(directory: Path) -> str:
    with pytest.raises(FieldpostError) as raised:
        await ask(directory, Command(verb="scale"), seconds=10)
    return raised.value.detail
