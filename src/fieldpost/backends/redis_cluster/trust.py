"""Why no client connects: of a certificate that it does not trust, the vendor's says nothing but "timed out"."""

import asyncio
import contextlib
import ssl

from fieldpost.backends.redis_cluster.address import Address
from fieldpost.errors import BackendUnavailableError

_HANDSHAKE_SECONDS = 1.0


async def reason(address: Address, error: BackendUnavailableError) -> str:
    """What the error says, or what is wrong with the certificate of a node, judged as the client judges it."""
    for host, port in address.nodes if address.is_encrypted else ():
        try:
            await _shake_hands(host, port)
        except ssl.SSLError as refusal:
            return f"Redis at {host}:{port}: {refusal}"
        except (OSError, TimeoutError):
            continue
    return str(error)


async def _shake_hands(host: str, port: int) -> None:
    async with asyncio.timeout(_HANDSHAKE_SECONDS):
        _, writer = await asyncio.open_connection(host, port, ssl=ssl.create_default_context())
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
