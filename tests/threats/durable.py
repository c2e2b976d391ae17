"""What a disk would still have after a power cut: only contents that were fsynced, under names whose folder was.

The strictest reading of POSIX, worse than any file system in use: a name is there after its folder's fsync, its
content is what the file's last fsync saw (none at all if there was none), and a removal counts no sooner either.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path


class Durable:
    """Follows a folder; everything that lies there at the start is durable."""

    def __init__(self, backing: Path, store: Path) -> None:
        self._backing = backing
        self._store = store  # where contents are kept, one file per number
        self._numbers: dict[int, int] = {}  # of the file or folder that has this inode now
        self._next = 0
        self._folders: dict[int, dict[str, int]] = {}
        self._take_in(backing)

    def made(self, inode: int) -> None:
        """Note that the inode is another file or folder from now on."""
        self._next += 1
        self._numbers[inode] = self._next

    def synced(self, fd: int) -> None:
        """A file was fsynced."""
        number = self._number(os.fstat(fd).st_ino)
        shutil.copyfile(f"/proc/self/fd/{fd}", self._store / str(number))

    def folder_synced(self, fd: int) -> None:
        """A folder was fsynced."""
        names = {}
        for name in os.listdir(fd):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            names[name] = self._number(status.st_ino)
            if stat.S_ISDIR(status.st_mode):
                self._folders.setdefault(names[name], {})
        self._folders[self._number(os.fstat(fd).st_ino)] = names

    def restore_to(self, target: Path) -> None:
        """Write what is left of the disk into an empty folder."""
        self._restore(self._number(self._backing.stat().st_ino), target)

    def _restore(self, number: int, target: Path) -> None:
        target.mkdir(exist_ok=True)
        for name, child in self._folders[number].items():
            if child in self._folders:
                self._restore(child, target / name)
            elif (kept := self._store / str(child)).exists():
                shutil.copy(kept, target / name)
            else:
                (target / name).touch()

    def _number(self, inode: int) -> int:
        if inode not in self._numbers:
            self.made(inode)
        return self._numbers[inode]

    def _take_in(self, folder: Path) -> None:
        names = {}
        for path in folder.iterdir():
            names[path.name] = self._number(path.stat().st_ino)
            if path.is_dir():
                self._take_in(path)
            else:
                shutil.copy(path, self._store / str(names[path.name]))
        self._folders[self._number(folder.stat().st_ino)] = names
