"""One plain connection to one RabbitMQ node: no reconnecting, no waiting, and it ends once for whatever reason.

Written on asyncio's transports instead of aio-pika's connections: see docs/decisions/0006-own-amqp-connection.md.
"""

import asyncio
import contextlib
import ssl
from typing import Any, cast

import pamqp.frame
from pamqp import commands, header

from fieldpost.backends.addresses import Node
from fieldpost.backends.rabbitmq import frames
from fieldpost.backends.rabbitmq.address import Address
from fieldpost.backends.rabbitmq.channel import CALL_SECONDS, Channel, LostError

#: From the first packet to a connection that can be used.
CONNECT_SECONDS = 5.0
#: Agreed with the broker; a peer that says nothing for twice as long is gone.
HEARTBEAT_SECONDS = 5
_MAX_FRAME_BYTES = 131_072
_CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}


class Wire(asyncio.Protocol):
    """A connection, after `connect`."""

    def __init__(self, address: Address, name: str) -> None:
        self.max_frame = _MAX_FRAME_BYTES
        #: Why the broker takes no publishes now, in its own words; empty while it does.
        self.blocked = ""
        #: Set when it has ended; `error` says why.
        self.closed = asyncio.Event()
        self.error: LostError | None = None
        self._address = address
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._ready: asyncio.Future[None] = self._loop.create_future()
        # Its error is told by `error` too: nobody needs to ask.
        self._ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())
        self._channels: dict[int, Channel] = {}
        self._max_channels = 2047
        self._heartbeat_seconds = HEARTBEAT_SECONDS
        self._heard_at = self._loop.time()
        self._rest = b""
        self._out: list[bytes] = []
        self._beat: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self.error is None

    @property
    def silent_seconds(self) -> float:
        """How long nothing has come from the broker."""
        return self._loop.time() - self._heard_at

    @property
    def unsent_bytes(self) -> int:
        """What waits for the network."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    async def open_channel(self) -> Channel:
        """A new channel.

        Raises:
            LostError: it cannot be opened.
        """
        if self.error is not None:
            raise self.error
        number = next((n for n in range(1, self._max_channels) if n not in self._channels), None)
        if number is None:
            raise LostError("too many channels")
        channel = self._channels[number] = Channel(self, number)
        await channel.call(commands.Channel.Open(), commands.Channel.OpenOk)
        return channel

    def forget(self, number: int) -> None:
        """Frees a channel's number."""
        self._channels.pop(number, None)

    def write(self, data: bytes) -> None:
        """Sends with all else that is written in this turn of the loop."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def abort(self, reason: str) -> None:
        """Ends it at once; the broker puts back what it had delivered."""
        self._end(LostError(reason))

    async def close(self) -> None:
        """Ends it in order, but waits for no broker that does not answer."""
        if self.error is None:
            goodbye = commands.Connection.Close(reply_code=200, reply_text="", class_id=0, method_id=0)
            self.write(pamqp.frame.marshal(goodbye, 0))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CALL_SECONDS / 5):
                    await self.closed.wait()
        self.abort("closed")

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every event loop's transports say that they are ones.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(header.ProtocolHeader().marshal())

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(LostError(f"the connection broke: {exc}" if exc else "the broker closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        data = self._rest + data if self._rest else data
        start, size = 0, len(data)
        while size - start >= frames.OVERHEAD_BYTES:
            kind, number, length = frames.FRAME.unpack_from(data, start)
            end = start + length + frames.OVERHEAD_BYTES
            if kind > frames.HEARTBEAT_KIND or length > self.max_frame:
                self.abort("this is no AMQP 0-9-1")
                return
            if end > size:
                break
            self._on_frame(kind, number, data[start:end])
            start = end
        self._rest = data[start:]

    async def ready(self) -> None:
        """Returns when the broker has let us in."""
        await self._ready

    def _on_frame(self, kind: int, number: int, frame: bytes) -> None:
        if frame[-1] != frames.END:
            self.abort("a frame does not end where it should")
        elif number:
            channel = self._channels.get(number)
            if channel is not None:
                channel.on_frame(kind, frame)
        elif kind == frames.METHOD:
            self._on_method(pamqp.frame.unmarshal(frame)[2])

    def _on_method(self, method: object) -> None:
        match method:
            case commands.Connection.Start():
                self._send(commands.Connection.StartOk(client_properties=self._properties(), response=self._secret()))
            case commands.Connection.Tune():
                self._tune(method)
                self._send(commands.Connection.Open(virtual_host=self._address.vhost))
            case commands.Connection.OpenOk():
                self._beat = self._loop.call_later(self._heartbeat_seconds / 2, self._keep_alive)
                if not self._ready.done():
                    self._ready.set_result(None)
            case commands.Connection.Blocked():
                self.blocked = method.reason or "blocked"
            case commands.Connection.Unblocked():
                self.blocked = ""
            case commands.Connection.Close():
                self._send(commands.Connection.CloseOk())
                self._flush()
                self.abort(f"{method.reply_code} {method.reply_text}")
            case commands.Connection.CloseOk():
                self.abort("closed")

    def _tune(self, asked: commands.Connection.Tune) -> None:
        self.max_frame = min(asked.frame_max or _MAX_FRAME_BYTES, _MAX_FRAME_BYTES)
        self._max_channels = asked.channel_max or self._max_channels
        self._heartbeat_seconds = min(asked.heartbeat or HEARTBEAT_SECONDS, HEARTBEAT_SECONDS)
        self._send(
            commands.Connection.TuneOk(
                channel_max=self._max_channels, frame_max=self.max_frame, heartbeat=self._heartbeat_seconds
            )
        )

    def _properties(self) -> dict[str, Any]:
        return {"product": "Fieldpost", "connection_name": self._name, "capabilities": _CAPABILITIES}

    def _secret(self) -> str:
        return f"\0{self._address.user}\0{self._address.password}"

    def _send(self, method: Any) -> None:
        self.write(pamqp.frame.marshal(method, 0))

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and self.error is None:
            self._transport.write(b"".join(out))

    def _keep_alive(self) -> None:
        if self.silent_seconds > 2 * self._heartbeat_seconds:
            self.abort(f"the broker said nothing for {self.silent_seconds:.0f} s")
        else:
            self.write(frames.HEARTBEAT)
            self._beat = self._loop.call_later(self._heartbeat_seconds / 2, self._keep_alive)

    def _end(self, error: LostError) -> None:
        if self.error is not None:
            return
        self.error = error
        if self._beat is not None:
            self._beat.cancel()
        if self._transport is not None:
            # What was not sent is not sent any more: nobody waits for it to be.
            self._transport.abort()
        if not self._ready.done():
            self._ready.set_exception(error)
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            channel.lose(error)
            channel.gone.set()
        self.closed.set()


async def connect(address: Address, node: Node, *, name: str) -> Wire:
    """A connection to one node.

    Raises:
        LostError: there is none; the reason says why.
    """
    context = ssl.create_default_context() if address.is_encrypted else None
    wire = Wire(address, name)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.get_running_loop().create_connection(lambda: wire, node.host, node.port, ssl=context)
            await wire.ready()
    except (OSError, TimeoutError) as error:
        wire.abort("not connected")
        raise LostError(f"{node}: {error!r}") from error
    except BaseException:
        wire.abort("not connected")
        raise
    return wire
