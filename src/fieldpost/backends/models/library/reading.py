"""The child process that reads documents: paths in on standard input, passages out on standard output.

A document may be made to take for ever or to fill the memory; this process has limits and may be ended at any time.
It ends with its parent, when its input does.
"""

import contextlib
import os
import resource
import signal
import stat
import struct
import sys
from pathlib import Path

import msgspec

from fieldpost.backends.models.library.documents import pieces_of
from fieldpost.backends.models.library.index import FileVersion
from fieldpost.backends.models.library.outline import Piece

#: Larger documents are left out.
MAX_DOCUMENT_BYTES = 20 * 2**20
#: Address space; a reader at rest takes about 100 MiB of it.
_MAX_MEMORY_BYTES = 2**30
LENGTH = struct.Struct("!I")


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a document says in the version that was read, or why it cannot be read."""

    version: FileVersion | None = None
    pieces: list[Piece] = []
    error: str = ""


def read(path: Path) -> Reading:
    """Reads a document; a change while it is read shows in its version the next time."""
    try:
        # Not through links that took a file's place, nor from pipes that never end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                return Reading(error="not a file")
            content = file.read(MAX_DOCUMENT_BYTES + 1)
        if len(content) > MAX_DOCUMENT_BYTES:
            return Reading(error=f"larger than {MAX_DOCUMENT_BYTES} bytes")
        pieces = pieces_of(path.suffix.lower(), content)
    except (OSError, ValueError) as error:
        return Reading(error=str(error)[:500])
    return Reading(version=FileVersion(size_bytes=facts.st_size, modified_ns=facts.st_mtime_ns), pieces=pieces)


def main() -> None:
    """Reads until its input ends; the only argument is how many seconds of the processor one document may take."""
    limit_seconds = float(sys.argv[1])
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    encode = msgspec.msgpack.Encoder().encode
    while len(head := sys.stdin.buffer.read(LENGTH.size)) == LENGTH.size:
        path = Path(os.fsdecode(sys.stdin.buffer.read(LENGTH.unpack(head)[0])))
        # When it fires the process ends, also in the midst of C code.
        signal.setitimer(signal.ITIMER_PROF, limit_seconds)
        body = encode(read(path))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(LENGTH.pack(len(body)) + body)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
