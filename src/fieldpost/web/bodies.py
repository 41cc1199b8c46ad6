"""Request bodies: read whole, within a bound of size, of time and of how many at once."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from weakref import WeakValueDictionary

from fieldpost.errors import MalformedRequestError, OverloadedError, RequestTooLargeError
from fieldpost.messages.devices import Credential
from fieldpost.messages.requests import MAX_BODY_BYTES
from fieldpost.web.operations import header
from fieldpost.web.problems import unsupported_encoding, unsupported_media_type

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

#: A body must be here within this time.
_BODY_SECONDS = 30.0
#: Bodies that come in several pieces, held at once; with the bound of one body this bounds the memory for all.
_MAX_LARGE = 64
#: How many of these may be one device's, so that a slow one is in nobody else's way; the next ones wait.
_MAX_LARGE_PER_DEVICE = 16


class Bodies:
    """Reads bodies for all endpoints of a process."""

    def __init__(self, *, max_large: int = _MAX_LARGE, max_large_per_device: int = _MAX_LARGE_PER_DEVICE) -> None:
        self._large = asyncio.Semaphore(max_large)
        self._max_large_per_device = max_large_per_device
        #: Of devices that have some in hand.
        self._shares: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()

    async def read(self, scope: Scope, receive: Receive, device: Credential | None) -> bytes:
        """The whole body.

        Raises:
            RequestTooLargeError: more than 1 MiB, whether it was announced or not.
            MalformedRequestError: it broke off or took too long.
            OverloadedError: too many others are being read.
        """
        announced = header(scope, b"content-length")
        if announced is not None and int(announced) > MAX_BODY_BYTES:
            raise RequestTooLargeError(f"{announced} bytes; {MAX_BODY_BYTES} at most")
        is_more = is_room = False
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                piece, is_more = await _piece(receive)
                if not is_more:
                    return piece
                async with self._share(device), self._large:
                    is_room = True
                    return await _rest(piece, receive)
        except TimeoutError:
            if is_more and not is_room:
                raise OverloadedError("too many large bodies at once") from None
            raise MalformedRequestError(f"the body did not come within {_BODY_SECONDS:.0f} s") from None

    def _share(self, device: Credential | None) -> asyncio.Semaphore:
        """The device's; operators have one together."""
        device_id = 0 if device is None else device.device_id
        share = self._shares.get(device_id)
        if share is None:
            share = self._shares[device_id] = asyncio.Semaphore(self._max_large_per_device)
        return share


def check_content(scope: Scope) -> None:
    """JSON by any of its names, or nothing said; as it is, not compressed. Source: RFC 9110, sections 8.4 and 15.5.16.

    Raises:
        UnsupportedMediaTypeError: something else.
    """
    coding = header(scope, b"content-encoding")
    if coding is not None and coding.strip().lower() not in ("", "identity"):
        raise unsupported_encoding(coding)
    said = header(scope, b"content-type")
    if said is None or said == "application/json":
        return
    media_type = said.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise unsupported_media_type(media_type)


async def _rest(first: bytes, receive: Receive) -> bytes:
    body, is_more = bytearray(first), True
    while is_more:
        piece, is_more = await _piece(receive)
        if len(body) + len(piece) > MAX_BODY_BYTES:
            raise RequestTooLargeError(f"more than {MAX_BODY_BYTES} bytes")
        body += piece
    return bytes(body)


async def _piece(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise MalformedRequestError("the body broke off")
    return message.get("body", b""), message.get("more_body", False)
