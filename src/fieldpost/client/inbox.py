"""What a listener has heard: each answer once to the application, each acknowledged until the server says so.

An answer is unread, then in the application's hands, then done (to be acknowledged), then forgotten: the server promises
that after `Acked` it does not come again. Knows nothing of sockets.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from enum import Enum, auto
from uuid import UUID

from fieldpost.messages.responses import Response


class _State(Enum):
    UNREAD = auto()
    IN_HAND = auto()
    DONE = auto()


class Inbox:
    """Answers of one device, over as many connections as it takes.

    Args:
        max_unread: past that `put` waits, and with it whoever reads the socket.
    """

    def __init__(self, max_unread: int) -> None:
        self._max_unread = max_unread
        self._unread: deque[Response] = deque()
        self._states: dict[UUID, _State] = {}
        #: Done, and not told to the server on this connection.
        self._due: dict[UUID, None] = {}
        self._end: BaseException | None = None
        self._changed = asyncio.Condition()

    @property
    def is_read(self) -> bool:
        """Whether the application has taken everything."""
        return not self._unread

    async def put(self, response: Response) -> None:
        """Takes an answer in, unless it is here already; one that is done is acknowledged again. Cancel: safe."""
        state = self._states.get(response.request_id)
        if state is _State.DONE:
            self._due[response.request_id] = None
        if state is not None:
            return
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._unread) < self._max_unread)
            self._states[response.request_id] = _State.UNREAD
            self._unread.append(response)
            self._changed.notify_all()

    async def take(self) -> Response:
        """The oldest unread answer, now in the application's hands. Cancel: safe, nothing is lost.

        Raises:
            BaseException: what `end` was told, once everything is read.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._unread or self._end)
            if not self._unread:
                assert self._end is not None
                raise self._end
            response = self._unread.popleft()
            self._states[response.request_id] = _State.IN_HAND
            self._changed.notify_all()
            return response

    def finish(self, request_ids: Iterable[UUID]) -> None:
        """The application is done with these; what is not in its hands is left alone, so twice does no harm."""
        for request_id in request_ids:
            if self._states.get(request_id) is _State.IN_HAND:
                self._states[request_id] = _State.DONE
                self._due[request_id] = None

    def due(self, limit: int) -> list[UUID]:
        """Answers to acknowledge now; each is told once, until `repeat`."""
        told = list(self._due)[:limit]
        for request_id in told:
            del self._due[request_id]
        return told

    def repeat(self) -> None:
        """What was told is to be told again: over a new connection, or because it was refused."""
        self._due = {request_id: None for request_id, state in self._states.items() if state is _State.DONE}

    async def settle(self, request_ids: Iterable[UUID]) -> None:
        """The server has recorded these acknowledgements."""
        async with self._changed:
            for request_id in request_ids:
                if self._states.get(request_id) is _State.DONE:
                    del self._states[request_id]
                    self._due.pop(request_id, None)
            self._changed.notify_all()

    async def settled(self) -> None:
        """Returns when nothing that is done is without its `Acked`.

        Raises:
            BaseException: what `end` was told.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._end or _State.DONE not in self._states.values())
            if self._end is not None:
                raise self._end

    async def end(self, error: BaseException) -> None:
        """Nothing more will come."""
        async with self._changed:
            self._end = self._end or error
            self._changed.notify_all()
