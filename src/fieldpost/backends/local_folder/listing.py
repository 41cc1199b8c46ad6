"""What lies in `Requests/`: fair between devices, bounded, and quiet about what is not a device's folder."""

import contextlib
import errno
import fnmatch
import os
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice, zip_longest

from fieldpost.backends.local_folder import directories
from fieldpost.backends.local_folder.walking import Walks
from fieldpost.observability import get_logger
from fieldpost.policy.settling import is_skipped
from fieldpost.ports.folders import Drop

#: The one way to write a device id that has only one: `007` and `+7` are nobody's folders.
_DEVICE_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_MAX_DEVICE_ID = 2**63 - 1
#: Names told of once; past these, silence.
_MAX_TOLD = 1000
#: For a look that was given up and still goes on.
_PATIENCE_SECONDS = 10.0

log = get_logger()


class Listing:
    """Remembers where the last look ended, and what was told already."""

    def __init__(self) -> None:
        self._last_id = 0
        self._told: set[str] = set()
        self._walks = Walks(self._tell_unreadable)
        self._looking = threading.Lock()

    def drops(self, requests: int, *, limit: int) -> list[Drop]:
        """At most `limit` files, in turn from each device, each device's oldest first.

        With more devices than `limit`, the next look begins after the last device of this one.
        """
        if not self._looking.acquire(timeout=_PATIENCE_SECONDS):
            raise OSError(errno.EBUSY, "an earlier look at the folders has not ended")
        try:
            return self._drops(requests, limit)
        finally:
            self._looking.release()

    def _drops(self, requests: int, limit: int) -> list[Drop]:
        known = self._device_ids(requests)
        self._walks.keep_only(known)
        ids = self._turn(known, limit)
        if not ids:
            return []
        share = limit // len(ids)
        self._walks.go_on(requests, ids, share)
        found = {device_id: self._walks.files(requests, device_id, share) for device_id in ids}
        cut_short = [device_id for device_id, drops in found.items() if len(drops) == share]
        spare = limit - sum(map(len, found.values()))
        if cut_short and spare >= len(cut_short):
            share += spare // len(cut_short)
            found.update((device_id, self._walks.files(requests, device_id, share)) for device_id in cut_short)
        return _in_turn(found)

    def _turn(self, ids: Sequence[int], limit: int) -> Sequence[int]:
        if len(ids) <= limit:
            return ids
        later = [device_id for device_id in ids if device_id > self._last_id]
        chosen = list(islice(chain(later, ids), limit))
        self._last_id = chosen[-1]
        return chosen

    def _device_ids(self, requests: int) -> Sequence[int]:
        ids: list[int] = []
        with os.scandir(requests) as entries:
            for entry in entries:
                if _is_device_folder(entry):
                    ids.append(int(entry.name))
                elif not is_skipped(entry.name):
                    self._tell("folder_ignored", entry.name)
        return sorted(ids)

    def _tell_unreadable(self, device_id: int, error: OSError) -> None:
        self._tell("folder_unreadable", str(device_id), error=error.strerror)

    def _tell(self, event: str, name: str, **fields: object) -> None:
        if name not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(name)
            log.warning(event, folder=ascii(name[:300]), **fields)


def remove_temporary(area: int) -> None:
    """Removes what was being written when an earlier process ended, in every device's folder of an area."""
    with os.scandir(area) as entries:
        names = [entry.name for entry in entries if _is_device_folder(entry)]
    for name in names:
        with contextlib.suppress(OSError), directories.opened(area, name) as folder, os.scandir(folder) as files:
            for file in fnmatch.filter((file.name for file in files), f"{directories.TEMPORARY_PREFIX}*.tmp"):
                os.unlink(file, dir_fd=folder)


def is_device_id(name: str) -> bool:
    """Whether a folder of this name is a device's."""
    return _DEVICE_ID.fullmatch(name) is not None and int(name) <= _MAX_DEVICE_ID


def _is_device_folder(entry: "os.DirEntry[str]") -> bool:
    return is_device_id(entry.name) and entry.is_dir(follow_symlinks=False)


def _in_turn(found: Mapping[int, Iterable[Drop]]) -> list[Drop]:
    return [drop for turn in zip_longest(*found.values()) for drop in turn if drop is not None]
