"""What a benchmark is, what is kept of its runs, and the table that people read."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from chamelaion_watch.edges import mounts

IS_SMALL = bool(os.environ.get("BENCH_SMALL"))  # a trial: everything about a twentieth of its size, and nothing is kept
HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
TABLE = HERE / "results.md"
PLOT = HERE / "growth.png"
ROOT = HERE.parents[1]
MEASURED = ("chamelaion_watch", "tests/bench")  # what a commit has to hold as it was measured, but for what is written

Run: TypeAlias = Mapping[str, float]  # one interleaved run: what was measured of us and of the peers, by name
Entry: TypeAlias = Mapping[str, Any]  # what is kept of a benchmark: its runs, and when, where and beside what they ran


@dataclass(frozen=True)
class Row:
    """One target: a figure of each run, and the bound that the median of them must keep.

    `ours` and `peer` name what of a run is shown beside it, with the unit of both; `why` is said where it is missed,
    and of one that is only reported. `at_first` is the bound of a target that turned out to be too easy, and was raised.
    """

    what: str
    figure: Callable[[Run], float]
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    ours: str = ""
    peer: str = ""
    shown: str = "s"
    why: str = ""
    at_first: float | None = None

    @property
    def is_reported(self) -> bool:
        return self.at_most is None and self.at_least is None

    @property
    def target(self) -> str:
        bound = self.at_least if self.at_most is None else self.at_most
        if bound is None:
            return "reported"
        raised = f"; at first {_number(self.at_first)}" if self.at_first is not None else ""
        return f"{'≥' if self.at_most is None else '≤'} {_number(bound)} {self.unit}".rstrip() + raised

    def holds(self, value: float) -> bool:
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)


@dataclass(frozen=True)
class Bench:
    """`run` does the work of one interleaved run in an empty folder; `peers` names them with their versions.

    `plot` draws what was kept, each time that the table is written.
    """

    title: str
    run: Callable[[Path], Run]
    rows: Sequence[Row]
    peers: Callable[[], Sequence[str]]
    runs: int = 5
    plot: Callable[[Entry], None] | None = None


def ratio(ours: str, peer: str) -> Callable[[Run], float]:
    return lambda run: run[ours] / run[peer]


def just(name: str) -> Callable[[Run], float]:
    return lambda run: run[name]


# -- what was measured --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Begun:
    """What is true when a benchmark begins: files that change meanwhile do not change what its runs are called."""

    commit: str
    machine: str
    peers: Sequence[str]
    runs: int


def begun(bench: Bench, runs: int, place: Path | None) -> Begun:
    """Say what is about to be measured, in so many runs; raises if a peer is missing."""
    return Begun(commit(), machine(place or Path(tempfile.gettempdir())), tuple(bench.peers()), runs)


def measured() -> dict[str, Any]:
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


def entry_of(name: str, bench: Bench) -> Entry | None:
    """Return what is kept of a benchmark; None if that is nothing, or lacks what a row tells now."""
    entry: Entry | None = measured().get(name)
    return entry if entry and all(_has(run, row) for run in entry["runs"] for row in bench.rows) else None


def _has(run: Run, row: Row) -> bool:
    try:
        row.figure(run)
    except KeyError:
        return False
    return all(name in run for name in (row.ours, row.peer) if name)


def keep(name: str, bench: Bench, start: Begun, runs: Sequence[Run]) -> bool:
    """Replace what is kept of a benchmark by these runs, unless that is better; says whether it did.

    A trial is never kept, and more runs give way only to all that were wanted, and no fewer than are usual.
    """
    before = entry_of(name, bench)
    is_complete = len(runs) >= max(start.runs, bench.runs)
    if IS_SMALL or (before and not is_complete and len(before["runs"]) > len(runs)):
        return False
    entry = {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": start.commit,
        "machine": start.machine,
        "peers": list(start.peers),
        "runs": [{key: round(value, 6) for key, value in run.items()} for run in runs],
    }
    RESULTS.write_text(json.dumps(measured() | {name: entry}, indent=1, sort_keys=True) + "\n")
    return True


def machine(place: Path) -> str:
    """What ran it, in words that name no machine, and on which file system: on a tmpfs an fsync costs nothing."""
    cpu = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "")
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = platform.release().partition("-")[0]
    system = f"Linux {kernel}, {mounts.mount_of(str(place.resolve())).fstype}, Python {platform.python_version()}"
    return f"{os.cpu_count()} × {cpu or platform.machine()}, {memory_gib:.0f} GiB, {system}"


def commit() -> str:
    """The commit as it is now; `+` says that the package or its benchmarks are not as committed."""
    said = _git("describe", "--always", "--abbrev=7", "--exclude=*")
    written = [f":(exclude){path.relative_to(ROOT)}" for path in (RESULTS, TABLE, PLOT)]
    changes = _git("status", "--porcelain", "--", *MEASURED, *written)
    return said + ("+" if changes else "")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


# -- the table ----------------------------------------------------------------------------------------


def write_table(benches: Mapping[str, Bench]) -> bool:
    """Write `results.md`, and what is drawn beside it, from what was measured; says whether: a trial writes nothing."""
    if IS_SMALL:
        return False
    TABLE.write_text(text_of(benches))
    for name, bench in benches.items():
        if bench.plot and (entry := entry_of(name, bench)):
            bench.plot(entry)
    return True


def text_of(benches: Mapping[str, Bench]) -> str:
    """Return the table; a benchmark that has not run yet, or without what a row tells now, is only named."""
    entries = {name: entry_of(name, bench) for name, bench in benches.items()}
    parts = [_HEAD, *(_section(name, benches[name], entry) for name, entry in entries.items() if entry)]
    missing = [name for name, entry in entries.items() if not entry]
    if missing:
        parts.append(f"Not measured yet: {', '.join(missing)}.\n")
    return "\n".join(parts)


def lines_of(bench: Bench, runs: Sequence[Run]) -> list[str]:
    """A line for each target, for the terminal."""
    return [
        f"{'ok  ' if row.holds(median) else 'MISS'}  {row.what}: {spread(row, runs)} (target {row.target})"
        for row in bench.rows
        for median in [statistics.median(row.figure(run) for run in runs)]
    ]


def spread(row: Row, runs: Sequence[Run]) -> str:
    """Return the median of a row's figure, with the least and the most."""
    values = [row.figure(run) for run in runs]
    median = f"{_number(statistics.median(values))} {row.unit}".rstrip()
    return f"{median} ({_number(min(values))}–{_number(max(values))})"


_HEAD = """# What was measured

Medians of interleaved runs, with the least and the most in brackets; a ratio is taken within each run. Made by
`python -m tests.bench`, from `results.json`. A target that is missed says so, and why; what is only reported may say
why, too. One that was met with a wide margin was raised; its first bound stands beside it. Not all were measured on
machines that were equally fast: compare seconds within a benchmark only.
"""


def _section(name: str, bench: Bench, entry: Entry) -> str:
    runs: list[Run] = entry["runs"]
    lines = [
        f"## {bench.title}",
        "",
        _said(name, entry),
        "",
        "| what | ours | peer | figure | target | |",
        "|---|---|---|---|---|---|",
    ]
    notes = []
    for row in bench.rows:
        is_kept = row.holds(statistics.median(row.figure(run) for run in runs))
        verdict = "" if row.is_reported else "✓" if is_kept else "missed"
        lines.append(
            f"| {row.what} | {_shown(row, row.ours, runs)} | {_shown(row, row.peer, runs)} "
            f"| {spread(row, runs)} | {row.target} | {verdict} |"
        )
        if row.why and (row.is_reported or not is_kept):
            notes.append(f"*{row.what}:* {row.why}\n")
    return "\n".join([*lines, "", *notes])


def _said(name: str, entry: Entry) -> str:
    when = f"`{name}`, {len(entry['runs'])} runs, {entry['at']}, commit {entry['commit']}; {entry['machine']}"
    return f"{when}. Beside it: {'; '.join(entry['peers'])}."


def _shown(row: Row, name: str, runs: Sequence[Run]) -> str:
    if not name:
        return ""
    return f"{_number(statistics.median(run[name] for run in runs))} {row.shown}"


def _number(value: float | None) -> str:
    """Three digits that count, without an exponent."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
