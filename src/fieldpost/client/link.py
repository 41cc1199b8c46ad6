"""Keeps one device connected: the one reconnect loop, and the frames of `/v1/stream` in both directions.

Answers go into the `Inbox`; what is posted waits for its `Accepted` here. Deciding what to do with either is the stream's.
"""

import asyncio
import copy
import secrets
from collections import deque
from collections.abc import Callable
from uuid import UUID

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from fieldpost.client.address import Address
from fieldpost.client.dialing import dial
from fieldpost.client.inbox import Inbox
from fieldpost.client.problems import error_of
from fieldpost.client.reading import read_frame, read_response
from fieldpost.client.retrying import Retrying
from fieldpost.errors import (
    ConnectionLostError,
    DrainingError,
    FieldpostError,
    OutcomeUnknownError,
    RequestTooLargeError,
    UnreachableError,
)
from fieldpost.messages import frames
from fieldpost.messages.requests import RequestBody

#: How long a post waits for a connection, and then for its outcome, before that counts as a failed try.
CONNECTED_SECONDS = 10.0
OUTCOME_SECONDS = 30.0
#: The largest frame that a server takes.
MAX_REQUEST_BYTES = 2**20
#: Pings that may wait for their pong.
_MAX_PINGS = 16

_encode = msgspec.json.Encoder().encode

#: Hears pieces of answers in the making.
OnChunk = Callable[[frames.ResponseChunkFrame], None]
#: Hears what operators tell.
OnBroadcast = Callable[[frames.BroadcastFrame], None]
#: Hears why there is no connection, each time that one is lost or cannot be made.
OnTrouble = Callable[[FieldpostError], None]


class Link:
    """One device's connection, made anew as often as it takes."""

    def __init__(
        self,
        address: Address,
        *,
        inbox: Inbox,
        retrying: Retrying,
        on_trouble: OnTrouble | None,
        on_chunk: OnChunk | None = None,
        on_broadcast: OnBroadcast | None = None,
    ) -> None:
        self._address = address
        self._inbox = inbox
        self._retrying = retrying
        self._on_trouble = on_trouble
        self._on_chunk = on_chunk or _unheard
        self._on_broadcast = on_broadcast or _unheard
        self._socket: ClientConnection | None = None
        #: Connected, or never again.
        self._is_decided = asyncio.Event()
        self._end: BaseException | None = None
        self._trouble: FieldpostError | None = None
        self._open: dict[str, asyncio.Future[UUID]] = {}
        self._to_write = asyncio.Event()
        self._pongs: deque[str | None] = deque(maxlen=_MAX_PINGS)
        self._next_page: str | None = None
        self._hold_seconds = 0.0

    def wake(self) -> None:
        """There is something to tell the server: an acknowledgement, or that there is room for another page."""
        self._to_write.set()

    async def run(self) -> None:
        """Connects again for ever, until cancelled or refused."""
        failures = 0
        while self._end is None:
            was_greeted, error = await self._connection()
            if not error.retryable:
                await self.end(error)
                return
            self._trouble = error
            if self._on_trouble is not None:
                self._on_trouble(error)
            failures = 1 if was_greeted else failures + 1
            if isinstance(error, DrainingError) and was_greeted:
                # The server spreads its devices itself.
                await self._retrying.clock.sleep(error.retry_after_seconds)
            else:
                await self._retrying.clock.sleep(self._retrying.delay_after(error, failures))

    async def end(self, error: BaseException) -> None:
        """Whoever waits here, now or later, is told this; what came first counts."""
        self._end = self._end or error
        self._is_decided.set()
        self._drop(self._end)
        await self._inbox.end(self._end)

    async def request(self, body: RequestBody, *, traceparent: str = "") -> UUID:
        """Posts once over the connection; the id when the request is accepted.

        Raises:
            UnreachableError: there is no connection.
            OutcomeUnknownError: it was lost in between, or nothing came back.
            FieldpostError: refused.
        """
        ref = secrets.token_hex(8)
        frame = _encode(frames.RequestFrame(ref=ref, body=body, traceparent=traceparent or None))
        if len(frame) > MAX_REQUEST_BYTES:
            raise RequestTooLargeError(f"{len(frame)} bytes; a frame holds {MAX_REQUEST_BYTES}")
        socket = await self._connected()
        accepted: asyncio.Future[UUID] = asyncio.get_running_loop().create_future()
        self._open[ref] = accepted
        try:
            async with asyncio.timeout(OUTCOME_SECONDS):
                await socket.send(frame, text=True)
                return await accepted
        except TimeoutError:
            raise OutcomeUnknownError(f"no answer from {self._address.url} in {OUTCOME_SECONDS:.0f} s") from None
        except ConnectionClosed as error:
            raise OutcomeUnknownError(f"the connection was lost: {error}") from error
        finally:
            self._open.pop(ref, None)

    async def _connected(self) -> ClientConnection:
        try:
            async with asyncio.timeout(CONNECTED_SECONDS):
                await self._is_decided.wait()
        except TimeoutError:
            raise UnreachableError(str(self._trouble or self._address.url)) from None
        if self._end is not None:
            # Each waiter names its own request in the error.
            raise copy.copy(self._end)
        assert self._socket is not None
        return self._socket

    # One connection

    async def _connection(self) -> tuple[bool, FieldpostError]:
        """From the handshake to the end: whether `Hello` came, and why it ended."""
        error: FieldpostError
        try:
            async with dial(self._address) as socket, asyncio.TaskGroup() as tasks:
                self._start()
                writing = tasks.create_task(self._write(socket))
                error = await self._read(socket)
                writing.cancel()
        except FieldpostError as refused:
            error = refused
        was_greeted, self._socket = self._socket is not None, None
        self._is_decided.clear()
        self._drop(OutcomeUnknownError(f"{error.title} {error.detail}".strip()))
        return was_greeted, error

    def _start(self) -> None:
        """Nothing of the last connection counts, except what is done and not yet `Acked`."""
        self._pongs.clear()
        self._next_page = None
        self._hold_seconds = 0.0
        self._inbox.repeat()
        self.wake()

    def _drop(self, error: BaseException) -> None:
        for accepted in self._open.values():
            if not accepted.done():
                accepted.set_exception(copy.copy(error))

    async def _read(self, socket: ClientConnection) -> FieldpostError:
        leaving: FieldpostError | None = None
        while True:
            try:
                frame = read_frame(await socket.recv(decode=False))
                if isinstance(frame, frames.Draining):
                    leaving = DrainingError("the server leaves", retry_after_seconds=frame.reconnect_seconds)
                elif frame is not None:
                    await self._take(frame, socket)
            except ConnectionClosed as error:
                return leaving or ConnectionLostError(str(error))
            except FieldpostError as error:
                return error

    async def _take(self, frame: frames.ServerFrame, socket: ClientConnection) -> None:
        match frame:
            case frames.Hello():
                await self._greet(frame, socket)
            case frames.ResponseReadyFrame():
                await self._inbox.put(read_response(frame.response))
            case frames.ResponseChunkFrame():
                self._on_chunk(frame)
                return
            case frames.BroadcastFrame():
                self._on_broadcast(frame)
                return
            case frames.Accepted():
                self._settle(frame.ref, frame.request_id)
            case frames.Rejected():
                self._reject(frame)
            case frames.Acked():
                await self._inbox.settle(frame.request_ids)
            case frames.Ping():
                self._pongs.append(frame.nonce)
            case _:
                return
        self.wake()

    async def _greet(self, hello: frames.Hello, socket: ClientConnection) -> None:
        self._socket = socket
        self._is_decided.set()
        for response in hello.responses:
            await self._inbox.put(read_response(response))
        self._next_page = hello.next

    def _settle(self, ref: str, request_id: UUID) -> None:
        accepted = self._open.get(ref)
        if accepted is not None and not accepted.done():
            accepted.set_result(request_id)

    def _reject(self, frame: frames.Rejected) -> None:
        error = error_of(frame.problem, retry_after_seconds=frame.retry_after_seconds)
        if frame.ref is None:
            if not error.retryable:
                raise error
            # An acknowledgement or a page was refused for now: everything that is due is told again later.
            self._hold_seconds = max(1.0, frame.retry_after_seconds or 0.0)
        elif (accepted := self._open.get(frame.ref)) is not None and not accepted.done():
            accepted.set_exception(error)

    async def _write(self, socket: ClientConnection) -> None:
        """Everything but requests is sent from here, so that reading never waits for writing."""
        try:
            while True:
                await self._to_write.wait()
                self._to_write.clear()
                if self._hold_seconds:
                    await self._retrying.clock.sleep(self._hold_seconds)
                    self._hold_seconds = 0.0
                    self._inbox.repeat()
                while (frame := self._due()) is not None:
                    await socket.send(_encode(frame), text=True)
        except ConnectionClosed:
            # The reader says why.
            return

    def _due(self) -> frames.DeviceFrame | None:
        if self._pongs:
            return frames.Pong(nonce=self._pongs.popleft())
        if told := self._inbox.due(frames.MAX_ACK_IDS):
            return frames.Ack(request_ids=tuple(told))
        if self._next_page is not None and self._inbox.is_read:
            page, self._next_page = frames.HelloPage(after=self._next_page), None
            return page
        return None


def _unheard(_frame: frames.ServerFrame) -> None:
    """Nobody wants to hear of it."""
