"""The frames of `/v1/stream`: JSON text, told apart by `type`. See docs/reference/websocket.md."""

from typing import Annotated
from uuid import UUID

import msgspec

from fieldpost.messages.requests import IdempotencyKey, RequestBody, RequestState
from fieldpost.messages.responses import Problem

#: Ids one `Ack` frame may carry.
MAX_ACK_IDS = 1000

#: What a ping may carry.
Nonce = Annotated[str, msgspec.Meta(max_length=128)]


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True, omit_defaults=True):
    """Server: the session begins; `responses` were missed, oldest completion first, `next` asks for the following page."""

    device_id: int
    session: str
    responses: tuple[msgspec.Raw, ...] = ()
    next: str | None = None
    heartbeat_seconds: float = 25.0


class HelloPage(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="Hello", forbid_unknown_fields=True):
    """Device: sends the page of missed answers after `after` (a `Hello`'s `next`)."""

    after: str


class RequestFrame(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="Request",
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """Device: posts a request; `ref` is echoed in `Accepted` or `Rejected`."""

    ref: IdempotencyKey
    body: RequestBody
    #: W3C trace context; one that is not valid is ignored.
    traceparent: str | None = None


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True, omit_defaults=True):
    """Server: the request is safe on disk."""

    ref: str
    request_id: UUID
    #: W3C trace context, under which the request goes on; empty from servers that have none.
    traceparent: str = ""
    #: Where it stands, of a request that was posted before; left out while it is queued.
    status: RequestState = RequestState.QUEUED


class Rejected(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True, omit_defaults=True):
    """Server: the frame was refused; `problem` says why, `ref` which request, when it could be read."""

    problem: Problem
    ref: str | None = None
    retry_after_seconds: float | None = None


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True, forbid_unknown_fields=True):
    """Device: cancels a request. Server: echoes it with the state that resulted."""

    request_id: UUID


class Cancelled(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="Cancel"):
    """Server: what became of a `Cancel`."""

    request_id: UUID
    status: RequestState


class ResponseChunkFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="ResponseChunk"):
    """Server: a piece of an answer in the making; another `attempt` starts it anew."""

    request_id: UUID
    attempt: int
    index: int
    text: str


class ResponseReadyFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="ResponseReady"):
    """Server: the final answer; comes again after a reconnect until acknowledged."""

    response: msgspec.Raw


class BroadcastFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="Broadcast"):
    """Server: an operator tells this device something; comes at most once to a connection, and is not acknowledged."""

    broadcast_id: UUID
    text: str


class Ack(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True, forbid_unknown_fields=True):
    """Device: has these answers."""

    request_ids: tuple[UUID, ...]


class Acked(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """Server: the acknowledgement is recorded; none of these comes again."""

    request_ids: tuple[UUID, ...]


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True, omit_defaults=True):
    """Either side: are you there?"""

    nonce: Nonce | None = None


class Pong(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True, omit_defaults=True):
    """Either side: yes, with the ping's nonce."""

    nonce: Nonce | None = None


class Draining(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """Server: this instance leaves; reconnect after `reconnect_seconds`."""

    reconnect_seconds: float


#: What a device may send.
DeviceFrame = HelloPage | RequestFrame | Cancel | Ack | Ping | Pong
#: What the server sends.
ServerFrame = (
    Hello
    | Accepted
    | Rejected
    | Cancelled
    | ResponseChunkFrame
    | ResponseReadyFrame
    | BroadcastFrame
    | Acked
    | Ping
    | Pong
    | Draining
)
