"""Request bodies: read whole, within a bound of size, of time and of how many at once."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fieldpost.errors import MalformedRequestError, OverloadedError, RequestTooLargeError
from fieldpost.messages.requests import MAX_BODY_BYTES
from fieldpost.web.operations import header
from fieldpost.web.problems import unsupported_media_type

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

#: A body must be here within this time.
_BODY_SECONDS = 30.0
#: Bodies that come in several pieces, held at once; with the bound of one body this bounds the memory for all.
_MAX_LARGE = 64


class Bodies:
    """Reads bodies for all endpoints of a process."""

    def __init__(self) -> None:
        self._large = asyncio.Semaphore(_MAX_LARGE)

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body.

        Raises:
            RequestTooLargeError: more than 1 MiB, whether it was announced or not.
            MalformedRequestError: it broke off or took too long.
            OverloadedError: too many others are being read.
        """
        announced = header(scope, b"content-length")
        if announced is not None and int(announced) > MAX_BODY_BYTES:
            raise RequestTooLargeError(f"{announced} bytes; {MAX_BODY_BYTES} at most")
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                piece, is_more = await _piece(receive)
                return await self._rest(piece, receive) if is_more else piece
        except TimeoutError:
            if self._large.locked():
                raise OverloadedError("too many large bodies at once") from None
            raise MalformedRequestError(f"the body did not come within {_BODY_SECONDS:.0f} s") from None

    async def _rest(self, first: bytes, receive: Receive) -> bytes:
        async with self._large:
            body, is_more = bytearray(first), True
            while is_more:
                piece, is_more = await _piece(receive)
                if len(body) + len(piece) > MAX_BODY_BYTES:
                    raise RequestTooLargeError(f"more than {MAX_BODY_BYTES} bytes")
                body += piece
            return bytes(body)


def check_content_type(scope: Scope) -> None:
    """JSON by any of its names, or nothing said.

    Raises:
        UnsupportedMediaTypeError: something else.
    """
    said = header(scope, b"content-type")
    if said is None or said == "application/json":
        return
    media_type = said.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise unsupported_media_type(media_type)


async def _piece(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise MalformedRequestError("the body broke off")
    return message.get("body", b""), message.get("more_body", False)
