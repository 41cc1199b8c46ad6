"""Shared state between instances: the bus, short-lived values, leases. All of it may be lost; nothing depends on it."""

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fieldpost.messages.events import Event


class Subscription(Protocol):
    """The events of some channels."""

    async def receive(self) -> Sequence[Event]:
        """Waits for at least one event, returns those there are, oldest first; an empty sequence says that some were lost.

        The buffer is bounded: when it overflows, it is emptied and the loss is told.
        """
        ...

    async def follow(self, channels: Collection[str]) -> None:
        """Hears these channels too from now on."""
        ...

    async def unfollow(self, channels: Collection[str]) -> None:
        """Hears these channels no more."""
        ...


class Bus(Protocol):
    """Publish and subscribe, at most once: a hint, never the record."""

    async def publish(self, channel: str, events: Sequence[Event]) -> None:
        """Tells everyone who follows the channel; returns before they have heard."""
        ...

    def subscribe(self, channels: Collection[str]) -> AbstractAsyncContextManager[Subscription]:
        """A subscription while the context lasts; what is published after entering is heard."""
        ...


class SharedValues(Protocol):
    """Small values with a time to live, bounded in number; any of them may vanish early."""

    async def put(self, values: Sequence[tuple[str, bytes]], *, ttl_seconds: float) -> None:
        """Sets values."""
        ...

    async def get(self, key: str) -> bytes | None:
        """The value, or None when it is not there or no more."""
        ...


class Leases(Protocol):
    """Locks with a deadline, for efficiency only: what protects data is the ledger's fencing token."""

    async def acquire(self, name: str, *, holder: str, ttl_seconds: float) -> bool:
        """Takes or renews the lease; False when another holder has it."""
        ...

    async def release(self, name: str, *, holder: str) -> None:
        """Gives the lease up, if this holder has it."""
        ...


class Shared(Protocol):
    """The three of them, from one engine."""

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
