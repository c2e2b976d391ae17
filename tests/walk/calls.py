"""The system calls that count: those that change something durable or visible, by their numbers on this machine.

The words are ours and the same everywhere: three system calls that rename are one `rename`. A call is known by where
its descriptor or its paths stand among its arguments; nothing here looks at a process.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

MAKES = os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True, slots=True)
class Call:
    """One system call; `fd`, `path`, `to` are places among its arguments, a path with that of its folder's descriptor.

    `flags` is where flags stand of which one of `mask` must be set for the call to count.
    """

    name: str
    word: str
    x86_64: int | None
    aarch64: int | None
    fd: int | None = None
    path: tuple[int | None, int] | None = None
    to: tuple[int | None, int] | None = None
    flags: int | None = None
    mask: int = 0

    @property
    def number(self) -> int | None:
        return {"x86_64": self.x86_64, "aarch64": self.aarch64}.get(platform.machine())


CALLS = (
    Call("open", "create", 2, None, path=(None, 0), flags=1, mask=MAKES),
    Call("creat", "create", 85, None, path=(None, 0)),
    Call("openat", "create", 257, 56, path=(0, 1), flags=2, mask=MAKES),
    Call("write", "write", 1, 64, fd=0),
    Call("pwrite64", "write", 18, 68, fd=0),
    Call("writev", "write", 20, 66, fd=0),
    Call("pwritev", "write", 296, 70, fd=0),
    Call("copy_file_range", "copy", 326, 285, fd=2),
    Call("sendfile", "copy", 40, 71, fd=0),
    Call("fsync", "fsync", 74, 82, fd=0),
    Call("fdatasync", "fdatasync", 75, 83, fd=0),
    Call("ftruncate", "truncate", 77, 46, fd=0),
    Call("truncate", "truncate", 76, 45, path=(None, 0)),
    Call("fallocate", "allocate", 285, 47, fd=0),
    Call("rename", "rename", 82, None, path=(None, 0), to=(None, 1)),
    Call("renameat", "rename", 264, 38, path=(0, 1), to=(2, 3)),
    Call("renameat2", "rename", 316, 276, path=(0, 1), to=(2, 3)),
    Call("link", "link", 86, None, path=(None, 0), to=(None, 1)),
    Call("linkat", "link", 265, 37, path=(0, 1), to=(2, 3)),
    Call("symlink", "link", 88, None, path=(None, 0), to=(None, 1)),
    Call("symlinkat", "link", 266, 36, path=(None, 0), to=(1, 2)),
    Call("unlink", "unlink", 87, None, path=(None, 0)),
    Call("rmdir", "unlink", 84, None, path=(None, 0)),
    Call("unlinkat", "unlink", 263, 35, path=(0, 1)),
    Call("mkdir", "mkdir", 83, None, path=(None, 0)),
    Call("mkdirat", "mkdir", 258, 34, path=(0, 1)),
    Call("chmod", "chmod", 90, None, path=(None, 0)),
    Call("fchmod", "chmod", 91, 52, fd=0),
    Call("fchmodat", "chmod", 268, 53, path=(0, 1)),
    Call("flock", "flock", 73, 32, fd=0),
    Call("close", "close", 3, 57, fd=0),
    Call("connect", "connect", 42, 203, fd=0),
    Call("sendto", "send", 44, 206, fd=0),
    Call("sendmsg", "send", 46, 211, fd=0),
)

BY_NUMBER = {call.number: call for call in CALLS if call.number is not None}
