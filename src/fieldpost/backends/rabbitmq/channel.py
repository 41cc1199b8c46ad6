"""One channel of a connection: calls one at a time, deliveries and confirms as they come, and its end told once."""

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

import pamqp.frame
from pamqp import base, commands

from fieldpost.backends.rabbitmq import frames

F = TypeVar("F", bound=base.Frame)

#: Every call is answered by then, or the channel is given up.
CALL_SECONDS = 5.0


class LostError(Exception):
    """The channel or its connection has ended, or what it was asked is not answered."""


class RefusedError(LostError):
    """The broker ended the channel and said why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code


class Connection(Protocol):
    """What a channel needs of its connection."""

    max_frame: int

    def write(self, data: bytes) -> None:
        """Sends soon, in order."""
        ...

    def forget(self, number: int) -> None:
        """The broker knows no such channel any more."""
        ...


def _ignore(*_: object) -> None:
    return


class Channel:
    """Callbacks are set by whoever opens it; after its end none is called but `on_lost`, once."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.is_open = True
        #: Set when the broker knows no such channel any more.
        self.gone = asyncio.Event()
        #: Consumer tag, delivery tag, body.
        self.on_delivery: Callable[[str, int, bytes], None] = _ignore
        #: Consumer tag of a consumer that the broker ended.
        self.on_cancel: Callable[[str], None] = _ignore
        #: Number, whether all before it too, whether it was taken.
        self.on_confirm: Callable[[int, bool, bool], None] = _ignore
        #: Number of a message that no queue takes.
        self.on_return: Callable[[int], None] = _ignore
        self.on_lost: Callable[[LostError], None] = _ignore
        self._error: LostError | None = None
        self._calling = asyncio.Lock()
        self._question: base.Frame | None = None
        self._answer: asyncio.Future[base.Frame] | None = None
        #: What the content that is coming belongs to; None for a returned message.
        self._delivered: tuple[str, int] | None = None
        self._size_left = 0
        self._parts: list[bytes] = []

    async def call(self, question: base.Frame, answer: type[F], *, seconds: float = CALL_SECONDS) -> F:
        """Asks and returns the answer.

        Cancel: ends the channel, because the answer may still come and would be taken for another's.

        Raises:
            RefusedError: the broker refused, which ends the channel.
            LostError: no answer in time, which ends it too.
        """
        try:
            async with asyncio.timeout(seconds), self._calling:
                reply = await self._ask(question)
        except TimeoutError:
            raise LostError(f"{question.name} was not answered within {seconds} s") from None
        if not isinstance(reply, answer):
            self.close()
            raise LostError(f"{question.name} was answered by {reply.name}")
        return reply

    def send(self, data: bytes) -> None:
        """Sends what has no answer; nothing once the channel has ended."""
        if self.is_open:
            self.connection.write(data)

    def close(self, reason: str = "closed") -> None:
        """Ends it; what was delivered on it and not acknowledged is put back by the broker."""
        if self.is_open:
            self._write(commands.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
            self.lose(LostError(reason))

    def lose(self, error: LostError) -> None:
        """It has ended."""
        if not self.is_open:
            return
        self.is_open = False
        self._error = error
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.on_lost(error)

    def on_frame(self, kind: int, frame: bytes) -> None:
        """Takes a frame in."""
        payload = frame[7:-1]
        if kind == frames.METHOD:
            self._on_method(payload, frame)
        elif not self.is_open:
            return
        elif kind == frames.HEADER:
            self._size_left = frames.read_header(payload)
            if self._delivered is None:
                self.on_return(frames.read_number(payload))
            elif self._size_left == 0:
                self._deliver()
        elif kind == frames.BODY and self._delivered is not None:
            self._parts.append(payload)
            self._size_left -= len(payload)
            if self._size_left <= 0:
                self._deliver()

    async def _ask(self, question: base.Frame) -> base.Frame:
        if not self.is_open:
            raise self._error or LostError("ended")
        self._question = question
        self._answer = asyncio.get_running_loop().create_future()
        self._write(question)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.close(f"{question.name} was given up")
            raise
        finally:
            self._question = self._answer = None

    def _on_method(self, payload: bytes, frame: bytes) -> None:
        match payload[:4]:
            case frames.DELIVER_METHOD:
                self._delivered = frames.read_deliver(payload)
            case frames.ACK_METHOD:
                if self.is_open:
                    self.on_confirm(*frames.read_confirm(payload), True)
            case frames.NACK_METHOD:
                if self.is_open:
                    self.on_confirm(*frames.read_confirm(payload), False)
            case frames.RETURN_METHOD:
                self._delivered = None
            case _:
                self._on_rare(pamqp.frame.unmarshal(frame)[2])

    def _on_rare(self, method: object) -> None:
        match method:
            case commands.Channel.Close():
                self._write(commands.Channel.CloseOk())
                self._forget()
                self.lose(RefusedError(method.reply_code or 0, method.reply_text))
            case commands.Channel.CloseOk():
                self._forget()
            case commands.Basic.Cancel():
                if self.is_open:
                    self.on_cancel(method.consumer_tag or "")
            case base.Frame() if self._answer is not None and self._question is not None:
                if method.name in self._question.valid_responses and not self._answer.done():
                    self._answer.set_result(method)

    def _forget(self) -> None:
        self.connection.forget(self.number)
        self.gone.set()

    def _deliver(self) -> None:
        assert self._delivered is not None
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self.on_delivery(*self._delivered, body)

    def _write(self, method: base.Frame) -> None:
        self.connection.write(pamqp.frame.marshal(method, self.number))
