"""Lists the drop folder: names only, no file is opened or statted, and says what came and went since the last time.

On shares names come in bulk, stats are round trips. A folder whose time did not change is not listed again.
Memory is replaced only when a whole pass has succeeded, so that a share that dies in the middle loses no news.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from chamelaion_watch.core.errors import RootProblem
from chamelaion_watch.core.model import RelPath, RootState
from chamelaion_watch.edges import jail
from chamelaion_watch.edges.jail import join

MAX_DEPTH = 512  # folders within folders
RELIST_EVERY = 10  # sweeps: folder times are trusted, but not for ever
TRUST_AFTER_S = 3.0  # a folder's time may be as coarse as 2 s (FAT): a second change within may not touch it

_DENIED = frozenset({errno.EACCES, errno.EPERM})
_MOVED_AWAY = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


@dataclass(frozen=True, slots=True)
class ScanRules:
    """Which names matter: pure functions of the bare name of a file and of a folder."""

    recursive: bool
    wants: Callable[[str], bool]
    enters: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Sweep:
    """What changed since the last sweep. Only in a complete one is a file that is not listed really not there."""

    appeared: tuple[RelPath, ...]
    vanished: tuple[RelPath, ...]
    skipped: tuple[tuple[RelPath, str], ...]  # each once, with the reason
    folders: int
    files: int
    took_s: float
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """When a folder was listed, and with which time of its own; that is only compared with itself."""

    device: int
    mtime_ns: int
    changed_at: float  # our clock, when we first saw this time
    listed_at: float

    @classmethod
    def at(cls, status: os.stat_result, now: float, before: Seen | None) -> Self:
        is_same = before and (before.device, before.mtime_ns) == (status.st_dev, status.st_mtime_ns)
        changed_at = before.changed_at if before and is_same else now
        return cls(status.st_dev, status.st_mtime_ns, changed_at, now)

    def holds(self, status: os.stat_result) -> bool:
        """Say whether the listing still holds: nothing since, and it was not taken too soon after a change."""
        is_same = (self.device, self.mtime_ns) == (status.st_dev, status.st_mtime_ns)
        return is_same and self.listed_at - self.changed_at >= TRUST_AFTER_S


@dataclass(frozen=True, slots=True)
class _Folder:
    """What one folder holds; the names of files in one text, for as a set those of 100,000 took 15 MB."""

    seen: Seen
    names: str = ""  # in order, with what no name has between them
    count: int = 0
    folders: tuple[str, ...] = ()
    skips: frozenset[tuple[str, str]] = frozenset()

    @property
    def files(self) -> frozenset[str]:
        return frozenset(self.names.split("/")) if self.names else frozenset()


_NOTHING = _Folder(Seen(0, 0, 0.0, 0.0))


@dataclass(slots=True)
class _Found:
    """One pass in the making."""

    folders: dict[RelPath, _Folder] = field(default_factory=dict)
    blocked: dict[RelPath, str] = field(default_factory=dict)  # could not be listed, and why
    is_complete: bool = True


class Listing:
    """The names in one root, with the memory of what was reported; `clock` is monotonic, in seconds."""

    def __init__(self, root: str, rules: ScanRules, clock: Callable[[], float]) -> None:
        self._root = root
        self._rules = rules
        self._clock = clock
        self._sweeps = 0
        self._folders: dict[RelPath, _Folder] = {}
        self._blocked: dict[RelPath, str] = {}

    def sweep(self) -> Sweep:
        """List the tree and say what changed; raises RootProblem, and then nothing was forgotten."""
        began = self._clock()
        self._sweeps += 1
        with jail.opened_root(self._root) as root:
            found = self._survey(root)
            self._check_same_root(root)
        sweep = self._compare(found, began)
        self._folders, self._blocked = found.folders, found.blocked
        return sweep

    def _survey(self, root: int) -> _Found:
        found = _Found()
        pending = [""]
        with contextlib.closing(jail.Walk(root)) as walk:
            while pending:
                rel = pending.pop()
                try:
                    pending += self._visit(found, rel, walk.open(rel))
                except OSError as error:
                    self._miss(found, rel, error)
        self._keep_blocked(found)
        return found

    def _visit(self, found: _Found, rel: RelPath, fd: int) -> list[RelPath]:
        """Take one open folder in; return its sub-folders that must be opened as well."""
        folder = found.folders[rel] = self._folder(rel, fd)
        to_open = []
        for name in folder.folders:
            path = join(rel, name)
            leaf = self._folders.get(path)
            if leaf and not leaf.folders and self._is_fresh(leaf, _status_in(fd, name)):
                found.folders[path] = leaf
            else:
                to_open.append(path)
        return to_open

    def _folder(self, rel: RelPath, fd: int) -> _Folder:
        """Return what is known of the folder if its time says that it still holds, else list it."""
        status = os.fstat(fd)  # before the listing: what comes during it changes the time again
        known = self._folders.get(rel)
        if known and self._is_fresh(known, status):
            return known
        seen = Seen.at(status, self._clock(), known.seen if known else None)
        return self._listed(rel, fd, seen, known.files if known else frozenset())

    def _is_fresh(self, known: _Folder, status: os.stat_result | None) -> bool:
        is_due = self._sweeps % RELIST_EVERY == 0
        return not is_due and status is not None and known.seen.holds(status)

    def _listed(self, rel: RelPath, fd: int, seen: Seen, known: frozenset[str]) -> _Folder:
        files, folders, skips = [], [], []
        is_deepest = bool(rel) and rel.count("/") + 1 >= MAX_DEPTH
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    if entry.name in known or self._rules.wants(entry.name):
                        files.append(entry.name)
                elif reason := self._reason_to_skip(entry, is_deepest):
                    skips.append((entry.name, reason))
                elif self._may_enter(entry):
                    folders.append(entry.name)
        return _Folder(seen, "/".join(sorted(files)), len(files), tuple(folders), frozenset(skips))

    def _may_enter(self, entry: os.DirEntry[str]) -> bool:
        return self._rules.recursive and entry.is_dir(follow_symlinks=False) and self._rules.enters(entry.name)

    def _reason_to_skip(self, entry: os.DirEntry[str], is_deepest: bool) -> str | None:
        """Say why something that a person may expect to be taken is not."""
        is_wanted = self._rules.wants(entry.name)
        if entry.is_symlink():
            may_be_folder = self._rules.recursive and "." not in entry.name and self._rules.enters(entry.name)
            return "is a symbolic link: links are not followed" if is_wanted or may_be_folder else None
        if is_wanted:
            is_folder = entry.is_dir(follow_symlinks=False)
            return "is a folder with the name of a file" if is_folder else "is a pipe, a socket or a device"
        if is_deepest and self._may_enter(entry):
            return f"is more than {MAX_DEPTH} folders deep: not looked into"
        return None

    def _miss(self, found: _Found, rel: RelPath, error: OSError) -> None:
        """Take in that a folder could not be listed: it went away, or its files stay as they were known."""
        if not rel:
            raise jail.root_problem(error, self._root) from error
        if error.errno in _MOVED_AWAY:
            return
        if error.errno == errno.ESTALE:  # NFS: perhaps only this one, deleted by another client while we listed it
            jail.ask_root(self._root)
        else:
            jail.blame_root(error, self._root)
        found.blocked[rel] = f"cannot be listed: {error.strerror or error}"
        # A private folder on a shared drive hides nothing that we know of: the rest may count as complete.
        is_private = error.errno in _DENIED and rel not in self._folders
        found.is_complete = found.is_complete and is_private

    def _keep_blocked(self, found: _Found) -> None:
        """Keep what is known in and below the folders that could not be listed."""
        if not found.blocked:
            return
        for rel, known in self._folders.items():
            if rel not in found.folders and any(folder in found.blocked for folder in _upwards(rel)):
                found.folders[rel] = known

    def _compare(self, found: _Found, began: float) -> Sweep:
        appeared: list[RelPath] = []
        vanished: list[RelPath] = []
        skipped = [item for item in found.blocked.items() if item not in self._blocked.items()]
        for rel in self._folders.keys() | found.folders.keys():
            old, new = self._folders.get(rel, _NOTHING), found.folders.get(rel, _NOTHING)
            if old.names != new.names:
                before, after = old.files, new.files
                appeared += (join(rel, name) for name in after - before)
                vanished += (join(rel, name) for name in before - after)
            if old.skips != new.skips:
                skipped += ((join(rel, name), reason) for name, reason in new.skips - old.skips)
        return Sweep(
            appeared=tuple(sorted(appeared)),
            vanished=tuple(sorted(vanished)),
            skipped=tuple(sorted(skipped)),
            folders=len(found.folders),
            files=sum(folder.count for folder in found.folders.values()),
            took_s=self._clock() - began,
            is_complete=found.is_complete,
        )

    def _check_same_root(self, fd: int) -> None:
        """Raise RootProblem if the share went away under the listing; by device, for inodes lie on shares."""
        try:
            device = Path(self._root).stat().st_dev
        except OSError as error:
            raise jail.root_problem(error, self._root) from error
        if device != os.fstat(fd).st_dev:
            message = f"{self._root}: was mounted or unmounted while it was listed; it is listed again"
            raise RootProblem(message, root_state=RootState.NOT_MOUNTED)


def _status_in(folder: int, name: str) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    return None


def _upwards(rel: RelPath) -> Iterator[RelPath]:
    """Yield the folder and those above it, without the root."""
    while rel:
        yield rel
        rel = rel.rpartition("/")[0]
