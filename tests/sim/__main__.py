"""`python -m tests.sim SEED [SEED…]` replays lives with a trace; `FIRST-LAST` lives many, and says what they contained.

`--narrow` leaves out the faults that came after the first simulation; `--stop` ends with the first life that breaks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from loguru import logger

from tests.sim.counts import Counts
from tests.sim.script import live


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("seeds", nargs="+", metavar="SEED|FIRST-LAST")
    parser.add_argument("--narrow", action="store_true")
    parser.add_argument("--stop", action="store_true")
    asked = parser.parse_args(args)
    logger.remove()
    counts, broken = Counts(), 0
    for text in asked.seeds:
        first, _, last = text.partition("-")
        for seed in range(int(first), int(last or first) + 1):
            problem = lived(seed, counts, is_narrow=asked.narrow, is_traced=not last)
            if problem is not None:
                print(f"seed {seed}: {problem}", flush=True)
                broken += 1
            if broken and asked.stop:
                return 1
    print("\n".join(counts.lines()))
    return 1 if broken else 0


def lived(seed: int, counts: Counts, *, is_narrow: bool = False, is_traced: bool = False) -> str | None:
    """Live one life, and say what broke; what it contained is added to `counts`."""
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        try:
            live(seed, Path(folder), print if is_traced else None, is_narrow=is_narrow, counts=counts)
        except Exception as error:
            if is_traced:
                raise
            return f"{type(error).__name__}: {error}"
    return None


def memory() -> str | None:
    """A folder in memory where the system has one: nothing here is about the disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
