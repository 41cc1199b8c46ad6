"""Renames that overwrite nothing, in one step where the kernel and the file system can. Source: renameat2(2)."""

import ctypes
import errno
import os
from functools import cache
from typing import Any

_RENAME_NOREPLACE = 1
#: The kernel, or this file system, has no such rename.
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})


def rename(source: int, name: str, target: int, new_name: str) -> None:
    """Moves what stands under `name` in `source` to `new_name` in `target`; both are directories' descriptors.

    Raises:
        FileExistsError: the new name is taken; nothing was moved.
    """
    if not _rename_in_one_step(source, name, target, new_name):
        # A look and a rename: between them there is a moment in which another process could take the name.
        if _exists(target, new_name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new_name)
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)


def _rename_in_one_step(source: int, name: str, target: int, new_name: str) -> bool:
    """False where that cannot be done."""
    renameat2 = _renameat2()
    if renameat2 is None:
        return False
    if renameat2(source, os.fsencode(name), target, os.fsencode(new_name), _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), name)


@cache
def _renameat2() -> Any:
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
        function.restype = ctypes.c_int
    return function


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
