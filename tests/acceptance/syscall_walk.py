"""The daemon killed, or refused, at every system call that changes something: one submission, right outputs, no harm.

`PYTHONPATH=. python tests/acceptance/syscall_walk.py` walks all points and prints a line each, totals for each mode, and
exits with 1 if one does not hold. It takes hours; with `--results FILE` it goes on where it was. `POINT…`, as a line shows
it, replays those; `--mode MODE` walks one mode (kill, kill-after, eio, enospc, full); `--jobs N` lives run at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tests.walk.choice import MOST_CALLS, ORDER, Recording, every_point
from tests.walk.life import Outcome, live
from tests.walk.points import Mode, Point
from tests.walk.tracer import why_not


def main() -> int:
    asked = arguments()
    if reason := why_not():
        print(f"not to be had: {reason}")
        return 1
    points = [Point.parsed(text) for text in asked.points]
    bounded = True
    if not points:
        recordings, bounded = recorded()
        points = list(every_point(recordings, [Mode(asked.mode)] if asked.mode else ORDER))
    known = earlier(asked.results)
    print(f"{len(points)} points, {sum(str(point) in known for point in points)} of them walked before", flush=True)
    outcomes = list(walked([point for point in points if str(point) not in known], asked.jobs, asked.results))
    everything = [*(known[str(point)] for point in points if str(point) in known), *outcomes]
    return 1 if totals(everything) or not bounded else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("points", nargs="*", metavar="POINT")
    parser.add_argument("--mode", choices=[str(mode) for mode in Mode])
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--results", type=Path, help="outcomes are kept here; what is there is not walked again")
    return parser.parse_args()


def recorded() -> tuple[list[Recording], bool]:
    """Two quiet lives: what there is to walk, and whether it is bounded."""
    lives = [live(None) for _ in range(2)]
    recordings = [Recording.of(outcome.order) for outcome in lives]
    first, second = (recording.calls for recording in recordings)
    holds = max(first, second) < MOST_CALLS and not any(outcome.problems for outcome in lives)
    print(f"{'ok  ' if holds else 'FAIL'}  two quiet lives make {first} and {second} calls that count")
    for kind in sorted(set(recordings[0].counts) | set(recordings[1].counts)):
        first, second = (recording.counts[kind] for recording in recordings)
        print(f"        {kind.call} {kind.place}: {first}" + (f" and {second}" if first != second else ""))
    for outcome in lives:
        if outcome.problems:
            print(outcome.line())
    return recordings, holds


def earlier(path: Path | None) -> dict[str, Outcome]:
    if path is None or not path.exists():
        return {}
    outcomes = [Outcome(**json.loads(line)) for line in path.read_text().splitlines()]
    return {outcome.point: outcome for outcome in outcomes}


def walked(points: list[Point], jobs: int, results: Path | None) -> Iterator[Outcome]:
    with ThreadPoolExecutor(jobs) as pool:
        for number, outcome in enumerate(pool.map(live, points), start=1):
            outcome.order = []
            print(f"{number}/{len(points)} {outcome.line()}", flush=True)
            if outcome.problems:
                print(
                    f"      replay: PYTHONPATH=. python tests/acceptance/syscall_walk.py '{outcome.point}'", flush=True
                )
            if results is not None:
                with results.open("a") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")
            yield outcome


def totals(outcomes: list[Outcome]) -> int:
    """Print a line for each mode; returns the number of points that do not hold."""
    for mode in ORDER:
        some = [outcome for outcome in outcomes if outcome.point.startswith(f"{mode}|")]
        if not some:
            continue
        failed, reached = sum(bool(one.problems) for one in some), sum(one.is_reached for one in some)
        told, ended = sum(one.reported for one in some), sum(one.code is not None for one in some)
        print(
            f"{'FAIL' if failed else 'ok  '}  {mode}: {len(some)} points, {reached} of them reached, {failed} violations; "
            f"{ended} daemons ended by themselves with a clear exit code, {told} pairs were reported to a person; "
            f"{sum(one.took_s for one in some):.0f} s of life"
        )
    return sum(bool(outcome.problems) for outcome in outcomes)


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(code)
