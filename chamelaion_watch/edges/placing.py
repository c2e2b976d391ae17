"""Gives a finished file its name without ever replacing another, on any file system.

The one place that knows which system calls refuse to overwrite. Raises OSError: `outputs` translates.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import platform
from collections.abc import Callable, Sequence
from typing import TypeAlias

Way: TypeAlias = Callable[[int, str, str], None]

_RENAME_NOREPLACE = 1
_RENAMEAT2_CALL = {"x86_64": 316, "aarch64": 276, "riscv64": 276}  # where the C library has no word for it (old musl)
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, errno.EMLINK})


def place(folder: int, temp: str, final: str, ways: Sequence[Way] | None = None) -> bool:
    """Give the file `temp` in an open folder the name `final`; False if that name is taken. Raises OSError.

    `ways` are tried in turn until the file system knows one: renameat2 (Linux; local, SMB), hard links (NFS), a
    placeholder (the rest).
    """
    ways = ways or (rename_exclusively, link_then_unlink, replace_placeholder)
    for way in ways:
        try:
            way(folder, temp, final)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _UNSUPPORTED or way is ways[-1]:
                raise
        else:
            return True
    return False


def rename_exclusively(folder: int, temp: str, final: str) -> None:
    call = _renameat2()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(folder, os.fsencode(temp), folder, os.fsencode(final), _RENAME_NOREPLACE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), final)


def link_then_unlink(folder: int, temp: str, final: str) -> None:
    os.link(temp, final, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    os.unlink(temp, dir_fd=folder)


def replace_placeholder(folder: int, temp: str, final: str) -> None:
    """Take the name with an empty file of our own, then rename over that: the name is empty for an instant."""
    os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder))
    try:
        os.rename(temp, final, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(final, dir_fd=folder)
        if error.errno == errno.EEXIST:  # the placeholder is no other's file
            raise OSError(errno.ENOTSUP, "the share renames over no file", final) from error
        raise


@functools.cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    library = ctypes.CDLL(None, use_errno=True)
    if hasattr(library, "renameat2"):
        return _declared(library.renameat2)
    number = _RENAMEAT2_CALL.get(platform.machine())
    if number is None or platform.system() != "Linux":
        return None
    return functools.partial(library.syscall, ctypes.c_long(number))


def _declared(function: Callable[..., int]) -> Callable[..., int]:
    text, number = ctypes.c_char_p, ctypes.c_int
    function.argtypes = (number, text, number, text, ctypes.c_uint)  # type: ignore[attr-defined]  # of ctypes
    return function
