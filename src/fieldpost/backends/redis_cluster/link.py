"""The way to Redis that mends itself: watches its client, and puts a new one in its place when it is no good any more.

Left alone, the vendor's client needs 20 s and more after a master was killed, for all keys, and does not notice one
that is frozen at all (measured with 2.6.0). A new client finds its way at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from enum import Enum
from typing import TypeVar

import msgspec

from fieldpost.backends.redis_cluster.address import Address
from fieldpost.backends.redis_cluster.channels import Channels
from fieldpost.backends.redis_cluster.circuits import Circuits
from fieldpost.backends.redis_cluster.client import CALL_SECONDS, Client, Heard, Look
from fieldpost.backends.redis_cluster.trust import reason
from fieldpost.clock import Clock
from fieldpost.errors import BackendUnavailableError
from fieldpost.observability import get_logger

T = TypeVar("T")

#: How often the client is looked after when nothing is suspected.
_WATCH_SECONDS = 1.0
#: Between two looks at least, however often a call fails.
_SOONEST_SECONDS = 0.1
#: A client that was replaced may finish its calls before it is closed.
_LINGER_SECONDS = 2 * CALL_SECONDS
#: Two looks: one that comes late on a busy machine says nothing.
_LOOKS = 2

log = get_logger()


class State(Enum):
    """How much of the engine answers."""

    WHOLE = "whole"
    PARTIAL = "partial"
    AWAY = "away"


_LEVELS = {State.WHOLE: logging.INFO, State.PARTIAL: logging.WARNING, State.AWAY: logging.ERROR}


class _Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of the engine, judged while no channel was being changed."""

    #: None where it is away.
    look: Look | None = None
    is_whole: bool = False
    #: Whether channels that may not have been heard are heard again.
    is_mended: bool = False


class Link:
    """`run` keeps it up; every call may be made at any time, and fails soon when the engine is away.

    Args:
        heard: what came on a channel.
        lost: called when messages may have been missed; while the engine is away or in part, every second or so.
    """

    def __init__(self, address: Address, *, clock: Clock, name: str, heard: Heard, lost: Callable[[], None]) -> None:
        self._address = address
        self._clock = clock
        self._name = name
        self._heard = heard
        self._lost = lost
        self.state = State.AWAY
        self._logged: State | None = None
        self._reason = ""
        self._circuits = Circuits()
        self._client: Client | None = None
        self._connections: frozenset[str] = frozenset()
        self._retired: set[Client | None] = set()
        self._suspicion = asyncio.Event()
        self._looked = asyncio.Event()
        self._channels = Channels(self.call, self._suspicion.set)

    async def run(self) -> None:
        """Looks after the client until cancelled, and closes it then."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._channels.run())
                while True:
                    self._suspicion.clear()
                    await self._look_after(group)
                    self._looked.set()
                    await self._pause(group)
        finally:
            for client in (*self._retired, self._client):
                if client is not None:
                    await client.close()

    async def until_looked(self) -> None:
        """Returns once it is known for the first time whether the engine is there."""
        await self._looked.wait()

    async def ask(self, key: bytes, question: Callable[[Client], Awaitable[T]]) -> T:
        """Asks the node that owns the key.

        Raises:
            BackendUnavailableError: it is away.
        """
        if not self._circuits.allows(key, self._clock.monotonic()):
            raise BackendUnavailableError("Redis: this node does not answer")
        try:
            answer = await self.call(question)
        except BackendUnavailableError:
            self._circuits.failed(key, self._clock.monotonic())
            raise
        self._circuits.succeeded(key)
        return answer

    async def call(self, question: Callable[[Client], Awaitable[T]]) -> T:
        """Asks whatever node it takes.

        Raises:
            BackendUnavailableError: one is away.
        """
        client = self._client
        if client is None:
            raise BackendUnavailableError("Redis is away")
        try:
            return await question(client)
        except BackendUnavailableError:
            self._suspicion.set()
            raise

    async def follow(self, channels: Collection[str]) -> None:
        """Hears these channels from now on, through every client there will be. Raises nothing: run mends it."""
        await self._channels.change(added=channels)

    async def unfollow(self, channels: Collection[str]) -> None:
        """Hears these channels no more. Raises nothing: run mends it."""
        await self._channels.change(removed=channels)

    async def _look_after(self, group: asyncio.TaskGroup) -> None:
        sight = await self._look(self._client) if self._client is not None else _Sight()
        if not sight.is_whole:
            sight = await self._replace(sight, group)
        connections = sight.look.connections if sight.look is not None else frozenset()
        is_new = sight.look is not None and connections != self._connections
        self._connections = connections
        self._enter(sight)
        if is_new or sight.is_mended or self.state is not State.WHOLE:
            self._lost()

    async def _look(self, client: Client) -> _Sight:
        look, is_whole, is_mended = None, False, False
        for _ in range(_LOOKS):
            try:
                async with self._channels.lock:
                    if look is not None and look.is_complete:
                        is_mended = await self._channels.mend() or is_mended
                    look = await client.look()
                    is_whole = look.is_complete and self._channels.agree(look.subscriptions)
            except BackendUnavailableError:
                continue
            if is_whole:
                break
        return _Sight(look=look, is_whole=is_whole, is_mended=is_mended)

    async def _replace(self, seen: _Sight, group: asyncio.TaskGroup) -> _Sight:
        """Takes a new client if that one sees more than is `seen` now; once what was whole breaks, in any case."""
        try:
            fresh = await Client.open(self._address, name=self._name, heard=self._heard)
        except BackendUnavailableError as error:
            self._reason = str(error)
            return seen
        self._retired.add(fresh)
        old: Client | None = None
        async with self._channels.lock:
            channels = set(self._channels.wanted)
            sight, is_subscribed = await self._introduce(fresh, channels)
            if sight.look is None and seen.look is None:
                old, self._client = self._client, None
            elif sight.look is not None and (self.state is State.WHOLE or self._is_better(sight, seen)):
                old, self._client = self._client, fresh
                self._channels.begin(channels, is_confirmed=is_subscribed)
                seen = sight
        for client in (old, fresh):
            if client is not None and client is not self._client:
                self._retired.add(client)
                group.create_task(self._retire(client))
        self._retired.discard(self._client)
        return seen

    def _is_better(self, sight: _Sight, seen: _Sight) -> bool:
        if sight.look is None or seen.look is None:
            return seen.look is None
        return sight.is_whole or len(sight.look.connections) > len(seen.look.connections)

    async def _introduce(self, client: Client, channels: Collection[str]) -> tuple[_Sight, bool]:
        """What a new client sees, and whether it is subscribed to all channels."""
        is_subscribed = True
        try:
            if channels:
                await client.subscribe(channels)
        except BackendUnavailableError:
            is_subscribed = False  # Some of its nodes may answer all the same.
        try:
            look = await client.look()
        except BackendUnavailableError as error:
            self._reason = await reason(self._address, error)
            return _Sight(), False
        is_whole = look.is_complete and is_subscribed and look.subscriptions == len(channels)
        return _Sight(look=look, is_whole=is_whole), is_subscribed

    async def _retire(self, client: Client) -> None:
        await self._clock.sleep(_LINGER_SECONDS)
        self._retired.discard(client)
        await client.close()

    def _enter(self, sight: _Sight) -> None:
        state = State.AWAY if sight.look is None else State.WHOLE if sight.is_whole else State.PARTIAL
        if state is State.WHOLE:
            self._circuits.close()
            self._reason = ""
        if state is not self._logged:
            log.log(_LEVELS[state], "shared.state", state=state.value, reason=self._reason)
        self.state = self._logged = state

    async def _pause(self, group: asyncio.TaskGroup) -> None:
        """Waits for the next look: soon after a suspicion, but never in a busy loop."""
        alarm = group.create_task(self._clock.sleep(_WATCH_SECONDS))
        if self.state is State.WHOLE:
            suspecting = group.create_task(self._suspicion.wait())
            await asyncio.wait((alarm, suspecting), return_when=asyncio.FIRST_COMPLETED)
            suspecting.cancel()
            alarm.cancel()
            await self._clock.sleep(_SOONEST_SECONDS)
        else:
            await alarm
