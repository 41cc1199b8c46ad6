"""Waiting until a part serves: asked again and again, with an end."""

import asyncio
from collections.abc import Awaitable, Callable

from fieldpost.clock import Clock
from fieldpost.cluster.child import Child
from fieldpost.errors import BackendUnavailableError

_LOOK_SECONDS = 0.1
_ASK_SECONDS = 5.0


async def until_ready(
    what: str, ask: Callable[[], Awaitable[bool]], *, clock: Clock, seconds: float, children: tuple[Child, ...] = ()
) -> None:
    """Returns when `ask` says so.

    Raises:
        BackendUnavailableError: not in time, or one of the children ended; with the end of its log.
    """
    deadline = clock.monotonic() + seconds
    while True:
        if await _ask(ask):
            return
        for child in children:
            if not child.is_running:
                raise BackendUnavailableError(
                    f"{child.program.name} ended with {child.exit_code}; {child.log_path} ends with:\n{child.last_words()}"
                )
        if clock.monotonic() > deadline:
            words = "".join(f"\n{child.log_path} ends with:\n{child.last_words()}" for child in children)
            raise BackendUnavailableError(f"{what} was not ready within {seconds:g} s{words}")
        await clock.sleep(_LOOK_SECONDS)


async def _ask(ask: Callable[[], Awaitable[bool]]) -> bool:
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            return await ask()
    except (OSError, TimeoutError):
        return False


async def answers(host: str, port: int, question: bytes, wanted: bytes, *, limit: int = 65_536) -> bool:
    """Whether a server answers a question on a fresh connection with something that holds `wanted`."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(question)
        await writer.drain()
        reply = b""
        while wanted not in reply and len(reply) < limit:
            piece = await reader.read(4096)
            if not piece:
                break
            reply += piece
        return wanted in reply
    finally:
        writer.close()
