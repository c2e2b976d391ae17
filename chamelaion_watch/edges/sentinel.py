"""The file `.lipsync-root` in a root: proof that the share is mounted, and which ledger serves it.

Anybody at the share may have written it: it is read with limits and believed for nothing but names to show and to
compare. Errors of the folder are RootProblem.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from chamelaion_watch.core.errors import RootProblem
from chamelaion_watch.core.model import Millis, RootState

NAME = ".lipsync-root"
MAX_BYTES = 16 * 1024

_MAX_TEXT = 200
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o644
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS, errno.EMLINK})
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF})


@dataclass(frozen=True, slots=True)
class Sentinel:
    """What the file says; when `is_damaged`, nothing."""

    ledger: str = ""
    host: str = ""
    folder: str = ""  # as that host calls it
    written_at: Millis = 0
    is_damaged: bool = False


def read_sentinel(root: str) -> Sentinel | None:
    """Return what the root's sentinel says, None if there is none; raises RootProblem if the root does not answer."""
    with translated(root), _opened(root) as folder:
        try:
            fd = os.open(NAME, _READ, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENXIO}:  # a link, a socket
                return Sentinel(is_damaged=True)
            raise
        try:
            is_file = stat.S_ISREG(os.fstat(fd).st_mode)
            return _parsed(os.read(fd, MAX_BYTES + 1)) if is_file else Sentinel(is_damaged=True)
        finally:
            os.close(fd)


def write_sentinel(root: str, sentinel: Sentinel, *, replace: bool = False) -> bool:
    """Write the sentinel, whole and durably; False if there is one and it shall not be replaced. Raises RootProblem."""
    data = _text(sentinel)
    of_ledger = hashlib.sha256(sentinel.ledger.encode()).hexdigest()[:12]
    temp = f"{NAME}.{of_ledger}.lipsync-part"  # another ledger may be claiming the folder at this moment
    with translated(root), _opened(root) as folder:
        try:
            _remove(folder, temp)
            _write(folder, temp, data)
            is_placed = _replace(folder, temp) if replace else _place(folder, temp, data)
            _sync(folder)
        finally:
            _remove(folder, temp)
    return is_placed


@contextlib.contextmanager
def translated(root: str) -> Iterator[None]:
    """Turn OSError into RootProblem."""
    try:
        yield
    except OSError as error:
        raise _problem(error, root) from error


def _problem(error: OSError, root: str) -> RootProblem:
    words = error.strerror or str(error)
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return RootProblem(f"{root}: there is no such folder; it is waited for", root_state=RootState.MISSING)
        case errno.EACCES | errno.EPERM:
            advice = "let the service's user read, enter and write it"
            return RootProblem(f"{root}: permission denied: {advice}", root_state=RootState.DENIED)
        case errno.EROFS:
            return RootProblem(f"{root}: is mounted read-only", root_state=RootState.READ_ONLY)
        case errno.ENOSPC | errno.EDQUOT:
            return RootProblem(f"{root}: {words}: make room", root_state=RootState.FULL)
        case _:
            message = f"{root}: does not answer ({words}): check the share and its server"
            return RootProblem(message, root_state=RootState.STALE)


# -- the text -----------------------------------------------------------------------------------------


def _text(sentinel: Sentinel) -> bytes:
    written_at = datetime.fromtimestamp(sentinel.written_at / 1000, UTC).isoformat(timespec="milliseconds")
    content = {
        "note": "chamelaion-watch serves this folder. Please leave this file here: while it is missing, the folder"
        " counts as not mounted. To hand the folder over, run `chamelaion-watch adopt` on the new host.",
        "schema_version": 1,
        "ledger": sentinel.ledger,
        "host": sentinel.host,
        "folder": sentinel.folder,
        "written_at": written_at,
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def _parsed(data: bytes) -> Sentinel:
    try:
        content = json.loads(data) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not (ledger := _shown(content.get("ledger"))):
        return Sentinel(is_damaged=True)
    host, folder = _shown(content.get("host")), _shown(content.get("folder"))
    return Sentinel(ledger, host, folder, _instant(content.get("written_at")))


def _shown(value: object) -> str:
    """Return a text that is fit for a log line, "" if it is none."""
    text = value if isinstance(value, str) else ""
    return "".join(char for char in text[:_MAX_TEXT] if char.isprintable())


def _instant(value: object) -> Millis:
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return int(datetime.fromisoformat(value).timestamp() * 1000) if isinstance(value, str) else 0
    return 0


# -- the file -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(root: str) -> Iterator[int]:
    fd = os.open(root, _FOLDER)
    try:
        yield fd
    finally:
        os.close(fd)


def _write(folder: int, name: str, data: bytes) -> None:
    fd = os.open(name, _NEW, _MODE, dir_fd=folder)
    try:
        with contextlib.suppress(OSError):  # the umask had its way: other hosts' daemons shall read it
            os.fchmod(fd, _MODE)
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _replace(folder: int, temp: str) -> bool:
    os.rename(temp, NAME, src_dir_fd=folder, dst_dir_fd=folder)
    return True


def _place(folder: int, temp: str, data: bytes) -> bool:
    """Take the name if it is free: by a hard link, so that it is never seen half; else by exclusive creation."""
    try:
        os.link(temp, NAME, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _create(folder, data)
    return True


def _create(folder: int, data: bytes) -> bool:
    try:
        _write(folder, NAME, data)
    except FileExistsError:
        return False
    return True


def _remove(folder: int, name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)


def _sync(folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
