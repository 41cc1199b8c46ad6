"""What has to be there before the doors open: engines that other processes share are waited for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from fieldpost.background import running
from fieldpost.clock import Clock
from fieldpost.errors import UnavailableError
from fieldpost.house import House, instance_name, loops_of
from fieldpost.observability import get_logger
from fieldpost.ports.backends import Backends
from fieldpost.services.waiting import within
from fieldpost.settings import Settings
from fieldpost.wiring.engines import are_shareable
from fieldpost.wiring.keys import check_pepper
from fieldpost.wiring.opening import open_backends

T = TypeVar("T")

#: Between two looks at whether they have come.
_AWAIT_SECONDS = 1.0

log = get_logger()


class StoppedError(Exception):
    """It was told to stop before it had started."""


class Starting:
    """The steps of a start; each ends with `StoppedError` when the process is told to stop meanwhile."""

    def __init__(self, settings: Settings, clock: Clock, stopping: asyncio.Event) -> None:
        self._settings = settings
        self._clock = clock
        self._stopping = stopping
        self._awaited: UnavailableError | None = None

    def reasons(self) -> Sequence[str]:
        """Why nothing is served yet."""
        awaited = [] if self._awaited is None else [f"engines are awaited: {self._awaited.title}"]
        return ["starting", *awaited]

    @asynccontextmanager
    async def backends(self, roles: Collection[str]) -> AsyncIterator[Backends]:
        """The backends, once their engines are there."""
        async with AsyncExitStack() as stack:

            async def enter() -> Backends:
                opening = open_backends(
                    self._settings, self._clock, instance=instance_name(roles), runs_models="worker" in roles
                )
                return await stack.enter_async_context(opening)

            yield await self._until_there(enter)

    async def load(self, backends: Backends, house: House, roles: Collection[str]) -> None:
        """The doors' snapshot of all keys.

        Raises:
            ConfigError: the keys are hashed with another pepper than this process has.
        """
        if "credentials" in loops_of(house, roles):
            directory = Path(self._settings.data.directory)
            await self._until_there(partial(check_pepper, directory, backends.pepper, backends.devices))
            await self._until_there(house.credentials.load)

    async def unless_stopped(self, step: Callable[[], Awaitable[T]]) -> T:
        """What the step brings; when the process is told to stop, the step is cancelled and cleans up.

        It runs in the caller's task: what it opens may have to be closed by the task that opened it.
        """

        async def watch() -> None:
            await self._stopping.wait()
            limit.reschedule(asyncio.get_running_loop().time())

        try:
            async with asyncio.timeout(None) as limit, running(watch()):
                return await step()
        except TimeoutError:
            if limit.expired():
                raise StoppedError from None
            raise

    async def _until_there(self, step: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                there = await self.unless_stopped(step)
            except UnavailableError as error:
                if not are_shareable(self._settings):
                    raise
                log.warning("engines_awaited", error=repr(error))
                self._awaited = error
            else:
                self._awaited = None
                return there
            if await within(self._stopping.wait(), _AWAIT_SECONDS):
                raise StoppedError
