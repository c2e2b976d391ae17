"""A filter of system calls that asks another process, by the kernel's user notification (seccomp_unotify(2)).

Only ctypes: CI is bare Python. `install` filters the calling thread and what it executes from then on; the process
that holds the listener takes each stopped call with `receive` and lets it go on, or makes it fail.
Calls on the descriptors 0, 1 and 2 are never stopped: the listener goes to its holder through descriptor 0, and a
stopped log line would be no system call of interest.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from tests.walk.calls import Call

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH of linux/audit.h
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_PIDFD_GETFD = 438
_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _NEW_LISTENER, _WAIT_KILLABLE = 1, 1 << 3, 1 << 5  # the last since Linux 5.19
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # _IOWR('!', 0 and 1, …)
_GO_ON = 1
_LOAD, _IS_EQUAL, _IS_GREATER, _HAS_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06  # BPF: ld abs, jeq, jgt, jset, ret
_STDERR = 2

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Stopped:
    """A call that waits for an answer; `task` is the thread's id."""

    id: int
    task: int
    number: int
    args: tuple[int, ...]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(calls: Iterable[Call]) -> int:
    """Filter this thread and its children to come, and return the listener; raises OSError."""
    code = _code(calls)
    program = _Program(len(code) // 8, code)
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    for flags in (_NEW_LISTENER | _WAIT_KILLABLE, _NEW_LISTENER):
        found = _libc.syscall(_SECCOMP[platform.machine()], _SET_MODE_FILTER, flags, ctypes.byref(program))
        if found >= 0 or ctypes.get_errno() != errno.EINVAL:
            break
    return _checked(found)


def receive(listener: int) -> Stopped | None:
    """Take the next stopped call; None if its process is gone."""
    room = bytearray(80)
    try:
        fcntl.ioctl(listener, _RECEIVE, room)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.EINTR}:
            return None
        raise
    found, task, _flags, number, _arch, _at, *args = struct.unpack("<QIIiIQ6Q", room)
    return Stopped(found, task, number, tuple(args))


def go_on(listener: int, stopped: Stopped) -> None:
    """Let the call happen."""
    _answer(listener, struct.pack("<QqiI", stopped.id, 0, 0, _GO_ON))


def fail(listener: int, stopped: Stopped, code: int) -> None:
    """Make the call fail with this errno, without effect."""
    _answer(listener, struct.pack("<QqiI", stopped.id, 0, -code, 0))


def descriptor_of(pid: int, fd: int) -> int:
    """Return a duplicate of another process's descriptor: the same open file; raises OSError."""
    process = os.pidfd_open(pid)
    try:
        return _checked(_libc.syscall(_PIDFD_GETFD, process, fd, 0))
    finally:
        os.close(process)


def _answer(listener: int, answer: bytes) -> None:
    try:
        fcntl.ioctl(listener, _SEND, bytearray(answer))
    except OSError as error:
        if error.errno != errno.ENOENT:  # killed in the meantime
            raise


def _code(calls: Iterable[Call]) -> bytes:
    arch = platform.machine()
    code = _step(_LOAD, 4) + _step(_IS_EQUAL, _ARCH[arch], 1, 0) + _step(_RETURN, _ALLOW) + _step(_LOAD, 0)
    for call in calls:
        if call.number is not None:
            block = _block(call)
            code += _step(_IS_EQUAL, call.number, 0, len(block) // 8) + block
    return code + _step(_RETURN, _ALLOW)


def _block(call: Call) -> bytes:
    """What decides on one call; it always returns."""
    ends = _step(_RETURN, _NOTIFY) + _step(_RETURN, _ALLOW)
    if call.flags is not None:
        return _step(_LOAD, _offset(call.flags)) + _step(_HAS_BIT, call.mask, 0, 1) + ends
    if call.fd is not None:
        return _step(_LOAD, _offset(call.fd)) + _step(_IS_GREATER, _STDERR, 0, 1) + ends
    return _step(_RETURN, _NOTIFY)


def _offset(argument: int) -> int:
    """Where the low half of an argument lies in struct seccomp_data (both machines are little-endian)."""
    return 16 + 8 * argument


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)
