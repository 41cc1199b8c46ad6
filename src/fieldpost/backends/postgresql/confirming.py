"""Whether commits wait for a replica: as the setting asks, and as there are replicas to wait for."""

from typing import Literal

from sqlalchemy import Connection, text

from fieldpost.observability import get_logger

Synchronous = Literal["quorum", "wait", "off"]

#: A server whose last replica has gone waits for ever for it. Ending those waits makes the commits count without it:
#: what Patroni does by telling the server to wait for none.
_GO_ON = text(
    "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity"
    " WHERE usename = current_user AND wait_event = 'SyncRep' AND pid <> pg_backend_pid()"
)
_REPLICAS = text(
    "SELECT current_setting('synchronous_standby_names') <> '' AS waits,"
    " (SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum'))"
    " AS confirming"
)

log = get_logger()


class Confirming:
    """What one shard's writes ask of the server.

    - `quorum`: wait for a replica while there is one; without one go on, and say so.
    - `wait`: without a replica nothing is written.
    - `off`: never wait.
    """

    def __init__(self, mode: Synchronous, *, shard: str, has_agents: bool) -> None:
        self._mode = mode
        self._shard = shard
        #: An agent tells the server whom to wait for; nobody else decides that then.
        self._has_agents = has_agents
        self._is_alone: bool | None = None

    @property
    def is_alone(self) -> bool:
        """Whether commits are on one disk only."""
        return self._mode == "off" or self._is_alone is True

    @property
    def is_asked(self) -> bool:
        """Whether a commit that matters asks for a replica."""
        if self._mode == "off":
            return False
        return self._mode == "wait" or self._has_agents or self._is_alone is not True

    @property
    def must_have_replica(self) -> bool:
        """Whether a server that is told to wait for none is refused."""
        return self._mode == "wait"

    def look(self, connection: Connection) -> None:
        """Looks at the primary's replicas."""
        row = connection.execute(_REPLICAS).one()
        is_alone = not row.waits or row.confirming == 0
        if is_alone != self._is_alone and self._mode != "off":
            self._say(is_alone)
        self._is_alone = is_alone
        if row.waits and is_alone and self._mode == "quorum" and not self._has_agents:
            connection.execute(_GO_ON).all()

    def _say(self, is_alone: bool) -> None:
        if not is_alone:
            log.info("replicas_confirm", shard=self._shard)
        elif self._mode == "wait":
            log.error("no_replica_confirms_nothing_is_written", shard=self._shard)
        else:
            log.error("no_replica_confirms_one_disk_holds_everything", shard=self._shard)
