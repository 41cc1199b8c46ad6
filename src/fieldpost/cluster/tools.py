"""Programs of the engines that do one thing and end: they are waited for, and never left running."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from fieldpost.cluster.users import User, as_user
from fieldpost.errors import BackendUnavailableError

#: Until a killed program is gone, unless it hangs in the kernel.
_KILLED_SECONDS = 5.0


async def output_of(
    command: Sequence[str], *, doing: str, seconds: float, directory: Path | None = None, user: User | None = None
) -> str:
    """What a program says, once it has ended well; it is killed when time is over or the caller is cancelled.

    Args:
        doing: what it is for, with which an error begins.

    Raises:
        BackendUnavailableError: it failed, with what it said, or did not end in time.
    """
    process = await asyncio.create_subprocess_exec(
        *as_user(user, command),
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    except TimeoutError:
        raise BackendUnavailableError(f"{doing}: no end within {seconds:g} s") from None
    finally:
        if process.returncode is None:
            await _end(process)
    text = output.decode(errors="replace").strip()
    if process.returncode:
        raise BackendUnavailableError(f"{doing}: {text or f'exit code {process.returncode}'}")
    return text


async def _end(process: asyncio.subprocess.Process) -> None:
    """Left to itself it would go on with what nobody waits for any more."""
    with contextlib.suppress(ProcessLookupError, TimeoutError):
        process.kill()
        async with asyncio.timeout(_KILLED_SECONDS):
            await process.communicate()
