"""Opens a data directory: one process at a time, schema brought up to date, broker and ledger over one database."""

import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from fieldpost.backends.relational.claims import release_all
from fieldpost.backends.relational.directory import RelationalDirectory
from fieldpost.backends.relational.ledger import relational_ledger
from fieldpost.backends.relational.upgrading import upgrade
from fieldpost.backends.sqlite.broker import SqliteBroker, create_tables
from fieldpost.backends.sqlite.database import Database
from fieldpost.backends.sqlite.recorded import Newest
from fieldpost.errors import ConfigError, DataDirectoryInUseError
from fieldpost.ports.devices import DeviceDirectory
from fieldpost.ports.ledger import Ledger


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """What one SQLite database offers."""

    broker: SqliteBroker
    ledger: Ledger
    devices: DeviceDirectory
    #: The ledger's newest requests with a key.
    newest: Newest


@asynccontextmanager
async def open_database(path: Path) -> AsyncIterator[Embedded]:
    """The engines over the database at `path`, made if it is not there; closed after what was handed in is on disk."""
    _make_private(path)
    database = Database(path)
    database.run_now(upgrade)
    database.run_now(create_tables)
    # One process at a time: whoever held a claim is gone, and that it was stopped is not held against its requests.
    database.run_now(release_all)
    database.open()
    try:
        broker = SqliteBroker(database)
        await broker.open()
        yield Embedded(
            broker=broker,
            ledger=relational_ledger(database),
            devices=RelationalDirectory(database),
            newest=Newest(database),
        )
    finally:
        await database.close()


def _make_private(path: Path) -> None:
    """Nobody else reads what devices ask, also where the directory lets them in; the log beside it is made alike."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise ConfigError(f"{path} cannot be used: {error.strerror}") from error


@contextmanager
def lock_directory(directory: Path) -> Iterator[None]:
    """Makes the directory if needed and holds it for this process; the kernel lets go when the process ends.

    Raises:
        DataDirectoryInUseError: another process holds it; it names the process.
        ConfigError: it cannot be made or written.
    """
    try:
        # What devices ask and are answered is nobody else's business on this machine.
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"the data directory {directory} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            raise DataDirectoryInUseError(f"{directory}{f' (pid {holder})' if holder else ''}") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
