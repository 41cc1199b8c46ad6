"""The one reconnect loop: keeps one connection to some node of the cluster, and tells who waits for one."""

import asyncio
import random

from fieldpost.backends.addresses import Node
from fieldpost.backends.rabbitmq.address import Address
from fieldpost.backends.rabbitmq.channel import LostError
from fieldpost.backends.rabbitmq.wire import Wire, connect
from fieldpost.clock import Clock
from fieldpost.errors import BackendUnavailableError
from fieldpost.observability import get_logger
from fieldpost.policy.backoff import delay_seconds

#: After every node was tried in vain: 0.1, 0.2 … 3 s and a part of it, so that a fleet does not come back all at once.
_FIRST_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 3.0
#: A connection that lived shorter counts as a try in vain.
_MIN_LIFE_SECONDS = 1.0

log = get_logger()


class Link:
    """A connection that comes back, each time to the next node; `run` keeps it.

    Args:
        name: what the broker's own pages call the connection.
    """

    def __init__(self, address: Address, *, clock: Clock, source: random.Random, name: str) -> None:
        self._address = address
        self._clock = clock
        self._source = source
        self._name = name
        self._nodes = list(address.nodes)
        # Processes that start together do not all go to the first node.
        source.shuffle(self._nodes)
        self._wire: Wire | None = None
        self._changed = asyncio.Event()

    @property
    def wire(self) -> Wire | None:
        """The connection that can be used now."""
        return self._wire if self._wire is not None and self._wire.is_open else None

    async def connected(self) -> Wire:
        """Waits for a connection, however long that takes."""
        while True:
            if self.wire is not None:
                return self.wire
            self._changed.clear()
            await self._changed.wait()

    async def within(self, seconds: float) -> Wire:
        """Waits a little for a connection.

        Raises:
            BackendUnavailableError: there is none.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self.connected()
        except TimeoutError:
            raise BackendUnavailableError("no node of the broker can be reached") from None

    async def run(self) -> None:
        """Connects, and again whenever the connection ends, until cancelled."""
        failures = 0
        while True:
            node = self._nodes.pop(0)
            self._nodes.append(node)
            started = self._clock.monotonic()
            try:
                await self._hold(node)
            except LostError as error:
                log.warning("broker_connection_lost", connection=self._name, node=str(node), reason=str(error))
            is_short = self._clock.monotonic() - started < _MIN_LIFE_SECONDS
            failures = failures + 1 if is_short else 0
            rounds, place = divmod(failures, len(self._nodes))
            if rounds and not place:
                await self._clock.sleep(
                    delay_seconds(
                        rounds,
                        source=self._source,
                        first_seconds=_FIRST_PAUSE_SECONDS,
                        cap_seconds=_MAX_PAUSE_SECONDS,
                    )
                )

    async def _hold(self, node: Node) -> None:
        wire = await connect(self._address, node, name=self._name)
        try:
            self._wire = wire
            self._changed.set()
            log.info("broker_connected", connection=self._name, node=str(node))
            await wire.closed.wait()
            raise wire.error or LostError("ended")
        finally:
            self._wire = None
            await wire.close()
