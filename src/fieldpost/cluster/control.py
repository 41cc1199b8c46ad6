"""How commands reach a running cluster: a socket in its data directory for its owner alone, a JSON document a line.

One command a connection: `Command` there, `Reply` back.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from fieldpost.cluster.standing import Standing
from fieldpost.cluster.state import socket_path
from fieldpost.errors import FieldpostError, UnreachableError

_MAX_LINE_BYTES = 1_048_576
_READ_SECONDS = 10.0


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to be done."""

    verb: str
    part: str = ""
    #: Of a signal, as its number.
    signal: int = 0
    down_seconds: float = 0.0
    role: str = ""
    count: int = 0


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of it; `error` is empty when it was done."""

    error: str = ""
    message: str = ""
    parts: Sequence[Standing] = ()
    url: str = ""
    is_ready: bool = False


Handler = Callable[[Command], Awaitable[Reply]]
_STOPPING = Reply(error="the cluster is stopping; the command was not carried to its end")


@contextlib.asynccontextmanager
async def serving(directory: Path, handle: Handler) -> AsyncIterator[None]:
    """Answers commands meanwhile; those under way at the end are cancelled, told so, and over when this returns."""
    answering: set[asyncio.Task[None] | None] = set()
    is_over = False

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.current_task())
        try:
            if is_over:
                raise asyncio.CancelledError  # noqa: TRY301 as all others
            async with asyncio.timeout(_READ_SECONDS):
                line = await reader.readline()
            if line:
                writer.write(msgspec.json.encode(await _reply(line, handle)) + b"\n")
                await writer.drain()
        except asyncio.CancelledError:
            # The task ends here.
            writer.write(msgspec.json.encode(_STOPPING) + b"\n")
        except (OSError, TimeoutError, ValueError):
            return
        finally:
            writer.close()
            answering.discard(asyncio.current_task())

    socket_path(directory).unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        with _reachable(directory) as address:
            server = await asyncio.start_unix_server(answer, address, limit=_MAX_LINE_BYTES)
    finally:
        os.umask(before)
    try:
        yield
    finally:
        is_over = True
        server.close()
        socket_path(directory).unlink(missing_ok=True)
        # What one of them would begin from now on nobody would stop.
        under_way = [task for task in answering if task is not None]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def ask(directory: Path, command: Command, *, seconds: float) -> Reply:
    """Gives a command to the cluster that runs on a data directory.

    Raises:
        UnreachableError: none does, or it does not answer in time.
        FieldpostError: what was wrong with the command.
    """
    try:
        async with asyncio.timeout(seconds):
            line = await _exchange(directory, msgspec.json.encode(command) + b"\n")
    except TimeoutError:
        raise UnreachableError(f"the cluster on {directory} does not answer") from None
    except OSError:
        raise UnreachableError(
            f"no cluster runs on {directory}; start one: fieldpost cluster up --data {directory}"
        ) from None
    if not line:
        raise UnreachableError(f"the cluster on {directory} ended")
    reply = msgspec.json.decode(line, type=Reply)
    if reply.error:
        raise FieldpostError(reply.error)
    return reply


async def _exchange(directory: Path, line: bytes) -> bytes:
    with _reachable(directory) as address:
        reader, writer = await asyncio.open_unix_connection(address, limit=_MAX_LINE_BYTES)
    try:
        writer.write(line)
        await writer.drain()
        return await reader.readline()
    finally:
        writer.close()


async def _reply(line: bytes, handle: Handler) -> Reply:
    try:
        return await handle(msgspec.json.decode(line, type=Command))
    except msgspec.MsgspecError as error:
        return Reply(error=str(error))
    except FieldpostError as error:
        return Reply(error=error.detail or error.title)
    except OSError as error:
        return Reply(error=f"the command failed: {str(error) or type(error).__name__}")


@contextlib.contextmanager
def _reachable(directory: Path) -> Iterator[str]:
    """The socket by a path that is never too long for the kernel, which takes 107 bytes."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{socket_path(directory).name}"
    finally:
        os.close(descriptor)
