"""`chamelaion-watch --version` against an empty Python: medians of 15 interleaved runs, at most 5 times as long."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from chamelaion_watch.version import __version__
from tests.acceptance.rig import Facts

RUNS = 15
MAX_RATIO = 5.0


def main() -> None:
    facts = Facts()
    command = installed()
    facts.check("the command is installed beside this Python", command, command)
    if command:
        answer = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
        said = answer.stdout.strip()
        facts.check("it says its version", (answer.returncode, said) == (0, f"chamelaion-watch {__version__}"), said)
        ours_s, empty_s = medians([command, "--version"], [sys.executable, "-c", "pass"])
        told = f"{ours_s * 1000:.0f} ms / {empty_s * 1000:.0f} ms = {ours_s / empty_s:.2f}"
        facts.check(f"at most {MAX_RATIO:g} times an empty Python", ours_s / empty_s <= MAX_RATIO, told)
    facts.end()


def installed() -> str | None:
    return shutil.which("chamelaion-watch", path=str(Path(sys.executable).parent))


def medians(*commands: list[str]) -> list[float]:
    """Run the commands in turn, so that a busy moment of the machine meets all of them; medians in seconds."""
    taken: list[list[float]] = [[] for _ in commands]
    for run in range(RUNS + 1):
        for command, times in zip(commands, taken, strict=True):
            began = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            if run:  # the first one warms the disk's cache
                times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in taken]


if __name__ == "__main__":
    main()
