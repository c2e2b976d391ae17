"""Nothing happens in a tree of 100,000 known files: what a sweep costs, and what a minute of the daemon costs.

Three sizes of "a sweep": the listing alone (`Tree.sweep`), the daemon's whole scan (the root's health, the listing, and
a look at the rotating share of known files), and the listing of everything that every tenth sweep is. What is beside it
walks the same tree in the same turn.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from watchdog.utils.dirsnapshot import DirectorySnapshot, DirectorySnapshotDiff

from chamelaion_watch.core.messages import RootFacts
from chamelaion_watch.core.model import RootState
from chamelaion_watch.edges.listing import RELIST_EVERY, TRUST_AFTER_S
from tests.acceptance.rig import Rig
from tests.bench import process, trees
from tests.bench.table import IS_SMALL, Bench, Row, Run, just, ratio

STOCK = trees.Stock(pairs=2_500, folders=50) if IS_SMALL else trees.Stock(pairs=50_000, folders=1_000)
QUIET_S = 10.0  # between the last thing that the daemon did and the measurement
WATCHED_S = 20.0 if IS_SMALL else 60.0
POLLING = """
import sys
from watchdog.events import FileSystemEventHandler
from watchdog.observers.polling import PollingObserver
observer = PollingObserver()
observer.schedule(FileSystemEventHandler(), sys.argv[1], recursive=True)
observer.start()
sys.stdin.read()
"""


def run(place: Path) -> Run:
    at = trees.kept(STOCK, place)
    return _sweeps(at) | _minute(at)


# -- one sweep ----------------------------------------------------------------------------------------


def _sweeps(at: Rig) -> dict[str, float]:
    """Time ten sweeps of a tree that did not change, one of them a listing of everything, in turn with the peers."""
    watch, listed = trees.Watch(at), trees.Watch(at)
    tree = listed.hands._tree_of(RootFacts(RootState.OK))
    watch.settle()
    tree.sweep()
    trees.after(TRUST_AFTER_S + 0.5)
    tree.sweep()  # by now no folder has changed for long enough to be trusted
    watch.sweep()
    before = DirectorySnapshot(str(at.drop))
    works: dict[str, Callable[[], object]] = {
        "sweep": tree.sweep,
        "scan": watch.sweep,
        "find": lambda: process.run(["find", str(at.drop)]),
        "find_files": lambda: process.run(["find", str(at.drop), "-type", "f"]),
        "walk": lambda: _walked(at.drop),
        "polling": lambda: DirectorySnapshotDiff(before, DirectorySnapshot(str(at.drop))),
    }
    turns = [{name: _seconds(work) for name, work in works.items()} for _ in range(RELIST_EVERY)]
    found = {f"{name}_s": statistics.median(turn[name] for turn in turns) for name in works}
    sweeps = [turn["sweep"] for turn in turns]
    return found | {"relist_s": max(sweeps), "mean_s": statistics.mean(sweeps)}


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _walked(root: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(root))


# -- a minute -----------------------------------------------------------------------------------------


def _minute(at: Rig) -> dict[str, float]:
    """Compare what the daemon and a PollingObserver cost over the same minute, both long past their start."""
    with trees.serving(at) as daemon, _polling(at.drop) as poller:
        trees.settled_s(at, STOCK, daemon)
        trees.after(QUIET_S)
        began, ours_s, theirs_s = time.perf_counter(), daemon.cpu_s(), process.cpu_s(poller.pid)
        trees.after(WATCHED_S)
        ours_s, theirs_s = daemon.cpu_s() - ours_s, process.cpu_s(poller.pid) - theirs_s
        seconds = time.perf_counter() - began
        return {
            "core_percent": 100 * ours_s / seconds,
            "rss_mb": daemon.rss_mb(),
            "polling_core_percent": 100 * theirs_s / seconds,
            "polling_rss_mb": process.rss_mb(poller.pid),
        }


@contextlib.contextmanager
def _polling(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", POLLING, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as poller:
        try:
            yield poller
        finally:
            poller.kill()  # its observer would finish its pass first


def _peers() -> list[str]:
    said = subprocess.run(["find", "--version"], capture_output=True, text=True, check=True).stdout
    return [said.splitlines()[0], f"watchdog {importlib.metadata.version('watchdog')} PollingObserver, timeout 1 s"]


BENCH = Bench(
    title=f"Idle, {STOCK.files:,} known files in {STOCK.folders:,} folders",
    run=run,
    peers=_peers,
    rows=(
        Row(
            "one sweep, nothing changed; `find TREE`",
            ratio("sweep_s", "find_s"),
            "×",
            at_most=0.15,
            at_first=0.5,
            ours="sweep_s",
            peer="find_s",
        ),
        Row(
            "the daemon's whole scan with it: the root's health, the rotating looks; `find TREE`",
            ratio("scan_s", "find_s"),
            "×",
            at_most=0.5,
            ours="scan_s",
            peer="find_s",
        ),
        Row(
            "one sweep; a pass of PollingObserver", ratio("sweep_s", "polling_s"), "×", ours="sweep_s", peer="polling_s"
        ),
        Row(
            "one sweep; `find TREE -type f`", ratio("sweep_s", "find_files_s"), "×", ours="sweep_s", peer="find_files_s"
        ),
        Row("one sweep; `os.walk`", ratio("sweep_s", "walk_s"), "×", ours="sweep_s", peer="walk_s"),
        Row(
            "every tenth sweep, which lists everything; `find TREE`",
            ratio("relist_s", "find_s"),
            "×",
            ours="relist_s",
            peer="find_s",
        ),
        Row(
            "mean of ten sweeps, that one among them; `find TREE`",
            ratio("mean_s", "find_s"),
            "×",
            ours="mean_s",
            peer="find_s",
        ),
        Row(
            f"the daemon over {WATCHED_S:.0f} s; PollingObserver",
            just("core_percent"),
            "% of a core",
            at_most=0.2,
            at_first=0.5,
            ours="core_percent",
            peer="polling_core_percent",
            shown="%",
        ),
        Row(
            "its memory, with what starts its probes; PollingObserver",
            just("rss_mb"),
            "MB",
            at_most=120,
            ours="rss_mb",
            peer="polling_rss_mb",
            shown="MB",
        ),
    ),
)
