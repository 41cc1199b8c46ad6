"""`fieldpost db …`: the tables of the shards, backups of the embedded data directory, and which pepper is the right one."""

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from fieldpost.cli.next_command import pasted
from fieldpost.errors import BackupError, ConfigError

app = typer.Typer(
    help="Upgrades the shards' tables, backs data up.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_KEYS = ("pepper.key", "operator.key")
_REQUESTS = "Requests"


@app.command()
def upgrade() -> None:
    """Brings the tables of all shards up to date; safe to run twice, and while Fieldpost runs."""
    import asyncio

    from fieldpost import settings
    from fieldpost.wiring import databases

    async def upgrade_all() -> None:
        async for tables in databases.upgrade(settings.load()):
            typer.echo(f"{tables.shard}: {tables.revision}")

    asyncio.run(upgrade_all())


@app.command()
def status() -> None:
    """Shows how the tables of all shards stand; status 1 unless all are up to date."""
    import asyncio

    from fieldpost import settings
    from fieldpost.wiring import databases

    async def show_all() -> bool:
        are_current = True
        async for tables in databases.status(settings.load()):
            stand = tables.problem or f"{tables.revision or 'empty'} (newest {tables.newest})"
            typer.echo(f"{tables.shard}: {stand}")
            are_current = are_current and tables.are_current
        return are_current

    if not asyncio.run(show_all()):
        raise typer.Exit(1)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="A directory that is not there yet.", show_default=False)],
    data: Annotated[str | None, typer.Option(help="The data directory (default ./fieldpost-data).")] = None,
) -> None:
    """Copies the data directory, also while a server uses it; restore by putting the copy in its place."""
    from fieldpost import settings

    loaded = settings.load(overrides={} if data is None else {"data": {"directory": data}})
    source = Path(loaded.data.directory)
    if target.exists():
        raise ConfigError(f"{target} is there already; a backup is never written over anything")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as aside:
            copy = Path(aside) / target.name
            copy.mkdir(mode=0o700)
            left_out = _copy(source, copy)
            # What is renamed has to be on the disk first.
            os.sync()
            copy.rename(target)
    except OSError as error:
        raise BackupError(f"{source} to {target}: {error}") from error
    for path in left_out:
        typer.echo(f"left out, neither a file nor a link: {str(path)!a}", err=True)
    typer.echo(f"{target}")


@app.command("accept-pepper")
def accept_pepper(
    data: Annotated[str | None, typer.Option(help="The data directory (default ./fieldpost-data).")] = None,
) -> None:
    """Takes this directory's pepper.key, made if there is none, for the one of all devices' keys.

    For when the right one is lost for good: keys made with it are refused from then on, until each is rotated. Stop
    Fieldpost first.
    """
    import asyncio

    from fieldpost import settings
    from fieldpost.clock import SystemClock
    from fieldpost.wiring import databases, keys

    loaded = settings.load(overrides={} if data is None else {"data": {"directory": data}})

    async def accept() -> None:
        async with databases.open_directory(loaded, SystemClock()) as devices:
            await keys.accept_pepper(Path(loaded.data.directory), devices)

    asyncio.run(accept())
    typer.echo(f"accepted; now rotate every device's key: {pasted('devices', 'rotate', 'ID')}")


def _copy(source: Path, target: Path) -> list[Path]:
    """Returns what was left out."""
    from fieldpost.backends.sqlite.copying import copy_database

    for name in _KEYS:
        shutil.copy2(source / name, target / name)
    left_out = _copy_tree(source / "knowledge", target / "knowledge")
    # A file that is taken meanwhile is then in the folder and in the database, which makes it one request; the other way
    # round it could be in neither. With answers it is the other way: what is not delivered yet is written again.
    left_out += _copy_tree(source / "Cloud" / _REQUESTS, target / "Cloud" / _REQUESTS)
    copy_database(source / "fieldpost.db", target / "fieldpost.db")
    for folder in sorted((source / "Cloud").iterdir()):
        if folder.is_dir() and folder.name != _REQUESTS:
            left_out += _copy_tree(folder, target / "Cloud" / folder.name)
    return left_out


def _copy_tree(source: Path, target: Path) -> list[Path]:
    """Returns pipes and the like, which are left out, as is what vanishes meanwhile.

    Times are kept, they are part of what a dropped file is known by.
    """
    left_out: list[Path] = []
    for directory, folders, names in os.walk(source):
        made = target / Path(directory).relative_to(source)
        made.mkdir(parents=True, exist_ok=True)
        links = [name for name in folders if (Path(directory) / name).is_symlink()]
        for path in (Path(directory) / name for name in names + links):
            with contextlib.suppress(FileNotFoundError):
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                    shutil.copy2(path, made / path.name, follow_symlinks=False)
                else:
                    left_out.append(path)
    return left_out
