"""Runs every test that is named after a row of threats.md and prints the table: passed, how, and what is not made here.

`python tests/acceptance/threat_table.py [ROW…]`: all 85 rows, or these only. Exit 1 if a row failed or is missing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.acceptance.rig import ROOT
from tests.threats.table import ROWS, Row, by_row, names_of_tests, rows_of

MOST_REASONS = 2  # of skips, per row


def main(wanted: list[int]) -> int:
    """Run, print, and return the exit code."""
    rows = [row for row in ROWS if not wanted or row.number in wanted]
    outcomes = run(" or ".join(f"threat_{number:02}" for number in wanted) or "threat_")
    totals: Counter[str] = Counter()
    bad = 0
    print(f"{'row':>3}  {'title':42} {'passed':>6} {'failed':>6} {'skipped':>7}  how")
    for row in rows:
        mine = [outcome for name, outcome in outcomes if row.number in rows_of(name)]
        counts = Counter(kind for kind, _ in mine)
        totals += counts
        is_bad = bool(counts["failed"]) or not (counts["passed"] or row.not_here)
        bad += is_bad
        print_row(row, counts, is_bad=is_bad)
        print_reasons(mine)
    print_end(rows, outcomes, totals, bad)
    return 1 if bad else 0


def run(expression: str) -> list[tuple[str, tuple[str, str]]]:
    """Run the tests; return (name, (passed | failed | skipped, why)) of each."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-k", expression, f"--junitxml={report}", "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        if not report.exists():
            sys.exit(f"pytest did not run:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        cases = ET.parse(report).iter("testcase")
        outcomes = [(case.get("name", "").partition("[")[0], outcome_of(case)) for case in cases]
        if any(kind == "failed" for _, (kind, _) in outcomes):
            print("\n".join(line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))))
        return outcomes


def outcome_of(case: ET.Element) -> tuple[str, str]:
    for kind in ("failure", "error"):
        if (found := case.find(kind)) is not None:
            return "failed", found.get("message", "")
    if (found := case.find("skipped")) is not None:
        return "skipped", found.get("message", "")
    return "passed", ""


def print_row(row: Row, counts: Counter[str], *, is_bad: bool) -> None:
    figures = f"{counts['passed']:>6} {counts['failed']:>6} {counts['skipped']:>7}"
    print(f"{row.number:>3}  {row.title:42} {figures}  {row.how}{'  <-- FAIL' if is_bad else ''}")
    if row.not_here:
        print(f"       not here: {row.not_here}")


def print_reasons(mine: list[tuple[str, str]]) -> None:
    """Why tests failed, and some of the reasons why others were skipped."""
    for kind, most in (("failed", len(mine)), ("skipped", MOST_REASONS)):
        for reason in sorted({why.partition("\n")[0] for found, why in mine if found == kind})[:most]:
            print(f"       {kind}: {reason}")


def print_end(rows: list[Row], outcomes: list[tuple[str, tuple[str, str]]], totals: Counter[str], bad: int) -> None:
    found = by_row(names_of_tests())
    without = [row.number for row in rows if row.number not in found]
    kinds = Counter(kind for _, (kind, _) in outcomes)
    print(
        f"{len(rows)} rows, {len(outcomes)} tests: {kinds['passed']} passed, {kinds['failed']} failed, "
        f"{kinds['skipped']} skipped (a test may stand for several rows: {totals.total()} in the table)"
    )
    print(f"rows without a test, for the reason given: {', '.join(map(str, without)) or 'none'}")
    print("all rows hold" if not bad else f"{bad} rows do not hold")


if __name__ == "__main__":
    sys.exit(main([int(word) for word in sys.argv[1:]]))
