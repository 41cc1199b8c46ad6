"""Speaking to a Redis beside the code under test."""

import asyncio


async def command(port: int, text: str) -> bytes:
    """Sends one command and returns what comes back, as it stands on the wire."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode() + b"\r\nQUIT\r\n")
    reply = await reader.read()
    writer.close()
    await writer.wait_closed()
    return reply
