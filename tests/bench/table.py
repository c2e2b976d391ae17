"""What a benchmark is, what is kept of its runs, and the table that people read."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
TABLE = HERE / "results.md"
ROOT = HERE.parents[1]

Run: TypeAlias = Mapping[str, float]  # one interleaved run: what was measured of us and of the peers, by name


@dataclass(frozen=True)
class Row:
    """One target: a figure of each run, and the bound that the median of them must keep.

    `ours` and `peer` name what of a run is shown beside it, with the unit of both; `why` is said where it is missed.
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

    @property
    def target(self) -> str:
        if self.at_most is not None:
            return f"≤ {_number(self.at_most)} {self.unit}".rstrip()
        return f"≥ {_number(self.at_least)} {self.unit}".rstrip() if self.at_least is not None else "reported"

    def holds(self, value: float) -> bool:
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)


@dataclass(frozen=True)
class Bench:
    """`run` does the work of one interleaved run in an empty folder; `peers` names them with their versions."""

    title: str
    run: Callable[[Path], Run]
    rows: Sequence[Row]
    peers: Callable[[], Sequence[str]]
    runs: int = 5


def ratio(ours: str, peer: str) -> Callable[[Run], float]:
    return lambda run: run[ours] / run[peer]


def just(name: str) -> Callable[[Run], float]:
    return lambda run: run[name]


# -- what was measured --------------------------------------------------------------------------------


def measured() -> dict[str, Any]:
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


def keep(name: str, bench: Bench, runs: Iterable[Run]) -> None:
    """Replace what is kept of a benchmark by these runs."""
    entry = {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "machine": machine(),
        "peers": list(bench.peers()),
        "runs": [{key: round(value, 6) for key, value in run.items()} for run in runs],
    }
    RESULTS.write_text(json.dumps(measured() | {name: entry}, indent=1, sort_keys=True) + "\n")


def machine() -> str:
    """What ran it, in words that name no machine."""
    cpu = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "")
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = platform.release().partition("-")[0]
    python = platform.python_version()
    return f"{os.cpu_count()} × {cpu or platform.machine()}, {memory_gib:.0f} GiB, Linux {kernel}, Python {python}"


def commit() -> str:
    """The commit that was measured; `+` says that the package was not as committed."""
    said = subprocess.run(
        ["git", "describe", "--always", "--abbrev=7", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    changes = subprocess.run(
        ["git", "status", "--porcelain", "--", "chamelaion_watch"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return said.stdout.strip() + ("+" if changes.stdout else "")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


# -- the table ----------------------------------------------------------------------------------------


def write_table(benches: Mapping[str, Bench]) -> None:
    """Write `results.md` from what was measured."""
    TABLE.write_text(text_of(benches))


def text_of(benches: Mapping[str, Bench]) -> str:
    """Return the table; a benchmark that has not run yet is only named."""
    kept = measured()
    parts = [_HEAD]
    for name, bench in benches.items():
        if name in kept:
            parts.append(_section(name, bench, kept[name]))
    missing = [name for name in benches if name not in kept]
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
`python -m tests.bench`, from `results.json`. A target that is missed says so, and why.
"""


def _section(name: str, bench: Bench, entry: Mapping[str, Any]) -> str:
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
        has_target = row.target != "reported"
        verdict = ("✓" if is_kept else "missed") if has_target else ""
        lines.append(
            f"| {row.what} | {_shown(row, row.ours, runs)} | {_shown(row, row.peer, runs)} "
            f"| {spread(row, runs)} | {row.target} | {verdict} |"
        )
        if row.why and not is_kept:
            notes.append(f"*{row.what}:* {row.why}\n")
    return "\n".join([*lines, "", *notes])


def _said(name: str, entry: Mapping[str, Any]) -> str:
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
