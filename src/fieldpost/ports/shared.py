"""Shared state between instances: the bus, short-lived values, leases, the registry. All may be lost; nothing depends on it.

None of them raises because their engine is away, and every call but `receive` returns within `PATIENCE_SECONDS`, done or
not: what they are told goes missing then, and what they are asked is not there. So nobody who has something to promise
(an accepted request, a final answer) loses it to them. They come back by themselves.
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fieldpost.messages.events import Event
from fieldpost.ports.instances import Instances

#: The longest that any of them keeps a caller waiting for its engine.
PATIENCE_SECONDS = 1.0
#: Events one subscription may have unread.
MAX_UNREAD = 10_000


class Subscription(Protocol):
    """The events of some channels."""

    async def receive(self) -> Sequence[Event]:
        """Waits for at least one event, returns those there are, oldest first; an empty sequence says that some were lost.

        The buffer is bounded: when it overflows, it is emptied and the loss is told. So is the loss of what was published
        while the engine was away, or before a channel whose `follow` did not get through was followed. While it is away
        the loss is told again every second or two, so that who lives by events goes and looks.

        Cancel: safe, nothing is lost.
        """
        ...

    async def follow(self, channels: Collection[str]) -> None:
        """Hears these channels too: all that is published after it returns, where the engine is there.

        Never raises because it is away: returns soon, follows them once it is back, and then tells a loss.
        """
        ...

    async def unfollow(self, channels: Collection[str]) -> None:
        """Hears these channels no more; perhaps a little longer where the engine is away. Never raises for that."""
        ...


class Bus(Protocol):
    """Publish and subscribe, at most once: a hint, never the record."""

    async def publish(self, channel: str, events: Sequence[Event]) -> None:
        """Tells everyone who follows the channel; returns before they have heard.

        Never raises because the engine is away: returns soon, and nobody hears of it.
        """
        ...

    def subscribe(self, channels: Collection[str]) -> AbstractAsyncContextManager[Subscription]:
        """A subscription while the context lasts; what is published after entering is heard."""
        ...


class SharedValues(Protocol):
    """Small values with a time to live, bounded in number; any of them may vanish early."""

    async def put(self, values: Sequence[tuple[str, bytes]], *, ttl_seconds: float) -> None:
        """Sets values. Never raises because the engine is away: returns soon, and they are not there then."""
        ...

    async def get(self, key: str) -> bytes | None:
        """The value, or None when it is not there or no more, and soon also when the engine is away: it never raises."""
        ...


class Leases(Protocol):
    """Locks with a deadline, for efficiency only: what protects data is the ledger's fencing token."""

    async def acquire(self, name: str, *, holder: str, ttl_seconds: float) -> bool:
        """Takes or renews the lease; False when another holder has it.

        Work must go on without the engine: while it is away, who had the lease keeps it, and who has asked in vain for one
        time to live gets it too. Several may hold it then, as the fencing token allows.
        """
        ...

    async def release(self, name: str, *, holder: str) -> None:
        """Gives the lease up, if this holder has it; when the engine is away, it is free once its time is over."""
        ...


class Shared(Protocol):
    """All of them, from one engine."""

    @property
    def bus(self) -> Bus:
        """The bus."""
        ...

    @property
    def values(self) -> SharedValues:
        """The values."""
        ...

    @property
    def leases(self) -> Leases:
        """The leases."""
        ...

    @property
    def instances(self) -> Instances:
        """The registry of instances."""
        ...
