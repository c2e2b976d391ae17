"""The table of benchmarks: medians of at least five interleaved runs, peers with versions, each miss with its profile.

    python -m tests.acceptance.bench_table

Reads what `python -m tests.bench` measured (hours on two cores: it is not measured again here), judges it anew by the
targets, and checks that `results.md` says the same.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tests.acceptance.rig import Facts
from tests.bench import table
from tests.bench.__main__ import benches
from tests.bench.table import Bench, Row, Run

LEAST_RUNS = 5
PROFILE = re.compile(r"profiles/[\w.-]+")
ELSEWHERE = {"growth"}  # it compares us with ourselves, and has a script of its own


def main() -> None:
    facts = Facts()
    known, kept = benches(), table.measured()
    for name, bench in known.items():
        if name not in ELSEWHERE:
            judge(facts, name, bench, kept.get(name))
    is_same = table.TABLE.exists() and table.TABLE.read_text() == table.text_of(known)
    facts.check("results.md says what results.json does", is_same)
    facts.end()


def judge(facts: Facts, name: str, bench: Bench, entry: Mapping[str, Any] | None, least_runs: int = LEAST_RUNS) -> None:
    """Check one benchmark, and print a line for each of its targets."""
    if entry is None:
        facts.check(f"{name} was measured", False)
        return
    runs: Sequence[Run] = entry["runs"]
    told = f"at {entry['commit']}, {entry['at']}; {entry['machine']}"
    facts.check(f"{name}: {len(runs)} runs", len(runs) >= least_runs, told)
    facts.check(f"{name}: its peers", entry["peers"], "; ".join(entry["peers"]))
    for row in bench.rows:
        _judge_row(facts, row, runs)


def _judge_row(facts: Facts, row: Row, runs: Sequence[Run]) -> None:
    median = statistics.median(row.figure(run) for run in runs)
    told = f"{table.spread(row, runs)}, target {row.target}"
    if row.target == "reported" or row.holds(median):
        print(f"ok    {row.what}: {told}")
        return
    profiles = PROFILE.findall(row.why)
    is_shown = bool(profiles) and all((table.HERE / profile).exists() for profile in profiles)
    facts.check(f"missed, and explained with a profile: {row.what}", is_shown, f"{told}. {row.why}")


if __name__ == "__main__":
    main()
