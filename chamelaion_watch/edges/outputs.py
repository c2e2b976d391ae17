"""Writes what we put on the share: notes, and results that no one ever sees half.

A result grows in a `Part`, a hidden file in the target folder, and gets its name when it is whole and durable; no
other file is ever replaced. Notes are ours and are replaced whole. Every OSError becomes OutputProblem, for what is
written here is paid for: its `root_state` says what the folder is.
Paths are relative to the root; one that begins with `../` is the administrator's and starts outside.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from chamelaion_watch.core.errors import OutputProblem
from chamelaion_watch.core.model import RelPath, RootState, Structure
from chamelaion_watch.edges import jail, structure
from chamelaion_watch.edges.jail import held, split
from chamelaion_watch.edges.placing import place
from chamelaion_watch.edges.writing import (
    copy_all,
    full_path,
    is_content,
    move_in,
    open_existing,
    open_new,
    open_output_folder,
    output_problem,
    require_space,
    sha256_of,
    sync,
    translated,
    unlink,
    write_all,
    write_new,
)

PART_ENDING = ".lipsync-part"

_NAME_BYTES = 255


# -- notes --------------------------------------------------------------------------------------------


def write_note(root: str, rel: RelPath, data: bytes, *, mode: int, may_make_folders: bool = True) -> None:
    """Put a note of ours in place, whole, over an older one; raises OutputProblem."""
    folder, name = split(rel)
    with translated(full_path(root, rel)):
        _require_ours(name)
        with held(open_output_folder(root, folder, mode=mode if may_make_folders else None)) as folder_fd:
            temp = part_name(name)
            try:
                write_new(folder_fd, temp, data, mode)
                os.rename(temp, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
            except OSError:
                unlink(folder_fd, temp)
                raise
            jail.sync_folder(folder_fd)


def remove_note(root: str, rel: RelPath) -> bool:
    """Remove a note of ours; False if there is none. Raises OutputProblem."""
    folder, name = split(rel)
    with translated(full_path(root, rel)):
        _require_ours(name)
        try:
            with held(open_output_folder(root, folder, mode=None)) as folder_fd:
                os.unlink(name, dir_fd=folder_fd)
        except FileNotFoundError:
            return False
    return True


def remove_parts(root: str, rels: Iterable[RelPath]) -> int:
    """Remove those of the paths that are parts of ours, left by a crash; return how many went."""
    removed = 0
    for rel in rels:
        folder, name = split(rel)
        if not is_part(name):
            continue
        with contextlib.suppress(OSError), held(open_output_folder(root, folder, mode=None)) as folder_fd:
            os.unlink(name, dir_fd=folder_fd)
            removed += 1
    return removed


def is_part(name: str) -> bool:
    """Say whether a bare name is that of a part."""
    return name.startswith(".") and name.endswith(PART_ENDING)


def part_name(name: str) -> str:
    """Return the hidden name under which a file called `name` grows; one that would be too long is made of its hash."""
    part = f".{name}{PART_ENDING}"
    if len(os.fsencode(part)) <= _NAME_BYTES:
        return part
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}{PART_ENDING}"


# -- results ------------------------------------------------------------------------------------------


def find_output(root: str, rel: RelPath, sha256: str, size: int) -> bool:
    """Say whether the file there has exactly this content; raises OutputProblem if that cannot be told."""
    with translated(full_path(root, rel)):
        fd = open_existing(root, rel)
        if fd is None:
            return False
        with held(fd):
            return os.fstat(fd).st_size == size and sha256_of(fd) == sha256


def copy_output(
    source: tuple[str, RelPath], root: str, temp_rel: RelPath, *, sha256: str, mode: int, may_make_folders: bool = True
) -> Part | None:
    """Copy an existing result, (root, path), into a new part; None if it is gone or has another content.

    Raises OutputProblem if the part cannot be written, or the source cannot be read.
    """
    source_root, source_rel = source
    with translated(full_path(source_root, source_rel)):
        opened = open_existing(source_root, source_rel)
    if opened is None:
        return None
    with held(opened) as fd:
        size = os.fstat(fd).st_size
        part = Part.create(root, temp_rel, mode=mode, expected_bytes=size, may_make_folders=may_make_folders)
        try:
            part.fill_from(fd)
            if part.sha256() == sha256:
                return part
        except BaseException:
            part.discard()
            raise
    part.discard()
    return None


class Part:
    """A result that grows under a hidden name in its target folder, until `publish`, `discard` or `move_to`.

    For one thread at a time. All methods raise OutputProblem. `close` leaves the file where it is.
    """

    def __init__(self, folder_fd: int, fd: int, root: str, rel: RelPath) -> None:
        self.path = full_path(root, rel)  # for messages
        self._folder, self._name = split(rel)
        self._folder_fd: int | None = os.dup(folder_fd)
        self._fd: int | None = fd
        self._size = os.lseek(fd, 0, os.SEEK_END)
        self._is_durable = False

    @classmethod
    def create(
        cls,
        root: str,
        temp_rel: RelPath,
        *,
        mode: int,
        expected_bytes: int | None = None,
        may_make_folders: bool = True,
    ) -> Self:
        """Begin an empty part, in place of an older one of this name; `expected_bytes` must be free."""
        name = _require_part(temp_rel)
        with translated(full_path(root, temp_rel)), _target(root, temp_rel, mode, may_make_folders) as folder_fd:
            require_space(folder_fd, expected_bytes or 0)
            return cls(folder_fd, open_new(folder_fd, name, mode), root, temp_rel)

    @classmethod
    def adopt(cls, spooled: str, root: str, temp_rel: RelPath, *, mode: int, may_make_folders: bool = True) -> Self:
        """Go on with a part that `move_to` or a spool put at the path `spooled`; it is gone from there."""
        name, size = _require_part(temp_rel), _spooled_bytes(spooled)
        with translated(full_path(root, temp_rel)), _target(root, temp_rel, mode, may_make_folders) as folder_fd:
            fd = move_in(spooled, folder_fd, name, mode)
            if fd is not None:
                return cls(folder_fd, fd, root, temp_rel)
        part = cls.create(root, temp_rel, mode=mode, expected_bytes=size, may_make_folders=may_make_folders)
        return part._with_copy_of(spooled)  # noqa: SLF001 - our own kind

    @property
    def size(self) -> int:
        return self._size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append."""
        fd = self._open_fd()
        with translated(self.path):
            for written in write_all(fd, data):
                self._size += written

    def fill_from(self, source: int) -> None:
        """Append what an open file has from its position on, within the kernel or the server where they can."""
        fd = self._open_fd()
        with translated(self.path):
            for written in copy_all(source, fd):
                self._size += written

    def require_room(self, size: int) -> None:
        """Raise OutputProblem unless so many bytes more are free."""
        with translated(self.path):
            require_space(self._held_folder(), max(0, size))

    def restart(self) -> None:
        """Begin again with nothing."""
        with translated(self.path):
            os.ftruncate(self._open_fd(), 0)
            os.lseek(self._open_fd(), 0, os.SEEK_SET)
        self._size = 0

    def sha256(self) -> str:
        """Return the hash of what the disk gives back."""
        with translated(self.path):
            return sha256_of(self._open_fd())

    def check(self) -> tuple[Structure, str]:
        """Say whether the content is a whole MP4, and in words what is missing."""
        with translated(self.path):
            return structure.check(self._open_fd(), "result.mp4", self._size)

    def publish(self, candidates: Iterable[RelPath]) -> RelPath:
        """Give the part the first of the names that is free, durably, and return it.

        A name under which this very content lies already is taken as ours. After an error of flushing the part is
        discarded and must be fetched again: what a second fsync says is not to be believed.
        """
        self._make_durable()
        with translated(self.path):
            self._require_own()
            for rel in candidates:
                if self._publish_as(rel):
                    jail.sync_folder(self._held_folder())
                    self._release()
                    return rel
        message = f"{self.path}: every name for the result is taken: remove old versions of it"
        raise OutputProblem(message, root_state=RootState.DENIED, code="output_names")

    def discard(self) -> None:
        """Remove the part; never raises."""
        if self._folder_fd is not None:
            unlink(self._folder_fd, self._name)
        self._release()

    def move_to(self, path: str) -> bool:
        """Put the part aside, durably, to be adopted later; False if that is another file system: it stays."""
        self._make_durable()
        try:
            os.rename(self._name, path, src_dir_fd=self._held_folder())
        except OSError:
            return False
        self._release()
        return True

    def close(self) -> None:
        """Leave the part where it is; never raises."""
        self._release()

    # -- within

    def _require_own(self) -> None:
        """A thread that outlived its session finds here what the next session has begun anew: its half is no result."""
        size = os.stat(self._name, dir_fd=self._held_folder(), follow_symlinks=False).st_size
        if size != self._size:
            message = f"{self.path}: holds {size} bytes and not the {self._size} that were written: fetched again"
            raise OutputProblem(message, root_state=RootState.STALE)

    def _publish_as(self, rel: RelPath) -> bool:
        folder, name = split(rel)
        if folder != self._folder:
            raise ValueError(f"{rel!r} is not in the part's folder {self._folder!r}")
        if place(self._held_folder(), self._name, name):
            return True
        if not self._is_already(name):
            return False
        unlink(self._held_folder(), self._name)
        return True

    def _is_already(self, name: str) -> bool:
        """Say whether the file of that name has our content; one that cannot be read has not."""
        folder = self._held_folder()
        with contextlib.suppress(OSError), held(os.open(self._name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)) as own:
            return is_content(folder, name, sha256_of(own), self._size)
        return False

    def _make_durable(self) -> None:
        """Flush and close: a quota may speak up only at close (NFS, SMB)."""
        if self._is_durable:  # closed, and only its name is missing: publish is asked again
            return
        fd, self._fd = self._open_fd(), None
        try:
            try:
                sync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            self.discard()
            raise output_problem(error, self.path) from error
        self._is_durable = True

    def _with_copy_of(self, spooled: str) -> Self:
        try:
            with translated(spooled), held(os.open(spooled, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)) as source:
                self.fill_from(source)
        except BaseException:
            self.discard()
            raise
        with contextlib.suppress(OSError):
            Path(spooled).unlink()
        return self

    def _open_fd(self) -> int:
        if self._fd is None:
            raise ValueError(f"{self.path}: is closed")
        return self._fd

    def _held_folder(self) -> int:
        if self._folder_fd is None:
            raise ValueError(f"{self.path}: is closed")
        return self._folder_fd

    def _release(self) -> None:
        for fd in (self._fd, self._folder_fd):
            if fd is not None:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self._fd = self._folder_fd = None


def _target(root: str, rel: RelPath, mode: int, may_make_folders: bool) -> contextlib.AbstractContextManager[int]:
    """Open the folder in which `rel` will lie."""
    return held(open_output_folder(root, split(rel)[0], mode=mode if may_make_folders else None))


def _spooled_bytes(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError as error:
        message = f"{path}: the part that was put aside cannot be read ({error.strerror}): it must be fetched again"
        raise OutputProblem(message, root_state=RootState.MISSING, code="spool_missing") from error


def _require_part(rel: RelPath) -> str:
    name = split(rel)[1]
    if not is_part(name):
        raise ValueError(f"not the name of a part: {rel!r}")
    return name


def _require_ours(name: str) -> None:
    """Notes carry our mark: a mistake above must not cost anybody a file."""
    if ".lipsync-" not in name and not name.endswith(".lipsync.json") and not name.startswith("_lipsync-"):
        raise ValueError(f"not the name of a note: {name!r}")
