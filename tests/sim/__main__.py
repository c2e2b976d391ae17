"""`python -m tests.sim SEED [SEED…]` replays lives with a trace; `FIRST-LAST` lives many, and prints what breaks."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from loguru import logger

from tests.sim.script import live


def main(args: list[str]) -> int:
    logger.remove()
    broken = 0
    for arg in args:
        first, _, last = arg.partition("-")
        for seed in range(int(first), int(last or first) + 1):
            broken += not _lived(seed, is_traced=not last)
    return 1 if broken else 0


def _lived(seed: int, *, is_traced: bool) -> bool:
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        try:
            life = live(seed, Path(folder), print if is_traced else None)
        except Exception as error:
            if is_traced:
                raise
            print(f"seed {seed}: {type(error).__name__}: {error}")
            return False
        if is_traced:
            print(
                f"seed {seed}: {life.boots} boots, {len(life.service.by_run)} runs paid, {life.service.refusals} 429s"
            )
        return True


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
