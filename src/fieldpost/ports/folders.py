"""The folder door's storage: `Requests/`, `Responses/`, `Rejected/` and `Done/`, each with a folder per device id.

Files appear and change under our hands; a *drop* is one version of one file. Names of folders that are not device ids,
symbolic links in place of folders, and sync clients' temporary names are never taken.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec


class Drop(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a file in `Requests/<device_id>/`."""

    device_id: int
    name: str
    size_bytes: int
    #: Modification time in nanoseconds since the epoch, as the storage tells it.
    modified_ns: int
    #: A symbolic link, a pipe, a directory: never read, only rejected.
    is_regular: bool = True


class Folders(Protocol):
    """Safe to repeat; raises BackendUnavailableError when the storage is away and StorageFullError when it is full."""

    async def scan(self, *, limit: int) -> Sequence[Drop]:
        """The files that lie in `Requests/` now, at most `limit`, finished or not."""
        ...

    async def read(self, drop: Drop, *, limit_bytes: int) -> bytes:
        """The content of this very version.

        Raises:
            DropChangedError: the file is another one by now, or gone.
            RequestTooLargeError: more than `limit_bytes`.
        """
        ...

    async def done(self, drop: Drop) -> bool:
        """Moves this very version to `Done/`, under a free name; False when it changed in between and stays, or is gone."""
        ...

    async def reject(self, drop: Drop, *, reason: bytes) -> bool:
        """Moves this very version to `Rejected/` and writes `<name>.reason.json` beside it; False as for `done`."""
        ...

    async def deliver(self, device_id: int, name: str, content: bytes) -> None:
        """Puts a file into `Responses/<device_id>/`; it appears whole, and replaces one of the same name."""
        ...

    def changes(self) -> AsyncIterator[None]:
        """Yields when something may have changed: hints, some of which are missed, so scan as well."""
        ...
