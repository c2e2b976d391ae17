"""The steps of writing on open descriptors, where outputs may lie, and what an error of writing means.

Makes no decision: `outputs` says what is written and when it counts. Raises OSError; `translated` turns it into
OutputProblem, whose words tell people what to do.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator

from chamelaion_watch.core.errors import OutputProblem
from chamelaion_watch.core.model import RelPath, RootState
from chamelaion_watch.edges import jail
from chamelaion_watch.edges.jail import held, split

_CHUNK_BYTES = 1 << 20
_COPY_BYTES = 64 << 20  # of one copy_file_range: between them a stop is seen
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})
_NOT_A_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})  # none, a link, a socket

_KEPT = "nothing that was paid for is lost, and it is tried again"


# -- where outputs go ---------------------------------------------------------------------------------


def base_of(root: str, rel: RelPath) -> tuple[str, RelPath]:
    """Return the folder to start from and the path beneath it.

    Only the administrator's template can begin with `../`; what follows is walked like any path in the root.
    """
    base = root
    while rel == ".." or rel.startswith("../"):
        base, rel = f"{base}/..", rel[3:]
    return os.path.normpath(base), rel


def full_path(root: str, rel: RelPath) -> str:
    """Return the path as people know it: for messages, never to be opened."""
    base, rest = base_of(root, rel)
    return f"{base}/{rest}"


def open_output_folder(root: str, rel: RelPath, *, mode: int | None) -> int:
    """Return a descriptor of the folder; what is missing is made for files of `mode`, or not at all. Raises OSError."""
    base, rest = base_of(root, rel)
    with held(jail.open_root(base)) as fd:
        if mode is None:
            return jail.open_folder_beneath(fd, rest)
        return jail.make_folders_beneath(fd, rest, mode | (mode & 0o444) >> 2)  # who may read may enter


@contextlib.contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn OSError into OutputProblem."""
    try:
        yield
    except OSError as error:
        raise output_problem(error, path) from error


def output_problem(error: OSError, path: str) -> OutputProblem:
    """Say what an error of writing means for the folder, and what to do."""
    words = error.strerror or str(error)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return OutputProblem(f"{path}: {words}: make room; {_KEPT}", root_state=RootState.FULL)
        case errno.EFBIG:
            message = f"{path}: the file system takes no file of this size ({words}); {_KEPT}"
            return OutputProblem(message, root_state=RootState.FULL, code="output_too_big")
        case errno.EROFS:
            advice = "mount it writable, or set `output` to a folder that is"
            return OutputProblem(f"{path}: {words}: {advice}; {_KEPT}", root_state=RootState.READ_ONLY)
        case errno.EACCES | errno.EPERM:
            advice = "let the service's user write there"
            return OutputProblem(f"{path}: {words}: {advice}; {_KEPT}", root_state=RootState.DENIED)
        case errno.EBUSY | errno.ETXTBSY | errno.EAGAIN:
            message = f"{path}: another program holds it ({words}); {_KEPT}"
            return OutputProblem(message, root_state=RootState.DENIED, code="output_busy")
        case errno.ENOENT:
            return OutputProblem(f"{path}: the folder is not there; {_KEPT}", root_state=RootState.MISSING)
        case (
            errno.EXDEV | errno.ELOOP | errno.ENOTDIR | errno.EISDIR | errno.ENAMETOOLONG | errno.EINVAL | errno.EILSEQ
        ):
            message = f"{path}: cannot be a file here ({words}): check `output` and what lies there; {_KEPT}"
            return OutputProblem(message, root_state=RootState.DENIED, code="output_path")
        case _:
            return OutputProblem(f"{path}: {words}: check the share; {_KEPT}", root_state=RootState.STALE)


# -- on open descriptors ------------------------------------------------------------------------------


def open_new(folder: int, name: str, mode: int) -> int:
    """Create a file that nobody else can have open, removing a stale one of that name."""
    try:
        fd = os.open(name, _NEW, mode, dir_fd=folder)
    except FileExistsError:
        os.unlink(name, dir_fd=folder)
        fd = os.open(name, _NEW, mode, dir_fd=folder)
    _set_mode(fd, mode)
    return fd


def move_in(spooled: str, folder: int, name: str, mode: int) -> int | None:
    """Rename a file into the folder and open it; None if it lies on another file system."""
    if not stat.S_ISREG(os.lstat(spooled).st_mode):  # a folder would stand in the way of every result from now on
        raise OSError(errno.EINVAL, "not a regular file", spooled)
    try:
        os.rename(spooled, name, dst_dir_fd=folder)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return None
        raise
    fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    _set_mode(fd, mode)
    return fd


def _set_mode(fd: int, mode: int) -> None:
    with contextlib.suppress(OSError):  # the umask had its way; some shares know no modes
        os.fchmod(fd, mode)


def write_new(folder: int, name: str, data: bytes, mode: int) -> None:
    with held(open_new(folder, name, mode)) as fd:
        for _ in write_all(fd, data):
            pass
        sync(fd)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> Iterator[int]:
    """Write all, and yield how much each time: a full disk takes a part."""
    left = memoryview(data)
    while left:
        written = os.write(fd, left)
        yield written
        left = left[written:]


def copy_all(source: int, target: int) -> Iterator[int]:
    if hasattr(os, "copy_file_range"):
        with contextlib.suppress(OSError):  # not between these two; what is in earnest comes again below
            while copied := os.copy_file_range(source, target, _COPY_BYTES):
                yield copied
    while chunk := os.read(source, _CHUNK_BYTES):
        yield from write_all(target, chunk)


def sync(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def unlink(folder: int, name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)


def is_content(folder: int, name: str, sha256: str, size: int) -> bool:
    """Say whether a file is regular and has that content; raises OSError."""
    try:
        fd = os.open(name, _READ, dir_fd=folder)
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            return False
        raise
    with held(fd):
        status = os.fstat(fd)
        return stat.S_ISREG(status.st_mode) and status.st_size == size and sha256_of(fd) == sha256


def open_existing(root: str, rel: RelPath) -> int | None:
    """Open a regular file for reading; None if there is none. Raises OSError."""
    folder, name = split(rel)
    try:
        with held(open_output_folder(root, folder, mode=None)) as folder_fd:
            fd = os.open(name, _READ, dir_fd=folder_fd)
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            return None
        raise
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def sha256_of(fd: int) -> str:
    digest, at = hashlib.sha256(), 0
    while chunk := os.pread(fd, _CHUNK_BYTES, at):
        digest.update(chunk)
        at += len(chunk)
    return digest.hexdigest()


def require_space(folder: int, needed: int) -> None:
    """Raise ENOSPC before the first byte; file systems that tell no sizes (9p, some FUSE) are taken at their word."""
    status = os.fstatvfs(folder)
    free = status.f_bavail * status.f_frsize
    if status.f_blocks and free < needed:
        raise OSError(errno.ENOSPC, f"needs {needed} bytes, {free} are free")
