"""Processes that are measured: how long they take, what they cost, how large they get. Linux."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Of a process from its start to its end, its children that it waited for included."""

    wall_s: float
    cpu_s: float
    rss_mb: float  # at its largest


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Cost:
    """Run a command to its end, what it says thrown away; raises AssertionError if it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(command, env=env, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    wall_s = time.perf_counter() - began
    assert process.returncode == 0, f"{command[0]} ended with {process.returncode}: {said.decode(errors='replace')}"
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def cpu_s(pid: int) -> float:
    """CPU time so far of a process and of its children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(value) for value in fields[11:15]) / TICKS_PER_S


def rss_mb(pid: int) -> float:
    return _memory(pid, "VmRSS")


def peak_mb(pid: int) -> float:
    return _memory(pid, "VmHWM")


def pss_mb(pid: int) -> float:
    """What it has in memory now, each page shared out among those that have it."""
    return _memory(pid, "Pss", "smaps_rollup")


def _memory(pid: int, name: str, file: str = "status") -> float:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/{file}").read_text().splitlines() if ":" in line)
    return int(lines[name].split()[0]) / 1024
