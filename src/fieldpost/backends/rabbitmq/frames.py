"""The frames of AMQP 0-9-1 that every message passes through, written and read by hand; pamqp does the rare ones.

Source: AMQP 0-9-1, 2.3.5 and 4.2.
"""

import struct
from collections.abc import Iterator

METHOD, HEADER, BODY, HEARTBEAT_KIND = 1, 2, 3, 8
#: Before and after a frame's payload.
OVERHEAD_BYTES = 8
END = 0xCE
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"

FRAME = struct.Struct(">BHI")
#: Type, channel and length; class, weight and size of the body; which properties; delivery mode; length of message id.
_HEADER = struct.Struct(">BHIHHQHBB")
_ACK = struct.Struct(">BHIHHQBB")
_NACK = struct.Struct(">BHIHHQBB")
_TAG_AND_BITS = struct.Struct(">QB")
_SIZE = struct.Struct(">Q")
#: As `_HEADER`, up to its properties, the first of which is the table of headers.
_HEADER_WITH_TABLE = struct.Struct(">BHIHHQHI")
#: Length of the value, after its name and type.
_STRING = struct.Struct(">I")

_BASIC = 60
_END = bytes([END])
#: Delivery mode and message id.
_PROPERTIES = 0x1080
_PERSISTENT = 2
_HEADERS = 0x2000
_TRACEPARENT = b"\x0btraceparentS"
_ID_BYTES = 16
_HEADER_PAYLOAD = 16 + _ID_BYTES
_ACK_PAYLOAD = 13
_REQUEUE, _MULTIPLE = 0b10, 0b01

DELIVER_METHOD = b"\x00\x3c\x00\x3c"
RETURN_METHOD = b"\x00\x3c\x00\x32"
ACK_METHOD = b"\x00\x3c\x00\x50"
NACK_METHOD = b"\x00\x3c\x00\x78"


def content(channel: int, number: int, body: bytes, max_frame: int, traceparent: str = "") -> Iterator[bytes]:
    """Header and body of a persistent message; its number is its message id, so that a returned one can be told.

    Args:
        traceparent: W3C trace context, which becomes a header of that name.
    """
    if traceparent:
        yield _header_with(traceparent.encode("ascii"), channel, len(body)) + b"%016x\xce" % number
    else:
        yield (
            _HEADER.pack(HEADER, channel, _HEADER_PAYLOAD, _BASIC, 0, len(body), _PROPERTIES, _PERSISTENT, _ID_BYTES)
            + b"%016x\xce" % number
        )
    room = max_frame - OVERHEAD_BYTES
    for start in range(0, len(body), room):
        part = body[start : start + room] if len(body) > room else body
        yield FRAME.pack(BODY, channel, len(part))
        yield part
        yield _END


def ack(channel: int, tag: int, *, multiple: bool) -> bytes:
    """Acknowledges a delivery, or every one up to it."""
    return _ACK.pack(METHOD, channel, _ACK_PAYLOAD, _BASIC, 80, tag, int(multiple), END)


def requeue(channel: int, tag: int, *, multiple: bool) -> bytes:
    """Puts a delivery back, or every one up to it."""
    return _NACK.pack(METHOD, channel, _ACK_PAYLOAD, _BASIC, 120, tag, _REQUEUE | int(multiple), END)


def read_confirm(payload: bytes) -> tuple[int, bool]:
    """Number and `multiple` of an Ack or a Nack."""
    number, bits = _TAG_AND_BITS.unpack_from(payload, 4)
    return number, bool(bits & _MULTIPLE)


def read_deliver(payload: bytes) -> tuple[str, int]:
    """Consumer tag and delivery tag."""
    end = 5 + payload[4]
    return payload[5:end].decode(), _SIZE.unpack_from(payload, end)[0]


def read_header(payload: bytes) -> int:
    """The size of the body, in bytes."""
    size: int = _SIZE.unpack_from(payload, 4)[0]
    return size


def read_number(payload: bytes) -> int:
    """The number of one of our own messages, from its header."""
    # The id is the last of the properties that ours have.
    return int(payload[-_ID_BYTES:], 16)


def _header_with(traceparent: bytes, channel: int, size_bytes: int) -> bytes:
    table = _TRACEPARENT + _STRING.pack(len(traceparent)) + traceparent
    payload_bytes = _HEADER_PAYLOAD + 4 + len(table)
    properties = _PROPERTIES | _HEADERS
    start = _HEADER_WITH_TABLE.pack(HEADER, channel, payload_bytes, _BASIC, 0, size_bytes, properties, len(table))
    return start + table + bytes((_PERSISTENT, _ID_BYTES))
