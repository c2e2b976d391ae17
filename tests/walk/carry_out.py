"""Does a stopped call in the tracer's process, on the same open files: so that a kill can come right after it.

The stopped process never sees the call return; for the disk and the peer it has happened. Raises OSError as the call
would have, in which case nothing has happened.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator

from tests.walk.calls import Call
from tests.walk.places import Target
from tests.walk.seccomp import Stopped, descriptor_of
from tests.walk.sight import memory, signed

_libc = ctypes.CDLL(None, use_errno=True)


def carry_out(process: int, stopped: Stopped, call: Call, target: Target) -> None:
    if call.path is not None:
        _with_paths(stopped, call, target)
        return
    assert call.fd is not None
    with _held(process, signed(stopped.args[call.fd])) as fd:
        _with_descriptor(process, stopped, call, fd)


def _with_paths(stopped: Stopped, call: Call, target: Target) -> None:
    args = stopped.args
    match call.name:
        case "open":
            os.close(os.open(target.path, signed(args[1]) | os.O_CLOEXEC, args[2] & 0o7777))
        case "openat":
            os.close(os.open(target.path, signed(args[2]) | os.O_CLOEXEC, args[3] & 0o7777))
        case "rename" | "renameat":
            os.rename(target.old, target.path)  # noqa: PTH104 - texts that need not be UTF-8
        case "renameat2":
            old, new = os.fsencode(target.old), os.fsencode(target.path)
            _checked(_libc.renameat2(-100, old, -100, new, args[4] & 0xFFFFFFFF))
        case "link" | "linkat":
            os.link(target.old, target.path, follow_symlinks=False)
        case "unlink" | "unlinkat":
            os.unlink(target.path)  # noqa: PTH108
        case "mkdir":
            os.mkdir(target.path, args[1] & 0o7777)  # noqa: PTH102
        case "mkdirat":
            os.mkdir(target.path, args[2] & 0o7777)  # noqa: PTH102
        case "chmod":
            os.chmod(target.path, args[1] & 0o7777)  # noqa: PTH101
        case "fchmodat":
            os.chmod(target.path, args[2] & 0o7777)  # noqa: PTH101
        case _:
            raise ValueError(f"nobody taught me {call.name}, which no quiet life made so far")


def _with_descriptor(process: int, stopped: Stopped, call: Call, fd: int) -> None:
    args, task = stopped.args, stopped.task
    match call.name:
        case "write":
            os.write(fd, memory(task, args[1], args[2]))
        case "pwrite64":
            os.pwrite(fd, memory(task, args[1], args[2]), args[3])
        case "sendto":
            data = memory(task, args[1], args[2])
            _checked(_libc.send(fd, data, len(data), args[3] & 0xFFFFFFFF))
        case "connect":
            _checked(_libc.connect(fd, memory(task, args[1], args[2]), args[2] & 0xFFFFFFFF))
        case "fsync":
            os.fsync(fd)
        case "fdatasync":
            os.fdatasync(fd)
        case "ftruncate":
            os.ftruncate(fd, args[1])
        case "fchmod":
            os.fchmod(fd, args[1] & 0o7777)
        case "copy_file_range":
            with _held(process, signed(args[0])) as source:
                os.copy_file_range(source, fd, args[4], _offset(task, args[1]), _offset(task, args[3]))
        case _:
            raise ValueError(f"nobody taught me {call.name}, which no quiet life made so far")


def _offset(task: int, at: int) -> int | None:
    return int(struct.unpack("<q", memory(task, at, 8))[0]) if at else None


@contextlib.contextmanager
def _held(process: int, fd: int) -> Iterator[int]:
    copy = descriptor_of(process, fd)
    try:
        yield copy
    finally:
        os.close(copy)


def _checked(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
