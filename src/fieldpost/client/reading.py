"""Reads what the server sends over `/v1/stream`, also by a server that is newer than this client."""

import msgspec

from fieldpost.errors import CorruptDataError
from fieldpost.messages import frames
from fieldpost.messages.responses import Response

_decode = msgspec.json.Decoder(frames.ServerFrame).decode
_decode_response = msgspec.json.Decoder(Response).decode


class _Tag(msgspec.Struct):
    """What is needed of a frame to see whether it is of a kind that came later than this client."""

    type: str


_KNOWN_TAGS = frozenset(str(cls.__struct_config__.tag) for cls in frames.ServerFrame.__args__)


def read_frame(text: bytes) -> frames.ServerFrame | None:
    """The frame; None for a kind that this client does not know.

    Raises:
        CorruptDataError: it cannot be read.
    """
    try:
        frame: frames.ServerFrame = _decode(text)
    except msgspec.MsgspecError as error:
        if _tag_of(text) not in _KNOWN_TAGS:
            return None
        raise CorruptDataError(f"the server sent a frame that cannot be read: {error}") from error
    return frame


def _tag_of(text: bytes) -> str:
    try:
        return msgspec.json.decode(text, type=_Tag).type
    except msgspec.MsgspecError as error:
        raise CorruptDataError(f"the server sent a frame that cannot be read: {error}") from error


def read_response(body: msgspec.Raw) -> Response:
    """The answer in a frame.

    Raises:
        CorruptDataError: it cannot be read.
    """
    try:
        return _decode_response(body)
    except msgspec.MsgspecError as error:
        raise CorruptDataError(f"the server sent an answer that cannot be read: {error}") from error
