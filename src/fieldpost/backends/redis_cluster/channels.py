"""The channels to be heard, and which of them the engine has confirmed to the client.

Changes are made by one task, all that have come meanwhile in one call: devices come and go faster than calls are answered,
and who gives up waiting cancels no call whose outcome would be unknown. Deliberately not here: the client (link).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from fieldpost.backends.redis_cluster.client import CALL_SECONDS, Client
from fieldpost.errors import BackendUnavailableError


class Calling(Protocol):
    """Asks the client there is now."""

    async def __call__(self, question: Callable[[Client], Awaitable[None]]) -> None:
        """Raises BackendUnavailableError when it does not answer."""
        ...


class Channels:
    """`run` makes the changes; `lock` is held meanwhile, and by whoever counts or takes another client.

    Args:
        suspect: called when a change failed or is late.
    """

    def __init__(self, call: Calling, suspect: Callable[[], None]) -> None:
        self._call = call
        self._suspect = suspect
        self.lock = asyncio.Lock()
        self.wanted: set[str] = set()
        self._confirmed: set[str] = set()
        #: A change of these failed, or whoever waited for it was told nothing: the engine may do either.
        self._doubtful: set[str] = set()
        #: Changed since the last call.
        self._touched: set[str] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self._work = asyncio.Event()

    async def run(self) -> None:
        """Makes changes until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            async with self.lock:
                waiting, self._waiting = self._waiting, []
                await self._apply()
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)

    async def change(self, *, added: Collection[str] = (), removed: Collection[str] = ()) -> None:
        """Returns when the engine has confirmed, or could not in time. Raises nothing."""
        self.wanted.update(added)
        self.wanted.difference_update(removed)
        self._touched.update(added, removed)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._work.set()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await waiter
        except TimeoutError:
            self._doubtful.update(added, removed)
            self._suspect()

    async def mend(self) -> bool:
        """Makes changes that failed again, under the lock; whether channels were in doubt and are no more."""
        if not self._doubtful:
            return False
        self._touched |= self._doubtful
        self._confirmed -= self._doubtful
        self._doubtful = set()
        await self._apply()
        return not self._doubtful

    def begin(self, channels: Collection[str], *, is_confirmed: bool) -> None:
        """Another client is there, which was asked for these, under the lock."""
        self._confirmed = set(channels) if is_confirmed else set()
        # Whoever gave up waiting for the lock meanwhile has yet to be told.
        self._doubtful &= self._touched
        if not is_confirmed:
            self._doubtful |= set(channels)

    def agree(self, subscriptions: int) -> bool:
        """Whether the engine has all channels down that it has confirmed, and none is in doubt; under the lock."""
        return not self._doubtful and subscriptions == len(self._confirmed)

    async def _apply(self) -> None:
        touched, self._touched = self._touched, set()
        # Not by set difference: thousands are confirmed, and few are touched.
        wanted = {name for name in touched if name in self.wanted and name not in self._confirmed}
        unwanted = touched - self.wanted
        # Before the call: a failed one may have been heard all the same.
        self._confirmed -= unwanted
        try:
            if wanted:
                await self._call(lambda client: client.subscribe(wanted))
                self._confirmed |= wanted
            if unwanted:
                await self._call(lambda client: client.unsubscribe(unwanted))
        except BackendUnavailableError:
            self._doubtful |= (wanted - self._confirmed) | unwanted
            self._suspect()
