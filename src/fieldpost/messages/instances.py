"""What an instance tells of itself in the registry: where it is, what it does, whether it can serve."""

from datetime import datetime

import msgspec


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One running process of a role."""

    #: Its own, never used again: a restarted process is another instance.
    id: str
    role: str
    #: Where its HTTP is reached by others; port 0 where it has none.
    host: str
    port: int
    started_at: datetime
    #: What its /ready says: false while its engines are away or while it drains.
    is_ready: bool = False
    #: The process, on its host.
    pid: int = 0
