"""Which file system a path lies on, and which one it should lie on: /proc/self/mountinfo, fstab, systemd mount units.

Reads the tables of the system, never the share itself. Where there is no /proc (macOS) it says little and promises
nothing.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

UNKNOWN = "unknown"  # the type of a file system that no table names

# What other machines change without an event here, and whose leases say nothing about them.
_NETWORK = (
    *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "9p", "afs", "afpfs", "autofs", "beegfs", "ceph", "coda"),
    *("davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "ocfs2", "orangefs", "prl_fs", "pvfs2", "vboxsf"),
    *("virtiofs", "vmhgfs", "webdav", "fuse.*"),
)
_LOCAL_FUSE = (
    *("fuse.bindfs", "fuse.cryfs", "fuse.encfs", "fuse.exfat*", "fuse.fuse-overlayfs", "fuse.gocryptfs"),
    *("fuse.mergerfs", "fuse.ntfs*", "fuse.unionfs*"),
)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the system's tables are."""

    mountinfo: str = "/proc/self/mountinfo"
    fstab: str = "/etc/fstab"
    unit_folders: tuple[str, ...] = ("/run/systemd/generator", "/run/systemd/system", "/etc/systemd/system")


SYSTEM = Places()


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system as a path meets it."""

    point: str
    source: str  # device or share
    fstype: str
    options: frozenset[str] = frozenset()

    @property
    def is_network(self) -> bool:
        """Say whether other machines may change it; an unknown FUSE program counts as one."""
        return _matches(self.fstype, _NETWORK) and not _matches(self.fstype, _LOCAL_FUSE)

    @property
    def delivers_events(self) -> bool:
        """Say whether inotify sees all changes; a FUSE layer over another folder hides those made below it."""
        return not self.is_network and not self.fstype.startswith("fuse.")

    @property
    def has_leases(self) -> bool:
        """Say whether a read lease proves that there is no writer."""
        return self.delivers_events and self.fstype not in {"fuse", "fuseblk", UNKNOWN}


def mount_of(path: str, places: Places = SYSTEM) -> Mount:
    """Return the mount that serves a path, which need not exist."""
    real = os.path.realpath(path)
    entries = _read_mountinfo(places.mountinfo)
    return _visible(entries, real) or _unlisted(real)


def expects_mount(path: str, places: Places = SYSTEM) -> str | None:
    """Say in words which mount on the path, or above it, is configured and not mounted now; None if there is none."""
    mounted = {entry.mount.point for entry in _read_mountinfo(places.mountinfo)}
    wanted = {os.path.abspath(path), os.path.realpath(path)}  # noqa: PTH100 - Path.absolute() keeps `..`
    for point, source, table in _configured(places):
        if point in mounted or (not mounted and os.path.ismount(point)):
            continue
        if point != "/" and any(_covers(point, each) for each in wanted):
            return f"{table} mounts {source} on {point}, which is not mounted"
    return None


# -- mountinfo ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    id: str
    parent: str
    mount: Mount


@functools.lru_cache(maxsize=2)
def parse_mountinfo(text: str) -> tuple[_Entry, ...]:
    """Return the entries of a mountinfo table (proc(5)); lines of another form are left out.

    Each action on a share asks, and the text stays the same for days: with 300 mounts (a host of containers) it takes
    3.7 ms to take apart, and 0.07 ms to read and to see that it is known.
    """
    return tuple(entry for line in text.split("\n") if (entry := _entry(line)))


def _entry(line: str) -> _Entry | None:
    left, separator, right = line.partition(" - ")
    head, tail = left.split(" "), right.split(" ")
    if not separator or len(head) < 6 or len(tail) < 2:  # noqa: PLR2004 - the fields that every line has
        return None
    options = frozenset(head[5].split(",")) | frozenset(tail[2].split(",") if len(tail) > 2 else ())  # noqa: PLR2004
    return _Entry(head[0], head[1], Mount(_unescaped(head[4]), _unescaped(tail[1]), tail[0], options))


def _read_mountinfo(path: str) -> tuple[_Entry, ...]:
    return parse_mountinfo(_read(path))


def _visible(entries: Sequence[_Entry], path: str) -> Mount | None:
    """Follow the path down the tree of mounts as the kernel does: a later mount hides what lies below its point."""
    ids = {entry.id for entry in entries}
    here = [entry for entry in entries if entry.parent not in ids or entry.parent == entry.id]
    found: Mount | None = None
    while on_path := [entry for entry in here if _covers(entry.mount.point, path)]:
        first = min(on_path, key=lambda entry: len(entry.mount.point))
        found = first.mount
        here = [entry for entry in entries if entry.parent == first.id != entry.id]
    return found


def _unlisted(path: str) -> Mount:
    """Without a table: the nearest mount point, local unless macOS keeps shares there."""
    point = Path(path)
    while not os.path.ismount(point) and point != point.parent:
        point = point.parent
    is_share = _covers("/Volumes", path)
    return Mount(str(point), "", "smbfs" if is_share else UNKNOWN)


# -- what is configured -------------------------------------------------------------------------------


def _configured(places: Places) -> Iterator[tuple[str, str, str]]:
    """Yield mount point, source and the table that names them."""
    for line in _read(places.fstab).split("\n"):
        fields = line.split()
        if len(fields) > 1 and not line.lstrip().startswith("#") and fields[1].startswith("/"):
            yield os.path.normpath(_unescaped(fields[1])), _unescaped(fields[0]), places.fstab
    for folder in places.unit_folders:
        for unit in sorted(Path(folder).glob("*.mount")):
            settings = dict(_settings(_read(str(unit))))
            if settings.get("Where", "").startswith("/"):
                yield os.path.normpath(settings["Where"]), settings.get("What", "a file system"), str(unit)


def _settings(unit: str) -> Iterator[tuple[str, str]]:
    for line in unit.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            yield key.strip(), value.strip()


# -- text ---------------------------------------------------------------------------------------------


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return os.fsdecode(Path(path).read_bytes())
    return ""


def _unescaped(field: str) -> str:
    """Undo the kernel's octal escapes of space, tab, newline and backslash, byte by byte."""
    raw = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8) & 0xFF]), os.fsencode(field))
    return os.fsdecode(raw)


def _covers(point: str, path: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _matches(fstype: str, globs: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(fstype, glob) for glob in globs)
