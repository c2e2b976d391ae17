"""Simulated lives on all cores: how many, what they contained, and which of them broke an invariant.

`python tests/acceptance/simulated_lives.py [FIRST-LAST] [--log FILE] [--processes N]`; 1-100000 unless told. With a log
it can be stopped and started again: chunks that are finished are not lived once more, as long as the code is the same.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from loguru import logger

from tests.acceptance.rig import ROOT, Facts
from tests.sim.__main__ import lived
from tests.sim.counts import DAY_MS, Counts

CHUNK = 100
LOADED = """
import sys, tests.sim.__main__
ours = [module.__file__ for name, module in sys.modules.items() if name.startswith(("chamelaion_watch", "tests"))]
print(*sorted(filter(None, ours)), sep="\\n")
"""  # in a process of its own: this script loads more
TELL_EVERY_S = 60.0


@dataclass
class Chunk:
    """A range of seeds and what came of it; a line of the log."""

    first: int
    last: int
    code: str  # of the code that lived it
    took_s: float = 0.0
    counts: Counts = field(default_factory=Counts)
    broken: dict[int, str] = field(default_factory=dict)  # seed → what

    def line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, line: str) -> Chunk:
        row = json.loads(line)
        broken = {int(seed): what for seed, what in row["broken"].items()}
        return cls(**{**row, "counts": Counts(**row["counts"]), "broken": broken})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="?", default="1-100000", metavar="FIRST-LAST")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    first, _, last = asked.seeds.partition("-")
    began = time.monotonic()
    wanted = chunks(int(first), int(last or first), code())
    done = finished(asked.log, wanted)
    todo = [chunk for chunk in wanted if chunk.first not in {one.first for one in done}]
    if done:
        print(f"      {len(done)} chunks of {CHUNK} lives stand in {asked.log} already", flush=True)
    for chunk in living(todo, asked.processes):
        done.append(chunk)
        if asked.log:
            with asked.log.open("a", encoding="utf-8") as log:
                log.write(chunk.line() + "\n")
    tell(done, time.monotonic() - began, int(last or first) - int(first) + 1)


def chunks(first: int, last: int, digest: str) -> list[Chunk]:
    """Cut at the same seeds whatever range is asked for, so that a log serves every range."""
    starts = range(first - (first - 1) % CHUNK, last + 1, CHUNK)
    return [Chunk(max(first, start), min(last, start + CHUNK - 1), digest) for start in starts]


def code() -> str:
    """Return a digest of our modules that a life runs on: what another code lived proves nothing of this one."""
    asked = [sys.executable, "-c", LOADED]
    digest = hashlib.sha256()
    for path in subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()[:16]


def finished(log: Path | None, wanted: list[Chunk]) -> list[Chunk]:
    """Return what the log holds of the wanted chunks, by the present code."""
    if log is None or not log.exists():
        return []
    spans = {(chunk.first, chunk.last, chunk.code) for chunk in wanted}
    read = [Chunk.read(line) for line in log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    return list({chunk.first: chunk for chunk in read if (chunk.first, chunk.last, chunk.code) in spans}.values())


def living(todo: list[Chunk], processes: int) -> Iterator[Chunk]:
    """Yield each chunk as it ends, in any order."""
    began = told = time.monotonic()
    with multiprocessing.Pool(processes, seldom_collecting, maxtasksperchild=20) as pool:
        for number, chunk in enumerate(pool.imap_unordered(live_through, todo), start=1):
            for seed, what in chunk.broken.items():
                print(f"FAIL  seed {seed}: {what}", flush=True)
            yield chunk
            if time.monotonic() - told > TELL_EVERY_S:
                told = time.monotonic()
                print(f"      {number * CHUNK} lives after {told - began:.0f} s", flush=True)


def seldom_collecting() -> None:
    """Set up a process of the pool: looking for cycles took 10 % of a life (120 lives, 17.0 s against 15.3 s)."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def live_through(chunk: Chunk) -> Chunk:
    """Live one chunk, in a process of the pool."""
    logger.remove()
    began = time.monotonic()
    for seed in range(chunk.first, chunk.last + 1):
        if (what := lived(seed, chunk.counts)) is not None:
            chunk.broken[seed] = what
    chunk.took_s = time.monotonic() - began
    return chunk


def tell(done: list[Chunk], wall_s: float, wanted: int) -> None:
    """Print the totals, and end with 1 if a life broke or is missing."""
    facts, counts = Facts(), Counts()
    broken: dict[int, str] = {}
    for chunk in done:
        counts.add(chunk.counts)
        broken |= chunk.broken
    worked_s = sum(chunk.took_s for chunk in done)
    for line in counts.lines():
        print(f"      {line}")
    facts.check("all lives were lived", counts.lives == wanted, counts.lives)
    facts.check("simulated time", counts.simulated_ms > 0, f"{counts.simulated_ms / DAY_MS:.1f} days")
    facts.check("wall time", done, f"{wall_s:.0f} s now, {worked_s:.0f} s of work in all by code {done[0].code}")
    for seed, what in sorted(broken.items()):
        facts.check(f"seed {seed}; replay with `python -m tests.sim {seed}`", holds=False, figure=what)
    facts.check("violations", not broken, len(broken))
    facts.end()


if __name__ == "__main__":
    main()
