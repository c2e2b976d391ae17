"""Looks into a stopped process: its paths, descriptors and memory. Raises OSError where the kernel does not let us.

The daemon forbids its user's other processes to look (PR_SET_DUMPABLE 0): that takes root, or a user namespace of
our own; see `tracer`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

from tests.walk.calls import Call
from tests.walk.seccomp import Stopped

PAGE_BYTES = 4096
_AT_FDCWD = -100
_PATH_MAX = 4096


def memory(task: int, at: int, size: int) -> bytes:
    with Path(f"/proc/{task}/mem").open("rb", buffering=0) as file:
        file.seek(at)
        found = file.read(size)
    if size and not found:
        raise ProcessLookupError(f"thread {task} has no memory any more")
    return found


def path_at(task: int, at: int) -> str:
    """Return the text that ends with a zero; read page by page, for the next one may not be there."""
    found = b""
    while b"\0" not in found and len(found) < _PATH_MAX:
        found += memory(task, at + len(found), PAGE_BYTES - (at + len(found)) % PAGE_BYTES)
    return os.fsdecode(found.split(b"\0", 1)[0])


def path_of(stopped: Stopped, where: tuple[int | None, int]) -> str:
    """Return the whole path that a call names."""
    folder, place = where
    path = path_at(stopped.task, stopped.args[place])
    if path.startswith("/"):
        return os.path.normpath(path)
    return os.path.normpath(f"{_folder(stopped, folder)}/{path}")


def descriptor(stopped: Stopped, place: int) -> str:
    """Return what a descriptor is, as /proc shows it: a path, `socket:[…]`, `pipe:[…]`."""
    return _descriptor(stopped.task, signed(stopped.args[place])).removesuffix(" (deleted)")


def is_thread_of(task: int, process: int) -> bool:
    return os.access(f"/proc/{process}/task/{task}", os.F_OK)


def sent_bytes(stopped: Stopped, call: Call, size: int) -> bytes:
    """Return the beginning of what a send sends, "" where it cannot be told."""
    if call.name == "sendto":
        return memory(stopped.task, stopped.args[1], min(size, stopped.args[2]))
    return b""


def port_of(stopped: Stopped) -> int | None:
    """Return the port that a connect goes to, None if it is no address of the internet."""
    size = min(stopped.args[2], 16)
    address = memory(stopped.task, stopped.args[1], size)
    with contextlib.suppress(struct.error):
        (family,) = struct.unpack_from("=H", address)
        if family in {socket.AF_INET, socket.AF_INET6}:
            return int(struct.unpack_from(">H", address, 2)[0])
    return None


def signed(argument: int) -> int:
    """A descriptor is an int: the upper half of the register is not told."""
    return int(struct.unpack("<i", struct.pack("<I", argument & 0xFFFFFFFF))[0])


def _folder(stopped: Stopped, place: int | None) -> str:
    if place is None or signed(stopped.args[place]) == _AT_FDCWD:
        return os.readlink(f"/proc/{stopped.task}/cwd")  # noqa: PTH115 - a text, not a Path
    return _descriptor(stopped.task, signed(stopped.args[place]))


def _descriptor(task: int, fd: int) -> str:
    return os.readlink(f"/proc/{task}/fd/{fd}")  # noqa: PTH115 - a text, not a Path
