"""The table of benchmarks: every target that was asked for, medians of at least five runs, each miss with its profile.

    python -m tests.acceptance.bench_table

Reads what `python -m tests.bench` measured (hours on two cores: it is not measured again here), judges it anew by the
targets, and checks that `results.md` says the same. A target that was asked for has a row whose bound is as strict, or
stricter; what was measured is a commit as it is; peers have versions, where there are peers.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.acceptance.rig import Facts
from tests.bench import table
from tests.bench.__main__ import benches
from tests.bench.table import Bench, Entry, Row, Run

LEAST_RUNS = 5
PROFILE = re.compile(r"profiles/[\w.-]+")
VERSION = re.compile(r"\d+\.\d+")
ELSEWHERE = {"growth"}  # it compares us with ourselves, and has a script of its own
WITHOUT_PEER = {"growth", "polling", "reaction", "slow_share"}  # beside us, a bound, or what can be computed


@dataclass(frozen=True)
class Asked:
    """A target as it was asked for; the one row that has it begins with `part`."""

    bench: str
    part: str
    sign: str
    number: float

    def is_kept_by(self, rows: Sequence[Row]) -> bool:
        """Say whether there is such a row, and its bound is at least as strict."""
        found = [row for row in rows if row.what.startswith(self.part)]
        if len(found) != 1:
            return False
        most, least = found[0].at_most, found[0].at_least
        if self.sign == "≤":
            return most is not None and most <= self.number
        return least is not None and least >= self.number

    def __str__(self) -> str:
        return f"{self.bench} is asked for {self.part!r} {self.sign} {self.number:g}"


PAIRS_GROW = (
    *("time, folders of 100 pairs", "CPU, folders of 100 pairs"),
    *("time, all pairs in one folder", "CPU, all pairs in one folder"),
)
FILES_GROW = ("memory of known files", "start, until ready", "start, until each was looked at")
ASKED = (
    Asked("upload", "1 GiB + 50 MiB: wall of the transfer", "≤", 1.05),
    Asked("upload", "its CPU", "≤", 1.3),
    Asked("upload", "memory of the uploading process", "≤", 60),
    Asked("upload", "10 GiB + 50 MiB: memory, unlike that at 1 GiB by", "≤", 5),
    Asked("upload", "1 GiB + 50 MiB: faster than the SDK", "≥", 1.4),
    Asked("upload", "3 GiB + 50 MiB: faster than the SDK", "≥", 2.5),
    Asked("upload", "3 GiB + 50 MiB: memory, less than the SDK's", "≥", 40),
    Asked("upload", "four at once: wall", "≤", 1.1),
    Asked("download", "1 GiB, checked and fsynced: wall", "≤", 1.2),
    Asked("rate", "rate: share of the allowed rate, first to last accepted POST", "≥", 98),
    Asked("rate", "rate: 429s of all POSTs", "≤", 1),
    Asked("rate", "cap of 8 that the daemon is not told: share used; a refusal names a time", "≥", 93),
    Asked("rate", "cap: 429s of all POSTs; a refusal names a time", "≤", 2),
    Asked("rate", "cap: share used; a refusal names no time", "≥", 93),
    Asked("rate", "cap: 429s of all POSTs; a refusal names no time", "≤", 2),
    Asked("polling", "status calls per finished job", "≤", 0.3),
    Asked("polling", "from the completion at the service to the daemon's knowing it", "≤", 5),
    Asked("herd", "pairs per second, against the vendor's snippet with 8 threads", "≥", 3),
    Asked("herd", "memory of the daemon", "≤", 150),
    Asked("idle", "one sweep, nothing changed; `find TREE`", "≤", 0.5),
    Asked("idle", "the daemon over", "≤", 0.5),
    Asked("idle", "its memory", "≤", 120),
    *(Asked("reaction", f"{size} MiB, lease granted", "≤", 2.5) for size in (1, 50, 500)),
    *(Asked("reaction", f"{size} MiB, no lease", "≤", 0.5) for size in (1, 50, 500)),
    Asked("start", "`--version`", "≤", 5),
    Asked("start", "`status` beside the daemon", "≤", 0.4),
    Asked("start", "`status` with", "≤", 0.4),
    Asked("start", "ready (READY=1), 100,000 files and 10,000 jobs", "≤", 3),
    Asked("slow_share", "known files looked at with a sweep when nothing changed", "≤", 1),
    Asked("slow_share", "nothing changed: calls for known files that were not looked at", "≤", 0),
    Asked("slow_share", "ten new files: calls for known files that were not looked at", "≤", 0),
    Asked("slow_share", "ten new files in one folder: folders listed", "≤", 1),
    Asked("slow_share", "the scan after it: unsettled files looked at", "≥", 10),
    Asked("slow_share", "a done source overwritten in place is noticed", "≥", 1),
    *(Asked("growth", f"{what}: each more up to 10,000 ÷ each more up to 1,000", "≤", 1.1) for what in PAIRS_GROW),
    *(Asked("growth", f"{what}: for each at 10,000 ÷ at 100", "≤", 1.1) for what in PAIRS_GROW),
    *(Asked("growth", f"{what}: for each at 10,000 ÷ at 1,000", "≤", 1.1) for what in PAIRS_GROW),
    *(Asked("growth", f"{what}: for each at 1,000,000 ÷ at 10,000", "≤", 1.1) for what in FILES_GROW),
)


def main() -> None:
    facts = Facts()
    known = benches()
    for name in [*known, *sorted({asked.bench for asked in ASKED} - known.keys())]:
        if name not in known:
            facts.check(f"there is a benchmark {name}", False)
        elif name not in ELSEWHERE:
            check_asked(facts, name, known[name])
            judge(facts, name, known[name], table.entry_of(name, known[name]))
    is_same = table.TABLE.exists() and table.TABLE.read_text() == table.text_of(known)
    facts.check("results.md says what results.json does", is_same)
    facts.end()


def check_asked(facts: Facts, name: str, bench: Bench) -> None:
    """Check that what was asked of one benchmark is among its targets."""
    for asked in ASKED:
        if asked.bench == name:
            facts.check(str(asked), asked.is_kept_by(bench.rows))


def judge(facts: Facts, name: str, bench: Bench, entry: Entry | None, least_runs: int = LEAST_RUNS) -> None:
    """Check one benchmark, and print a line for each of its targets."""
    if entry is None:
        facts.check(f"{name} was measured", False)
        return
    runs: Sequence[Run] = entry["runs"]
    told = f"at {entry['commit']}, {entry['at']}; {entry['machine']}"
    facts.check(f"{name}: {len(runs)} runs", len(runs) >= least_runs, told)
    facts.check(f"{name}: a commit as it is", "+" not in entry["commit"], entry["commit"])
    are_named = bool(entry["peers"]) and (name in WITHOUT_PEER or any(map(VERSION.search, entry["peers"])))
    facts.check(f"{name}: its peers", are_named, "; ".join(entry["peers"]))
    for row in bench.rows:
        _judge_row(facts, row, runs)


def _judge_row(facts: Facts, row: Row, runs: Sequence[Run]) -> None:
    median = statistics.median(row.figure(run) for run in runs)
    told = f"{table.spread(row, runs)}, target {row.target}"
    if row.is_reported or row.holds(median):
        print(f"ok    {row.what}: {told}")
        return
    profiles = PROFILE.findall(row.why)
    is_shown = bool(profiles) and all((table.HERE / profile).exists() for profile in profiles)
    facts.check(f"missed, and explained with a profile: {row.what}", is_shown, f"{told}. {row.why}")


if __name__ == "__main__":
    main()
