"""How a WebSocket's frames are worded: what a feed brings, and the greeting."""

import secrets
from uuid import UUID

import msgspec

from fieldpost.messages import frames
from fieldpost.messages.cursors import write_cursor
from fieldpost.messages.events import Broadcast, ResponseChunk
from fieldpost.roles.hub.feed import Page
from fieldpost.roles.hub.session import Session

encode = msgspec.json.Encoder().encode


class FrameVoice:
    """Answers as frames."""

    def answer(self, request_id: UUID, body: bytes) -> bytes:  # noqa: ARG002 the body names it
        """A `ResponseReady`."""
        return b'{"type":"ResponseReady","response":' + body + b"}"

    def chunk(self, chunk: ResponseChunk) -> bytes:
        """A `ResponseChunk`."""
        return encode(
            frames.ResponseChunkFrame(
                request_id=chunk.request_id, attempt=chunk.attempt, index=chunk.index, text=chunk.text
            )
        )

    def broadcast(self, broadcast: Broadcast) -> bytes:
        """A `Broadcast`."""
        return encode(frames.BroadcastFrame(broadcast_id=broadcast.broadcast_id, text=broadcast.text))

    def leaving(self, reconnect_seconds: float) -> bytes:
        """A `Draining`."""
        return encode(frames.Draining(reconnect_seconds=reconnect_seconds))


def hello(session: Session, page: Page, *, heartbeat_seconds: float) -> bytes:
    """A `Hello` with what of the page is on its way still: what was acknowledged while the frame waited is left out."""
    window = session.feed.window
    there = [answer.body for answer in page.answers if window.is_on_its_way(answer.request_id)]
    return encode(
        frames.Hello(
            device_id=session.device_id,
            session=secrets.token_hex(8),
            responses=tuple(msgspec.Raw(body) for body in there),
            next=None if page.last is None else write_cursor(*page.last),
            heartbeat_seconds=heartbeat_seconds,
        )
    )
