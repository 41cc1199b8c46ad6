"""The registry of instances: who is running, where, and whether it can serve.

A hint like all shared state: an instance that is listed may have just died, one that is missing may be there. None of the
calls raises because the engine is away, and each returns within `fieldpost.ports.shared.PATIENCE_SECONDS`.
"""

from collections.abc import Sequence
from typing import Protocol

from fieldpost.messages.instances import Instance


class Instances(Protocol):
    """Each instance announces itself every few seconds, and is gone when it has not for its time to live."""

    async def announce(self, instance: Instance, *, ttl_seconds: float) -> None:
        """Writes the instance down, or down anew; not, when the engine is away: announce again."""
        ...

    async def withdraw(self, instance_id: str) -> None:
        """Takes the instance off at once; when the engine is away, it stays until its time to live is over."""
        ...

    async def list(self, role: str | None = None) -> Sequence[Instance]:
        """Those of a role, or all, by id.

        While the engine is away: those that were last heard of, however long ago. An engine that comes back without its
        memory knows of nobody until they have announced themselves again: one short list is no reason to act. What cannot
        be read, such as an entry of another version, is left out.
        """
        ...
