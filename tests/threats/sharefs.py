# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH118, PTH119, PTH208 - paths are bytes here, which pathlib does not know
"""A file server that misbehaves on order: a FUSE file system over a folder, in a process of its own.

`python -m tests.threats.sharefs BACKING MOUNT_POINT TYPE`. It says `ready`; then every line on its standard input is
a JSON object of orders (see `Orders`), each answered by a line. It speaks the kernel's protocol (linux/fuse.h)
itself, so it needs Linux, root and /dev/fuse, and nothing else. One thread; nothing here is meant to be fast.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fnmatch
import json
import os
import random
import select
import stat
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.threats.durable import Durable

ROOT_ID = 1
BUFFER_BYTES = 1 << 20
MAX_WRITE_BYTES = 128 * 1024
# FUSE_BIG_WRITES, and FUSE_AUTO_INVAL_DATA: pages go when the size or time changed
FLAGS = 1 << 5 | 1 << 12
OPS = dict(
    pair
    for pairs in (
        [(1, "lookup"), (2, "forget"), (3, "getattr"), (4, "setattr"), (9, "mkdir"), (10, "unlink"), (11, "rmdir")],
        [(12, "rename"), (13, "link"), (14, "open"), (15, "read"), (16, "write"), (17, "statfs"), (18, "release")],
        [(20, "fsync"), (25, "flush"), (26, "init"), (27, "opendir"), (28, "readdir"), (29, "releasedir")],
        [(30, "fsyncdir"), (35, "create"), (36, "interrupt"), (38, "destroy"), (42, "batch_forget")],
        [(45, "rename2"), (46, "lseek")],
    )
    for pair in pairs
)
CLOSING = frozenset({"flush", "release", "releasedir"})  # NFS and SMB close what was only read without a word
UNANSWERED = frozenset({"forget", "interrupt", "batch_forget"})
ATTR = struct.Struct("<6Q10I")
IN = struct.Struct("<IIQQIIII")
# struct fuse_setattr_in
SETATTR = struct.Struct("<IIQQQQQQIIIIIIII")
SET_MODE, SET_SIZE, SET_ATIME, SET_MTIME, SET_ATIME_NOW, SET_MTIME_NOW = 1, 8, 16, 32, 128, 256
NOT_FOR_WINDOWS = frozenset('<>:"\\|?*') | {chr(number) for number in range(32)}


@dataclass
class Orders:
    """What is wrong with the server at the moment; every order replaces what it names."""

    # {op, name?, count?, errno | hang | bytes}: the first that fits; `bytes` is where a file seems to end for reads
    faults: list[dict[str, Any]] = field(default_factory=list)
    random_inodes: bool = False
    attr_s: float = 0.0  # how long the kernel may believe sizes and times
    mtime_step_s: int = 0  # times as coarse as that
    mtime_shift_s: int = 0  # the server's clock
    folds_case: bool = False
    refuses_windows_names: bool = False


@dataclass
class Node:
    path: bytes  # relative to the backing folder


@dataclass
class Request:
    op: str
    unique: int
    node: int
    body: bytes


class Server:
    """The protocol: requests in, answers out."""

    def __init__(self, backing: str, device: int, durable: Durable | None = None) -> None:
        self.orders = Orders()
        self.hanging: list[Request] = []
        self.count = 0
        self._backing = os.fsencode(backing)
        self._device = device
        self._durable = durable
        self._nodes: dict[int, Node] = {ROOT_ID: Node(b"")}
        self._ids: dict[bytes, int] = {b"": ROOT_ID}
        self._next_id = ROOT_ID

    def serve(self, request: Request) -> None:
        """Answer one request, unless an order says that nobody does."""
        self.count += 1
        if request.op == "interrupt":
            self._interrupted(*struct.unpack_from("<Q", request.body))
        fault = self._fault_for(request)
        if fault and fault.get("hang"):
            self.hanging.append(request)
            return
        code, answer = (int(fault["errno"]), b"") if fault and "errno" in fault else self._answered(request)
        if fault and "bytes" in fault:
            (offset,) = struct.unpack_from("<Q", request.body, 8)
            answer = answer[: max(0, fault["bytes"] - offset)]
        if request.op not in UNANSWERED:
            self._send(request.unique, code, answer)

    def release_hanging(self) -> None:
        waiting, self.hanging = self.hanging, []
        for request in waiting:
            self.serve(request)

    def _interrupted(self, unique: int) -> None:
        """Let go of who was killed while nobody answered, as NFS does."""
        for request in [request for request in self.hanging if request.unique == unique]:
            self.hanging.remove(request)
            self._send(unique, errno.EINTR, b"")

    def _send(self, unique: int, code: int, answer: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):  # who asked was killed meanwhile
            os.write(self._device, struct.pack("<IiQ", 16 + len(answer), -code, unique) + answer)

    def _fault_for(self, request: Request) -> dict[str, Any] | None:
        if request.op in UNANSWERED or request.op == "init":
            return None
        names = self._names_of(request)
        for fault in self.orders.faults:
            is_op = fault["op"] in {request.op, _precise(request)} or (fault["op"] == "*" and request.op not in CLOSING)
            glob = fault.get("name")
            if is_op and (glob is None or any(fnmatch.fnmatchcase(os.fsdecode(name), glob) for name in names)):
                if "count" in fault:
                    if fault["count"] <= 0:
                        continue
                    fault["count"] -= 1
                return fault
        return None

    def _names_of(self, request: Request) -> list[bytes]:
        node = self._nodes.get(request.node)
        names = [os.path.basename(node.path)] if node else []
        skip = {"rename": 8, "rename2": 16, "link": 8, "create": 16, "mkdir": 8, "lookup": 0, "unlink": 0}
        if request.op in skip:
            names += request.body[skip[request.op] :].split(b"\0")
        return names

    def _answered(self, request: Request) -> tuple[int, bytes]:
        handler: Callable[[int, bytes], bytes] | None = getattr(self, f"_{request.op}", None)
        if handler is None:
            return errno.ENOSYS, b""
        try:
            return 0, handler(request.node, request.body)
        except OSError as error:
            return error.errno or errno.EIO, b""

    # -- nodes

    def _full(self, node: int) -> bytes:
        return os.path.join(self._backing, self._nodes[node].path)

    def _path_of(self, parent: int, name: bytes) -> bytes:
        return os.path.join(self._nodes[parent].path, self._folded(parent, name))

    def _folded(self, parent: int, name: bytes) -> bytes:
        """Return the name as it is listed, on a server that knows no case."""
        full = os.path.join(self._full(parent), name)
        if not self.orders.folds_case or os.path.lexists(full):
            return name
        wanted = os.fsdecode(name).casefold()
        return next((each for each in os.listdir(self._full(parent)) if os.fsdecode(each).casefold() == wanted), name)

    def _entry(self, path: bytes) -> bytes:
        status = os.lstat(os.path.join(self._backing, path))
        if path not in self._ids:
            self._next_id += 1
            self._ids[path], self._nodes[self._next_id] = self._next_id, Node(path)
        number = self._ids[path]
        whole, part = divmod(self.orders.attr_s, 1)
        head = struct.pack("<QQQQII", number, 0, 0, int(whole), 0, int(part * 1e9))
        return head + self._attr(status)

    def _attr(self, status: os.stat_result) -> bytes:
        orders = self.orders
        mtime_ns = status.st_mtime_ns
        if orders.mtime_step_s:
            mtime_ns -= mtime_ns % (orders.mtime_step_s * 10**9)
        mtime, mtime_ns = divmod(mtime_ns + orders.mtime_shift_s * 10**9, 10**9)
        inode = random.getrandbits(48) | 1 if orders.random_inodes else status.st_ino
        times = (int(status.st_atime), max(0, mtime), int(status.st_ctime), 0, mtime_ns, 0)
        owner = (status.st_mode, status.st_nlink, status.st_uid, status.st_gid, 0, 4096, 0)
        return ATTR.pack(inode, status.st_size, status.st_blocks, *times, *owner)

    def _moved(self, old: bytes, new: bytes) -> None:
        self._gone(new)
        for path in [path for path in self._ids if path == old or path.startswith(old + b"/")]:
            number = self._ids.pop(path)
            self._nodes[number].path = new + path[len(old) :]
            self._ids[self._nodes[number].path] = number

    def _gone(self, path: bytes) -> None:
        if number := self._ids.pop(path, 0):
            self._nodes[number].path = b"//gone"

    def _check_name(self, name: bytes) -> None:
        text = os.fsdecode(name)
        if self.orders.refuses_windows_names and (NOT_FOR_WINDOWS & set(text) or text.endswith((".", " "))):
            raise OSError(errno.EINVAL, "no name for this server")

    # -- requests: each takes the node and the body, and returns the answer

    def _init(self, _node: int, body: bytes) -> bytes:
        major, minor, readahead, _ = struct.unpack_from("<IIII", body)
        return struct.pack(
            "<IIIIHHIIHHI28x", major, min(minor, 31), readahead, FLAGS, 12, 9, MAX_WRITE_BYTES, 1, 32, 0, 0
        )

    def _destroy(self, _node: int, _body: bytes) -> bytes:
        return b""

    def _forget(self, _node: int, _body: bytes) -> bytes:
        return b""

    _interrupt = _batch_forget = _flush = _forget

    def _lookup(self, node: int, body: bytes) -> bytes:
        return self._entry(self._path_of(node, body.split(b"\0")[0]))

    def _getattr(self, node: int, body: bytes) -> bytes:
        flags, _, handle = struct.unpack_from("<IIQ", body)
        status = os.fstat(handle) if flags & 1 else os.lstat(self._full(node))
        whole, part = divmod(self.orders.attr_s, 1)
        return struct.pack("<QII", int(whole), int(part * 1e9), 0) + self._attr(status)

    def _setattr(self, node: int, body: bytes) -> bytes:
        valid, _, handle, size, _, atime, mtime, _, ans, mns, _, mode, *_ = SETATTR.unpack_from(body)
        full = self._full(node)
        if valid & SET_MODE:
            os.chmod(full, stat.S_IMODE(mode))
        if valid & SET_SIZE:
            os.truncate(handle if valid & 64 else full, size)
        if valid & (SET_ATIME_NOW | SET_MTIME_NOW):
            os.utime(full)
        elif valid & (SET_ATIME | SET_MTIME):
            os.utime(full, ns=(atime * 10**9 + ans, mtime * 10**9 + mns), follow_symlinks=False)
        return self._getattr(node, struct.pack("<IIQ", 0, 0, 0))

    def _mkdir(self, node: int, body: bytes) -> bytes:
        (mode,) = struct.unpack_from("<I", body)
        name = body[8:].split(b"\0")[0]
        self._check_name(name)
        path = self._path_of(node, name)
        os.mkdir(os.path.join(self._backing, path), mode & 0o7777)
        self._made(path)
        return self._entry(path)

    def _unlink(self, node: int, body: bytes) -> bytes:
        path = self._path_of(node, body.split(b"\0")[0])
        os.unlink(os.path.join(self._backing, path))
        self._gone(path)
        return b""

    def _rmdir(self, node: int, body: bytes) -> bytes:
        path = self._path_of(node, body.split(b"\0")[0])
        os.rmdir(os.path.join(self._backing, path))
        self._gone(path)
        return b""

    def _rename(self, node: int, body: bytes, head: int = 8) -> bytes:
        (target,) = struct.unpack_from("<Q", body)
        old_name, new_name = body[head:].split(b"\0")[:2]
        self._check_name(new_name)
        old, new = self._path_of(node, old_name), self._path_of(target, new_name)
        os.rename(os.path.join(self._backing, old), os.path.join(self._backing, new))
        self._moved(old, new)
        return b""

    def _rename2(self, node: int, body: bytes) -> bytes:
        target, flags = struct.unpack_from("<QI", body)
        new = self._path_of(target, body[16:].split(b"\0")[1])
        if flags & ~1:
            raise OSError(errno.EINVAL, "a flag that is not known")
        if flags & 1 and os.path.lexists(os.path.join(self._backing, new)):
            raise OSError(errno.EEXIST, "it is there")
        return self._rename(node, body, head=16)

    def _link(self, node: int, body: bytes) -> bytes:
        (old,) = struct.unpack_from("<Q", body)
        path = self._path_of(node, body[8:].split(b"\0")[0])
        os.link(self._full(old), os.path.join(self._backing, path), follow_symlinks=False)
        return self._entry(path)

    def _open(self, node: int, body: bytes) -> bytes:
        (flags,) = struct.unpack_from("<I", body)
        return struct.pack("<QII", os.open(self._full(node), _own_flags(flags)), 0, 0)

    def _create(self, node: int, body: bytes) -> bytes:
        flags, mode = struct.unpack_from("<II", body)
        name = body[16:].split(b"\0")[0]
        self._check_name(name)
        path = self._path_of(node, name)
        full = os.path.join(self._backing, path)
        fd = os.open(full, _own_flags(flags) | os.O_CREAT | flags & os.O_EXCL, mode & 0o7777)
        self._made(path)
        return self._entry(path) + struct.pack("<QII", fd, 0, 0)

    def _made(self, path: bytes) -> None:
        if self._durable:
            self._durable.made(os.lstat(os.path.join(self._backing, path)).st_ino)

    def _read(self, _node: int, body: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("<QQI", body)
        return os.pread(handle, size, offset)

    def _write(self, _node: int, body: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("<QQI", body)
        return struct.pack("<II", os.pwrite(handle, body[40 : 40 + size], offset), 0)

    def _statfs(self, _node: int, _body: bytes) -> bytes:
        found = os.statvfs(self._backing)
        blocks = (found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree)
        return struct.pack("<5QIII28x", *blocks, found.f_bsize, 255, found.f_frsize)

    def _release(self, _node: int, body: bytes) -> bytes:
        os.close(struct.unpack_from("<Q", body)[0])
        return b""

    def _fsync(self, _node: int, body: bytes) -> bytes:
        if self._durable:
            self._durable.synced(struct.unpack_from("<Q", body)[0])
        return b""

    def _opendir(self, node: int, _body: bytes) -> bytes:
        return struct.pack("<QII", os.open(self._full(node), os.O_RDONLY | os.O_DIRECTORY), 0, 0)

    _releasedir = _release

    def _fsyncdir(self, _node: int, body: bytes) -> bytes:
        if self._durable:
            self._durable.folder_synced(struct.unpack_from("<Q", body)[0])
        return b""

    def _readdir(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        answer = b""
        with os.scandir(self._full(node)) as entries:
            listed = sorted((entry.name, stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)) for entry in entries)
        for number, (name, kind) in enumerate(listed[offset:], start=offset + 1):
            item = struct.pack("<QQII", number, number, len(name), kind >> 12) + name
            item += bytes(-len(item) % 8)
            if len(answer) + len(item) > size:
                break
            answer += item
        return answer

    def _lseek(self, _node: int, body: bytes) -> bytes:
        handle, offset, whence = struct.unpack_from("<QQI", body)
        return struct.pack("<Q", os.lseek(handle, offset, whence))


def _precise(request: Request) -> str:
    """Name what a setattr sets, so that an order can mean just that."""
    if request.op != "setattr":
        return request.op
    (valid,) = struct.unpack_from("<I", request.body)
    return "chmod" if valid & SET_MODE else "truncate" if valid & SET_SIZE else "utime"


def _own_flags(flags: int) -> int:
    return (flags & os.O_ACCMODE if flags & os.O_ACCMODE == os.O_RDONLY else os.O_RDWR) | os.O_CLOEXEC


def mount(device: int, point: str, fstype: str) -> None:
    """Mount a FUSE file system whose requests are read from `device`; raises OSError."""
    options = f"fd={device},rootmode=40755,user_id=0,group_id=0,allow_other,default_permissions"
    libc = ctypes.CDLL(None, use_errno=True)
    source = f"server:/{os.path.basename(point)}"
    words = [os.fsencode(each) for each in (source, point, fstype)]
    if libc.mount(*words, ctypes.c_ulong(2 | 4), options.encode()):  # MS_NOSUID | MS_NODEV
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), point)


def received(device: int) -> Request | None:
    """Return the next request; None when it was withdrawn before it could be read."""
    try:
        data = os.read(device, BUFFER_BYTES)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.EINTR, errno.EAGAIN}:
            return None
        raise
    _, opcode, unique, node, *_ = IN.unpack_from(data)
    return Request(OPS.get(opcode, "unknown"), unique, node, data[IN.size :])


def obey(server: Server, durable: Durable | None, line: str) -> str:
    """Carry out one line of orders; return the answer."""
    orders = json.loads(line)
    if cut_to := orders.pop("cut_power", None):
        assert durable is not None, "started without a durable store"
        durable.restore_to(Path(cut_to))
    for name, value in orders.items():
        setattr(server.orders, name, value)
    if "faults" in orders:
        server.release_hanging()
    return json.dumps({"requests": server.count, "hanging": [request.op for request in server.hanging]})


def main(backing: str, point: str, fstype: str, store: str | None = None) -> None:
    durable = Durable(Path(backing), Path(store)) if store else None
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    mount(device, point, fstype)
    os.set_blocking(device, False)
    server = Server(backing, device, durable)
    print("ready", flush=True)
    with contextlib.suppress(OSError):  # ENODEV: unmounted
        while True:
            for readable in select.select([device, sys.stdin], [], [])[0]:
                if readable == sys.stdin:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    print(obey(server, durable, line), flush=True)
                elif request := received(device):
                    server.serve(request)


if __name__ == "__main__":
    main(*sys.argv[1:])
