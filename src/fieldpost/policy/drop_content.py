"""What a dropped file asks, by its name and content. Pure; knows nothing of where files lie."""

from enum import StrEnum

import msgspec

from fieldpost.errors import ConflictError, InvalidRequestError, UnsupportedMediaTypeError
from fieldpost.messages.requests import Envelope, Input
from fieldpost.policy.settling import is_conflict_copy

#: What some editors put before UTF-8.
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_decode = msgspec.json.Decoder(Envelope).decode


class DropKind(StrEnum):
    """How a file's content is read."""

    #: A request as posted to `POST /v1/requests`.
    ENVELOPE = "envelope"
    #: The prompt, nothing else.
    PROMPT = "prompt"


def kind_of(name: str) -> DropKind:
    """What a file is by its name.

    Raises:
        RejectedError: no file of such a name is ever taken.

    >>> [kind_of(name).value for name in ("a.json", "b.TXT", "c.md")]
    ['envelope', 'prompt', 'prompt']
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError("the file's name is not UTF-8") from error
    if is_conflict_copy(name):
        raise ConflictError("a sync client's conflict copy; look which one is right, and drop that under another name")
    match name.lower().rpartition("."):
        case (_, ".", "json"):
            return DropKind.ENVELOPE
        case (_, ".", "txt" | "md"):
            return DropKind.PROMPT
    raise UnsupportedMediaTypeError("drop a .txt or .md file with a prompt, or a .json file with a request")


def body_of(kind: DropKind, content: bytes) -> Envelope:
    """The request in a file.

    Raises:
        InvalidRequestError: not UTF-8, or nothing in it.
        msgspec.MsgspecError: an envelope that is no request; the caller knows the words for it.
    """
    return _envelope(content) if kind is DropKind.ENVELOPE else _prompt(content)


def _envelope(content: bytes) -> Envelope:
    try:
        return _decode(content.removeprefix(_BYTE_ORDER_MARK))
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"not UTF-8 at byte {error.start}") from error
    except RecursionError:
        raise InvalidRequestError("nested too deeply") from None


def _prompt(content: bytes) -> Envelope:
    try:
        text = content.removeprefix(_BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"not UTF-8 at byte {error.start}") from error
    if "\0" in text:
        raise InvalidRequestError("a NUL character in a text")
    if not text.strip():
        raise InvalidRequestError("nothing is asked: the file is empty")
    return Envelope(input=Input(prompt=text))
