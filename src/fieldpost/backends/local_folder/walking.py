"""Which of a folder's files are the oldest, however many there are, with little work at a time.

The kernel tells names in no order, so whoever wants the oldest has to look at all files. Small folders are looked
through at once. A large one is looked through in parts, and meanwhile the oldest of its last time are served: each is
looked at again before it is told, so that what is told is there.
"""

import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain, islice

from fieldpost.backends.local_folder import directories
from fieldpost.policy.settling import is_skipped
from fieldpost.ports.folders import Drop

#: Names looked at in one go, of all folders together: about a quarter of a second of one thread.
_ALL_ENTRIES = 50_000
#: The same of one folder, as long as it has files to serve; one that has more is large.
_FOLDER_ENTRIES = 5_000
#: Names sorted in one go: sorting lets no other thread run.
_STEP_ENTRIES = 2_500
#: Names remembered of all large folders together, and of all small ones.
_KEPT = 20_000


class Walk:
    """One look through a folder, a part at a time; its place is kept open between them."""

    def __init__(self, device_id: int, entries: "os._ScandirIterator[str]", keep: int) -> None:
        self.device_id = device_id
        self.looked_at = 0
        #: Shape: modification time in nanoseconds, name; oldest first.
        self.oldest: list[tuple[int, str]] = []
        self._keep = keep
        self._entries = entries

    def go_on(self, folder: int, limit: int) -> bool:
        """Looks at `limit` more names; returns whether these were the last."""
        while limit > 0:
            step = min(limit, _STEP_ENTRIES)
            names = [entry.name for entry in islice(self._entries, step)]
            self._take(folder, names)
            if len(names) < step:
                return True
            limit -= step
        return False

    def _take(self, folder: int, names: Sequence[str]) -> None:
        self.looked_at += len(names)
        facts = ((directories.look(folder, name), name) for name in names if not is_skipped(name))
        found = [(fact.st_mtime_ns, name) for fact, name in facts if fact is not None]
        if len(self.oldest) >= self._keep:
            newest = self.oldest[-1]
            found = [each for each in found if each < newest]
        if found:
            self.oldest = sorted(chain(self.oldest, found))[: self._keep]

    def close(self) -> None:
        """Gives its place up."""
        self._entries.close()

    def __del__(self) -> None:
        self.close()


class Walks:
    """All folders' oldest files; one large folder at a time is being looked through."""

    def __init__(self, tell_unreadable: Callable[[int, OSError], None]) -> None:
        self._tell_unreadable = tell_unreadable
        #: By device, shaped as in `Walk`; never empty.
        self._oldest: dict[int, list[tuple[int, str]]] = {}
        #: In the order in which they are looked through.
        self._large: dict[int, None] = {}
        self._walk: Walk | None = None
        self._last_id = 0

    def keep_only(self, device_ids: Collection[int]) -> None:
        """Forgets the folders of all other devices."""
        known = frozenset(device_ids)
        for device_id in [each for each in chain(self._oldest, self._large) if each not in known]:
            self._forget(device_id)

    def go_on(self, requests: int, device_ids: Sequence[int], share: int) -> None:
        """Looks through small folders of these devices and goes on with large ones, not for long.

        Args:
            share: how many files of each are wanted at least.
        """
        small = [device_id for device_id in device_ids if device_id not in self._large]
        keep = max(share, _KEPT // max(1, len(small)))
        left = _ALL_ENTRIES
        later = (device_id for device_id in small if device_id > self._last_id)
        for device_id in islice(chain(later, small), len(small)):
            if left <= 0:
                break
            left -= self._look_through_small(requests, device_id, keep)
            self._last_id = device_id
        self._look_through_large(requests, share, max(left, _FOLDER_ENTRIES))

    def files(self, requests: int, device_id: int, limit: int) -> list[Drop]:
        """At most `limit` of the oldest files, as they stand now."""
        oldest = self._oldest.pop(device_id, [])
        drops: list[Drop] = []
        looked_at = 0
        with self._opened(requests, device_id) as folder:
            if folder is not None:
                while len(drops) < limit and looked_at < len(oldest):
                    drop = _drop(folder, device_id, oldest[looked_at][1])
                    looked_at += 1
                    if drop is not None:
                        drops.append(drop)
                left = [(drop.modified_ns, drop.name) for drop in drops] + oldest[looked_at:]
                self._remember(device_id, left)
        return drops

    def _look_through_small(self, requests: int, device_id: int, keep: int) -> int:
        """Returns how many names it looked at."""
        with self._opened(requests, device_id) as folder:
            if folder is None:
                return 0
            walk = Walk(device_id, os.scandir(folder), keep)
            if walk.go_on(folder, _FOLDER_ENTRIES):
                self._remember(device_id, walk.oldest)
            else:
                # To be looked through anew: it may keep more then.
                walk.close()
                self._large[device_id] = None
            return walk.looked_at
        return 0

    def _look_through_large(self, requests: int, share: int, left: int) -> None:
        done: set[int] = set()
        while left > 0 and (device_id := self._next_large(done)) is not None:
            done.add(device_id)
            with self._opened(requests, device_id) as folder:
                if folder is None:
                    continue
                walk = self._walk
                if walk is None:
                    walk = self._walk = Walk(device_id, os.scandir(folder), max(share, _KEPT // len(self._large)))
                before = walk.looked_at
                is_over = walk.go_on(folder, min(left, _FOLDER_ENTRIES) if device_id in self._oldest else left)
                left -= walk.looked_at - before
                if is_over:
                    self._end(walk)

    def _next_large(self, done: Collection[int]) -> int | None:
        """The one that is being looked through, or has waited longest; those that have nothing to serve go first."""
        waiting = [device_id for device_id in self._large if device_id not in done]
        if self._walk is not None:
            waiting = [self._walk.device_id, *waiting] if self._walk.device_id not in done else []
        chosen = next((each for each in waiting if each not in self._oldest), next(iter(waiting), None))
        if chosen is not None and self._walk is not None and chosen != self._walk.device_id:
            self._stop()
        return chosen

    def _end(self, walk: Walk) -> None:
        self._stop()
        del self._large[walk.device_id]
        if walk.looked_at >= _FOLDER_ENTRIES:
            # Behind all others.
            self._large[walk.device_id] = None
        self._remember(walk.device_id, walk.oldest)

    def _remember(self, device_id: int, oldest: list[tuple[int, str]]) -> None:
        self._oldest.pop(device_id, None)
        if oldest:
            self._oldest[device_id] = oldest

    def _stop(self) -> None:
        if self._walk is not None:
            self._walk.close()
        self._walk = None

    def _forget(self, device_id: int) -> None:
        self._oldest.pop(device_id, None)
        self._large.pop(device_id, None)
        if self._walk is not None and self._walk.device_id == device_id:
            self._stop()

    @contextmanager
    def _opened(self, requests: int, device_id: int) -> Iterator[int | None]:
        """The device's folder, None when it cannot be opened; one that cannot be read is told of and forgotten."""
        with ExitStack() as stack:
            folder: int | None = None
            try:
                folder = stack.enter_context(directories.opened(requests, str(device_id)))
            except OSError as error:
                self._failed(device_id, error)
            try:
                yield folder
            except OSError as error:
                self._failed(device_id, error)

    def _failed(self, device_id: int, error: OSError) -> None:
        self._forget(device_id)
        if not directories.is_gone(error):
            self._tell_unreadable(device_id, error)


def _drop(folder: int, device_id: int, name: str) -> Drop | None:
    facts = directories.look(folder, name)
    if facts is None:
        return None
    return Drop(
        device_id=device_id,
        name=name,
        size_bytes=facts.st_size,
        modified_ns=facts.st_mtime_ns,
        is_regular=stat.S_ISREG(facts.st_mode),
    )
