"""Opens the WebSocket, and turns the vendor's errors into ours."""

import contextlib
from collections.abc import AsyncIterator

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI, WebSocketException

from fieldpost.client.address import Address
from fieldpost.client.problems import raise_for
from fieldpost.errors import ConfigError, UnavailableError, UnreachableError

#: The largest frame that is read: an answer of this size, or a page of them.
MAX_FRAME_BYTES = 16 * 2**20
OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
#: A server that is silent this long after a ping is gone.
PING_SECONDS = 20.0


@contextlib.asynccontextmanager
async def dial(address: Address) -> AsyncIterator[ClientConnection]:
    """An open connection; closed at the end.

    Raises:
        FieldpostError: what the server says, or that it is not there.
    """
    try:
        socket = await connect(
            address.stream_url,
            additional_headers=address.headers,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            max_size=MAX_FRAME_BYTES,
        )
    except InvalidStatus as error:
        reply = error.response
        raise_for(reply.status_code, reply.headers.get("Retry-After"), bytes(reply.body or b""))
        raise UnavailableError(f"{address.url}: {error}") from error
    except InvalidURI as error:
        raise ConfigError(f"{address.url}: {error}") from error
    except (OSError, InvalidHandshake, WebSocketException) as error:
        raise UnreachableError(f"{address.url}: {str(error) or type(error).__name__}") from error
    async with socket:
        yield socket
