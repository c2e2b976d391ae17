"""Run benchmarks and write the table; see the package."""

from __future__ import annotations

import argparse
import gc
import importlib
import pkgutil
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import tests.bench
from tests.bench import table
from tests.bench.table import Bench, Run

ORDER = (
    *("upload", "download", "rate", "polling", "herd", "idle", "reaction", "start", "slow_share", "growth"),
)  # as in the table; others follow


def benches() -> dict[str, Bench]:
    """Every module of this package with a BENCH, by name."""
    names = [module.name for module in pkgutil.iter_modules(tests.bench.__path__) if module.name != "__main__"]
    found = {name: getattr(importlib.import_module(f"tests.bench.{name}"), "BENCH", None) for name in names}
    by_name = {name: bench for name, bench in found.items() if isinstance(bench, Bench)}
    return dict(sorted(by_name.items(), key=lambda item: (ORDER.index(item[0]) if item[0] in ORDER else 99, item[0])))


def measure(name: str, bench: Bench, runs: int, place: Path | None) -> None:
    """Run one benchmark so often, each time in an empty folder, and keep what it measured."""
    done: list[Run] = []
    start = table.begun(bench, runs, place)
    is_kept = False
    print(f"{name}: {bench.title}", flush=True)
    for number in range(1, runs + 1):
        folder = Path(tempfile.mkdtemp(prefix=f"lipsync-bench-{name}-", dir=place))
        try:
            gc.collect()
            done.append(bench.run(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        told = ", ".join(f"{key} {value:.4g}" for key, value in sorted(done[-1].items()))
        print(f"  {number}: {told}", flush=True)
        is_kept = table.keep(name, bench, start, done)  # after each: the next may be hours
    print("\n".join(table.lines_of(bench, done)), flush=True)
    print("kept" if is_kept else "not kept: a trial, or fewer runs than are kept already", flush=True)


def each_alone(names: Iterable[str], wanted: argparse.Namespace) -> list[str]:
    """Give each a process of its own; returns those that failed.

    At its end its sources go: 14 GiB in the page cache made a start 1.5 times as long.
    """
    failed = []
    for name in names:
        command = [sys.executable, "-m", "tests.bench", name]
        command += ["--runs", str(wanted.runs)] if wanted.runs else []
        command += ["--place", str(wanted.place)] if wanted.place else []
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    return failed


def main() -> None:
    known = benches()
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=(tests.bench.__doc__ or "").split("\n")[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of: {', '.join(known)}")
    parser.add_argument("--runs", type=int, help="interleaved runs of each; its own number (at least 5) if not given")
    parser.add_argument("--place", type=Path, help="a folder on a local disk for what is written; else the system's")
    parser.add_argument("--table", action="store_true", help="only write the table anew")
    wanted = parser.parse_args()
    if unknown := set(wanted.names) - known.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    names = wanted.names or list(known)
    failed = []
    if len(names) > 1 and not wanted.table:
        failed = each_alone(names, wanted)
    elif not wanted.table:
        measure(names[0], known[names[0]], wanted.runs or known[names[0]].runs, wanted.place)
    if table.write_table(known):
        print(f"written: {table.TABLE.relative_to(table.ROOT)}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
