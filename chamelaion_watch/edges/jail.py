"""Walks paths beneath a root so that no symbolic link is ever followed, however it is swapped in.

Each part is opened by itself, relative to the folder before it and with O_NOFOLLOW; a path may so be longer than
PATH_MAX, too. The root itself is the administrator's word and may be reached through links.
Only the disk edge comes here. Its other files translate the OSErrors raised below: only they know whether a
source or a result is at stake.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from chamelaion_watch.core.errors import RootProblem
from chamelaion_watch.core.model import RelPath, RootState

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_WALK_FDS = 16

# The file server or the device behind the root is gone.
_OFFLINE = frozenset(
    {
        errno.ESTALE,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOTCONN,
        errno.ECONNABORTED,  # FUSE, after its server died
        errno.ESHUTDOWN,
        errno.ETIMEDOUT,
    }
)
# One bad sector, a socket opened as a file, or the whole root: only the root itself can tell.
_SUSPECT = frozenset({errno.EIO, errno.ENXIO, errno.ENODEV})
# What CIFS, 9p and some FUSE file systems answer to fsync of a folder.
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF})


@contextlib.contextmanager
def held(fd: int) -> Iterator[int]:
    """Close the descriptor at the end."""
    try:
        yield fd
    finally:
        os.close(fd)


def parts_of(rel: RelPath) -> list[str]:
    """Return the parts of a path beneath a root; "" is the root itself.

    Raises OSError: EXDEV if the path is absolute or has empty, `.` or `..` parts, EINVAL if it can be no name.
    """
    parts = rel.split("/") if rel else []
    if any(part in {"", ".", ".."} for part in parts):
        raise OSError(errno.EXDEV, "the path leads out of the folder", rel)
    try:
        encoded = os.fsencode(rel)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise OSError(errno.EINVAL, "no name of a file", rel)
    return parts


def split(rel: RelPath) -> tuple[RelPath, str]:
    """Return folder and name."""
    folder, _, name = rel.rpartition("/")
    return folder, name


def join(folder: RelPath, name: str) -> RelPath:
    return f"{folder}/{name}" if folder else name


def open_root(root: str) -> int:
    """Return a descriptor of the root itself; raises OSError."""
    return os.open(root, _FOLDER)


@contextlib.contextmanager
def opened_root(root: str) -> Iterator[int]:
    """Open the root, anew each time: a descriptor that is kept shows what was unmounted. Raises RootProblem."""
    try:
        fd = open_root(root)
    except OSError as error:
        raise root_problem(error, root) from error
    with held(fd):
        yield fd


def open_folder_beneath(root: int, rel: RelPath) -> int:
    """Return a descriptor of a folder; raises OSError, ENOTDIR where a part is a link or no folder."""
    parts = parts_of(rel)
    fd = os.open(".", _FOLDER, dir_fd=root)
    for part in parts:
        with held(fd) as parent:
            fd = _open_folder(part, parent)
    return fd


class Walk:
    """Opens one folder after another beneath a root, each from the nearest one above that is still open.

    In depth-first order that is one call per folder, however deep it lies; close it at the end.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._open: list[tuple[RelPath, int]] = []

    def open(self, rel: RelPath) -> int:
        """Return a descriptor that is the walk's to close; raises OSError."""
        while self._open and not rel.startswith(self._open[-1][0] + "/"):
            os.close(self._open.pop()[1])
        above, fd = self._open[-1] if self._open else ("", self._root)
        fd = open_folder_beneath(fd, rel[len(above) + 1 :] if above else rel)
        self._open.append((rel, fd))
        if len(self._open) > _WALK_FDS:
            os.close(self._open.pop(0)[1])
        return fd

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop()[1])


def open_beneath(root: int, rel: RelPath, flags: int, mode: int = 0o600) -> int:
    """Return a descriptor of a file; raises OSError, ELOOP where it is a link."""
    folder, name = split(rel)
    parts_of(rel)
    with held(open_folder_beneath(root, folder)) as parent:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=parent)


def make_folders_beneath(root: int, rel: RelPath, mode: int) -> int:
    """Return a descriptor of a folder after making it and what is missing above it; raises OSError."""
    parts = parts_of(rel)
    fd = os.open(".", _FOLDER, dir_fd=root)
    for part in parts:
        with held(fd) as parent:
            fd = _make_folder(part, parent, mode)
    return fd


def sync_folder(fd: int) -> None:
    """Make the names in a folder durable where the file system knows how; raises OSError if it fails in earnest."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def root_problem(error: OSError, root: str) -> RootProblem:
    """Translate an error of the root itself."""
    words = error.strerror or str(error)
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return RootProblem(f"{root}: there is no such folder; it is waited for", root_state=RootState.MISSING)
        case errno.EACCES | errno.EPERM:
            advice = "let the service's user read and enter it"
            return RootProblem(f"{root}: may not be read ({words}): {advice}", root_state=RootState.DENIED)
        case errno.EMFILE | errno.ENFILE | errno.ENOMEM:
            return RootProblem(f"{root}: this machine is out of means ({words})", root_state=RootState.STALE)
        case _:
            advice = "check the share and its server"
            return RootProblem(f"{root}: does not answer ({words}): {advice}", root_state=RootState.STALE)


def blame_root(error: OSError, root: str) -> None:
    """Raise RootProblem if an error met beneath the root is the root's own; return if it is that one file's."""
    if error.errno in _OFFLINE:
        raise root_problem(error, root) from error
    if error.errno in _SUSPECT:
        ask_root(root)


def ask_root(root: str) -> None:
    """Raise RootProblem if the root does not open and list."""
    try:
        with held(open_root(root)) as fd, os.scandir(fd) as entries:
            next(entries, None)
    except OSError as error:
        raise root_problem(error, root) from error


def _make_folder(name: str, parent: int, mode: int) -> int:
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        return _open_folder(name, parent)
    fd = _open_folder(name, parent)
    with contextlib.suppress(OSError):  # shares without modes; else the umask would have its way
        os.fchmod(fd, mode)
    sync_folder(parent)
    return fd


def _open_folder(name: str, parent: int) -> int:
    return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
