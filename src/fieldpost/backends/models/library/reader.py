"""Reading documents in a child process that can be ended: see `reading` for what it does there."""

import asyncio
import os
import sys
from pathlib import Path
from types import TracebackType

import msgspec

from fieldpost.backends.models.library.reading import LENGTH, Reading

#: By the clock on the wall: a disk that does not answer takes no time of the processor.
_MAX_WAIT_SECONDS = 120.0
_MAX_REPLY_BYTES = 128 * 2**20
_GONE = Reading(error="takes too much time or memory to read")

_decode = msgspec.msgpack.Decoder(Reading).decode


class DocumentReader:
    """One child at most; started when it is needed, and again after it had to be ended."""

    def __init__(self, *, read_seconds: float) -> None:
        self._read_seconds = read_seconds
        self._child: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "DocumentReader":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def read(self, path: Path) -> Reading:
        """What the document says, or why it cannot be read. Cancel: safe, the child is ended."""
        child = self._child or await self._start()
        try:
            async with asyncio.timeout(_MAX_WAIT_SECONDS):
                return await _ask(child, os.fsencode(path))
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            await self._end()
            return _GONE
        except asyncio.CancelledError:
            await self._end()
            raise

    async def _start(self) -> asyncio.subprocess.Process:
        self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "fieldpost.backends.models.library.reading", str(self._read_seconds)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # Ctrl-C is for the parent.
            start_new_session=True,
        )
        return self._child

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if child.returncode is None:
            child.kill()
        # Reads what is left, so that its pipes are closed.
        await child.communicate()


async def _ask(child: asyncio.subprocess.Process, path: bytes) -> Reading:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(LENGTH.pack(len(path)) + path)
    await child.stdin.drain()
    (size,) = LENGTH.unpack(await child.stdout.readexactly(LENGTH.size))
    if size > _MAX_REPLY_BYTES:
        raise ConnectionError("a reply past its limit")
    return _decode(await child.stdout.readexactly(size))
