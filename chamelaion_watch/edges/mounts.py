"""Is the folder that is there the folder that is meant?

An unmounted mount point is a valid empty folder; taken for the share it makes every file look deleted, and results
land beneath the next mount. So a root is believed only with its sentinel, on the kind of mount where it was claimed.
`inspect_root` only reads; nothing here ever creates a folder. The edge is three files: this one judges, `mountinfo`
reads the system's tables, `sentinel` the file in the root.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from chamelaion_watch.core.errors import RootProblem
from chamelaion_watch.core.model import Millis, RelPath, RootState
from chamelaion_watch.edges.mountinfo import SYSTEM, UNKNOWN, Mount, Places, expects_mount, mount_of
from chamelaion_watch.edges.sentinel import NAME, Sentinel, read_sentinel, translated, write_sentinel

__all__ = [
    "KnownRoot",
    "Mount",
    "Places",
    "RootReport",
    "Sentinel",
    "claim_root",
    "expects_mount",
    "inspect_root",
    "mount_of",
    "read_sentinel",
    "write_sentinel",
]

# Two words for one thing, and which of them is shown depends on what was negotiated.
_FAMILIES = {"nfs4": "nfs", "smb2": "smb", "smb3": "smb", "cifs": "smb", "smbfs": "smb"}


@dataclass(frozen=True, slots=True)
class KnownRoot:
    """What the ledger recorded of a root when it was last well."""

    source: str
    fstype: str
    has_sentinel: bool
    is_read_only: bool = False
    known_files: tuple[RelPath, ...] = ()  # a sample of files that lay there, for when the sentinel is lost


@dataclass(frozen=True, slots=True)
class RootReport:
    """The state of a root, in words what to do, and whether the sentinel is to be written (`claim_root`) first."""

    state: RootState
    reason: str = ""
    mount: Mount | None = None
    sentinel: Sentinel | None = None
    may_claim: bool = False
    is_read_only: bool = False  # we cannot write there, for whatever reason


def inspect_root(path: str, *, ledger_id: str, known: KnownRoot | None, places: Places = SYSTEM) -> RootReport:
    """Look at a root and judge it; never raises for the root's own troubles, never writes.

    OK with `may_claim` means: well, once `claim_root` has written the sentinel. A root that cannot be written is OK
    unless it is known as one that could.
    """
    try:
        with translated(path), os.scandir(path) as entries:
            next(entries, None)  # the first question to a share may take long, or mount it
        sentinel = read_sentinel(path)
        is_read_only = _is_read_only(path)
    except RootProblem as problem:
        return _unwell(path, problem, places)
    look = _Look(path, ledger_id, known, mount_of(path, places), sentinel, is_read_only)
    return _judge(look, places)


def claim_root(path: str, ledger_id: str, host: str, *, now: Millis, adopt: bool = False) -> Sentinel:
    """Write the sentinel in our name and return it; with `adopt` over another's.

    Raises RootProblem: foreign if another ledger was faster, denied, read_only, full, stale.
    """
    ours = Sentinel(ledger_id, host, path, now)
    if write_sentinel(path, ours, replace=adopt):
        return ours
    there = read_sentinel(path)
    if there and there.ledger == ledger_id:
        return there
    raise RootProblem(_foreign(path, there or Sentinel(is_damaged=True)), root_state=RootState.FOREIGN)


@dataclass(frozen=True, slots=True)
class _Look:
    path: str
    ledger_id: str
    known: KnownRoot | None
    mount: Mount
    sentinel: Sentinel | None
    is_read_only: bool

    def report(self, state: RootState, reason: str = "", *, may_claim: bool = False) -> RootReport:
        may_claim = may_claim and not self.is_read_only
        return RootReport(state, reason, self.mount, self.sentinel, may_claim, self.is_read_only)


def _judge(look: _Look, places: Places) -> RootReport:
    known, sentinel = look.known, look.sentinel
    if known and _is_other_mount(known, look.mount):
        return look.report(RootState.NOT_MOUNTED, _other_mount(look.path, known, look.mount))
    if sentinel and (sentinel.is_damaged or sentinel.ledger != look.ledger_id):
        return look.report(RootState.FOREIGN, _foreign(look.path, sentinel))
    if known and known.has_sentinel and not sentinel and not _has_known_file(look.path, known):
        reason = f"{look.path}: {NAME} is missing, so the share is probably not mounted: mount it; if the folder was"
        return look.report(RootState.NOT_MOUNTED, f"{reason} emptied on purpose, run `chamelaion-watch adopt`")
    if not known and (awaited := expects_mount(look.path, places)):
        return look.report(RootState.NOT_MOUNTED, f"{look.path}: {awaited}: mount it first")
    if look.is_read_only and known and not known.is_read_only:
        reason = f"{look.path}: cannot be written any more: let the service's user write there, or remount it"
        return look.report(RootState.READ_ONLY, reason)
    if sentinel:
        return look.report(RootState.OK)
    reason = f"{look.path}: {NAME} was lost and is written anew" if known and known.has_sentinel else ""
    return look.report(RootState.OK, reason, may_claim=True)


def _unwell(path: str, problem: RootProblem, places: Places) -> RootReport:
    awaited = expects_mount(path, places) if problem.root_state is RootState.MISSING else None
    return RootReport(problem.root_state, f"{problem.message} ({awaited})" if awaited else problem.message)


def _is_other_mount(known: KnownRoot, mount: Mount) -> bool:
    """Compare kind and source; not the point (systemd binds folders onto themselves), nor the names of local disks,
    which change from boot to boot.
    """
    if UNKNOWN in {known.fstype, mount.fstype}:
        return False
    if _FAMILIES.get(known.fstype, known.fstype) != _FAMILIES.get(mount.fstype, mount.fstype):
        return True
    are_disks = known.source.startswith("/dev/") and mount.source.startswith("/dev/")
    return not are_disks and known.source.rstrip("/") != mount.source.rstrip("/")


def _other_mount(path: str, known: KnownRoot, mount: Mount) -> str:
    was, now = f"{known.fstype} {known.source}", f"{mount.fstype} {mount.source}"
    return f"{path}: lay on {was} and lies on {now} now: mount it; if it moved for good, run `chamelaion-watch adopt`"


def _foreign(path: str, sentinel: Sentinel) -> str:
    if sentinel.is_damaged:
        advice = "if no other daemon serves the folder, run `chamelaion-watch adopt`"
        return f"{path}: {NAME} cannot be understood, so nobody can say who serves the folder: {advice}"
    who = f"the daemon on {sentinel.host or 'an unnamed host'}, as {sentinel.folder or 'a folder'}"
    advice = "remove it from that one's config, then run `chamelaion-watch adopt` here"
    return f"{path}: is served by {who}, with another ledger: {advice}"


def _has_known_file(path: str, known: KnownRoot) -> bool:
    return any(os.path.lexists(Path(path) / rel) for rel in known.known_files)


def _is_read_only(path: str) -> bool:
    with translated(path):
        is_mounted_so = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    is_effective = os.access in os.supports_effective_ids
    return is_mounted_so or not os.access(path, os.W_OK | os.X_OK, effective_ids=is_effective)
