"""A share that answers each call after 5 ms, 10,000 known files in 100 folders: which calls the sweeps make.

Every call on a path or a descriptor beneath the root is counted, closing included, and takes 5 ms of a clock that only
these calls move: the daemon scans a root on one thread, so its calls follow each other and the sum is what it waits.
Names come in bulk: listing a folder is one call. The root is shown to the daemon as an NFS mount without events.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from chamelaion_watch import rootwork
from chamelaion_watch.core.messages import Scanned
from chamelaion_watch.edges import mounts
from chamelaion_watch.edges.listing import RELIST_EVERY
from tests.bench import trees
from tests.bench.table import IS_SMALL, Bench, Row, Run, just

CALL_S = 0.005
STOCK = trees.Stock(pairs=250, folders=10) if IS_SMALL else trees.Stock(pairs=5_000, folders=100)
UNSETTLED = 10
ROTATING = 0.01  # of the known files, with each sweep
MAX_SWEEPS = 250  # to give up a rotation
BY_PATH = ("open", "stat", "lstat", "scandir", "listdir", "access", "statvfs")
LISTING = ("scandir", "listdir")
BY_DESCRIPTOR = ("fstat", "pread", "read", "lseek", "close")
MOUNT = mounts.Mount("/", "server:/export", "nfs4")


@dataclass
class Share:
    """Counts the calls beneath a root, by kind and by the name that they were for; each moves `now_s` on."""

    root: str
    now_s: float = 1_000.0
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    _open: dict[int, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for name in (*BY_PATH, *BY_DESCRIPTOR):
                stack.enter_context(_instead(os, name, self._counting(name, getattr(os, name))))
            stack.enter_context(_instead(os, "supports_effective_ids", {os.access}))
            stack.enter_context(_instead(mounts, "mount_of", lambda *_: MOUNT))
            stack.enter_context(_instead(rootwork, "monotonic_s", lambda: self.now_s))
            yield

    def _counting(self, kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(target: Any, *rest: Any, **named: Any) -> Any:
            name = self._name_of(target, named.get("dir_fd"))
            if name is not None:
                self.calls[kind, name] += 1
                self.now_s += CALL_S
            found = call(target, *rest, **named)
            if kind == "open" and name is not None:
                self._open[found] = name
            elif kind == "close":
                self._open.pop(target, None)
            return found

        return counted

    def _name_of(self, target: Any, folder: int | None) -> str | None:
        """Return what a call is for, relative to the root; None if it is not beneath it."""
        if isinstance(target, int):
            return self._open.get(target)
        path = os.fsdecode(target)
        if folder is not None:
            above = self._open.get(folder)
            return None if above is None else os.path.normpath(os.path.join(above, path))  # noqa: PTH118
        return os.path.relpath(path, self.root) if f"{path}/".startswith(f"{self.root}/") else None


@contextlib.contextmanager
def _instead(owner: ModuleType, name: str, value: object) -> Iterator[None]:
    """Have a module use `value`: the calls themselves are carried out, on the real file system."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@dataclass(frozen=True)
class Counted:
    """What one scan cost: its calls by kind and name, and the seconds that they and our own code took."""

    event: Scanned
    calls: Counter[tuple[str, str]]
    took_s: float

    @property
    def looks(self) -> set[str]:
        return {look.path for look in self.event.action.looks}

    @property
    def listings(self) -> int:
        """Of folders in the tree; the root itself is always asked whether it answers."""
        return sum(count for (kind, name), count in self.calls.items() if kind in LISTING and name != ".")

    def calls_for(self, names: set[str]) -> int:
        return sum(count for (_, name), count in self.calls.items() if name in names)

    def calls_beside(self, names: set[str]) -> int:
        return self.calls.total() - self.calls_for(names)


def run(place: Path) -> Run:
    at = trees.make(place, STOCK)
    share = Share(str(at.drop))
    with share.watched():
        watch = trees.Watch(at, mounts.KnownRoot(MOUNT.source, MOUNT.fstype, has_sentinel=True))
        return (
            _first(watch, share)
            | _quiet(watch, share)
            | _changed(watch, share, at.drop)
            | _rotation(watch, share, at.drop)
        )


def _first(watch: trees.Watch, share: Share) -> dict[str, float]:
    """From the start until each known file was looked at once; then until the folders' times are trusted."""
    began_s, calls = share.now_s, 0
    while not watch.is_settled:
        calls += _scanned(watch, share).calls.total()
    taken_s = share.now_s - began_s
    _swept(watch, share)
    _swept(watch, share)
    return {"first_calls_per_file": calls / STOCK.files, "first_s": taken_s}


def _quiet(watch: trees.Watch, share: Share) -> dict[str, float]:
    """Sweeps in which nothing changed: the dearest of those that trust the folders' times, and the one that does not."""
    known = watch.complete
    *trusting, full = sorted((_swept(watch, share) for _ in range(RELIST_EVERY)), key=lambda scan: scan.listings)
    looks = max(len(scan.looks) for scan in trusting)
    return {
        "quiet_looks": looks,
        "quiet_looks_percent": 100 * looks / len(known),
        "quiet_stray_calls": max(scan.calls_for(known - scan.looks) for scan in (*trusting, full)),
        "quiet_listings": max(scan.listings for scan in trusting),
        "quiet_calls": max(scan.calls.total() for scan in trusting),
        "quiet_s": max(scan.took_s for scan in trusting),
        "quiet_calls_per_look": max(scan.calls_for(known) / max(1, len(scan.looks)) for scan in trusting),
        "quiet_calls_per_folder": max(scan.calls_beside(known) / STOCK.folders for scan in trusting),
        "relist_calls": full.calls.total(),
        "relist_s": full.took_s,
    }


def _changed(watch: trees.Watch, share: Share, drop: Path) -> dict[str, float]:
    """Drop ten files into one folder: the sweep that finds them, and the scan that looks at them."""
    known = watch.complete
    for number in range(UNSETTLED):
        (drop / "batch00000" / f"new{number}.wav").write_bytes(b"\1" * trees.FILE_BYTES)
    sweep = _swept(watch, share)
    scan = _scanned(watch, share)
    return {
        "changed_calls": sweep.calls.total(),
        "changed_s": sweep.took_s,
        "changed_listings": sweep.listings,
        "changed_stray_calls": sweep.calls_for(known - sweep.looks),
        "unsettled_looks": len(scan.looks - known),
        "unsettled_stray_calls": scan.calls_for(known),
        "unsettled_calls": scan.calls.total(),
    }


def _rotation(watch: trees.Watch, share: Share, drop: Path) -> dict[str, float]:
    """Overwrite a done source in place, and sweep until every known file was looked at and it was noticed."""
    known = watch.complete
    rewritten = sorted(known)[len(known) // 2]
    (drop / rewritten).write_bytes(b"\2" * (trees.FILE_BYTES + 1))
    left, noticed_after, sweeps = known, 0, 0
    while (left or not noticed_after) and sweeps < MAX_SWEEPS:
        sweeps += 1
        left = left - _swept(watch, share).looks
        if not noticed_after and rewritten not in watch.complete:
            noticed_after = sweeps
    return {"rotation_sweeps": sweeps, "rotation_left": len(left), "rewritten_noticed": float(noticed_after > 0)}


def _swept(watch: trees.Watch, share: Share) -> Counted:
    """Carry out scans up to the next sweep, and count what that did."""
    while not (scan := _scanned(watch, share)).event.action.is_sweep:
        pass
    return scan


def _scanned(watch: trees.Watch, share: Share) -> Counted:
    """Carry out the next scan, in the share's time, which is the daemon's as well."""
    now = round(share.now_s * 1000)
    watch.now = max(now, watch.folder.scan_at(now))
    share.now_s = max(share.now_s, watch.now / 1000)
    share.calls.clear()
    began_s, began = share.now_s, time.perf_counter()
    event = watch.scan()
    return Counted(event, share.calls.copy(), share.now_s - began_s + time.perf_counter() - began)


MODELLED = (
    f"all seconds here are modelled: calls are counted, on the real file system, and {1000 * CALL_S:.0f} ms added for "
    "each, to the time that our own code took."
)

BENCH = Bench(
    title=f"A slow share, 5 ms per call, {STOCK.files:,} known files in {STOCK.folders:,} folders",
    run=run,
    peers=lambda: ["nothing: calls are counted"],
    rows=(
        Row(
            "known files looked at with a sweep when nothing changed",
            just("quiet_looks_percent"),
            "%",
            at_most=100 * ROTATING,
        ),
        Row(
            "nothing changed: calls for known files that were not looked at",
            just("quiet_stray_calls"),
            "calls",
            at_most=0,
        ),
        Row("folders listed, being those of the looks", just("quiet_listings"), "folders"),
        Row("calls for a known file that is looked at", just("quiet_calls_per_look"), "calls"),
        Row("all other calls, per unchanged folder", just("quiet_calls_per_folder"), "calls"),
        Row("calls of that sweep", just("quiet_calls"), "calls"),
        Row("that sweep", just("quiet_s"), "s", why=MODELLED),
        Row("every tenth sweep, which lists everything", just("relist_s"), "s"),
        Row("ten new files in one folder: folders listed", just("changed_listings"), "folders", at_most=1),
        Row(
            "ten new files: calls for known files that were not looked at",
            just("changed_stray_calls"),
            "calls",
            at_most=0,
        ),
        Row("that sweep", just("changed_s"), "s"),
        Row(
            "the scan after it: unsettled files looked at",
            just("unsettled_looks"),
            f"of {UNSETTLED}",
            at_least=UNSETTLED,
        ),
        Row("calls for known files", just("unsettled_stray_calls"), "calls", at_most=0),
        Row("sweeps until every known file was looked at", just("rotation_sweeps"), "sweeps"),
        Row("known files that were not looked at by then", just("rotation_left"), "files", at_most=0),
        Row("a done source overwritten in place is noticed", just("rewritten_noticed"), "of 1", at_least=1),
        Row("after a start: calls for each known file, all included", just("first_calls_per_file"), "calls"),
        Row("until each was looked at once", just("first_s"), "s"),
    ),
)
