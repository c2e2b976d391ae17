"""Time and chance, each of which enters the daemon here and nowhere else.

The daemon's time is the wall clock at the start plus what has passed since on a clock that nobody sets: a jump of
the wall clock moves no deadline. CLOCK_BOOTTIME goes on while a laptop sleeps, so an upload that was suspended
for an hour sees that hour (a monotonic clock would not).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Protocol

from chamelaion_watch.core.model import Millis

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _steady_ns() -> int:
    return time.clock_gettime_ns(_STEADY)


class Clock(Protocol):
    """What the daemon asks for time."""

    def now(self) -> Millis:
        """Return the daemon's time, in milliseconds since the epoch."""
        ...

    def chance(self) -> float:
        """Return a random number in [0, 1)."""
        ...


class SystemClock:
    """The clock of this machine; the simulation gives it sources of its own."""

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns, steady_ns: Callable[[], int] = _steady_ns) -> None:
        self._steady_ns = steady_ns
        self._offset_ns = wall_ns() - steady_ns()

    def now(self) -> Millis:
        return (self._steady_ns() + self._offset_ns) // 1_000_000

    def chance(self) -> float:
        return random.random()  # noqa: S311 - spreads waits, guards nothing


def utc_offset_s() -> int:
    """Return this machine's offset from UTC now, in seconds: for texts that people read."""
    return time.localtime().tm_gmtoff


def monotonic_s() -> float:
    """Return seconds on a clock that nobody sets: for durations inside one process."""
    return time.clock_gettime(_STEADY)


def worked_s() -> float:
    """Return the processor time of this thread, in seconds: what it did, however busy the machine is."""
    return time.thread_time()
