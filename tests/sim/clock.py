"""Simulated time: the world's, which only the schedule moves; each process's clock, which is the real one; the schedule.

The world's time never goes back. The wall clock is that time and an offset, which people and NTP change; a process
reads it once, as `edges.clock.SystemClock` does.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

from chamelaion_watch.core.model import Millis
from chamelaion_watch.edges.clock import SystemClock

START: Millis = 1_700_000_000_000
SPLIT = 0.3  # of what is due at once, one thing happens and the daemon gets a turn before the next


class SimClock:
    """The world's time, and how far the wall clock is off."""

    def __init__(self) -> None:
        self.at: Millis = START
        self.wall_offset_ms = 0

    def wall(self) -> Millis:
        return self.at + self.wall_offset_ms


class ProcessClock(SystemClock):
    """The real clock of one process, on simulated sources."""

    def __init__(self, world: SimClock, rng: random.Random) -> None:
        super().__init__(wall_ns=lambda: world.wall() * 1_000_000, steady_ns=lambda: world.at * 1_000_000)
        self._rng = rng

    def chance(self) -> float:
        return self._rng.random()


class Schedule:
    """Things that will happen, in order of time; of those that are due together, `order` draws which comes first."""

    def __init__(self, clock: SimClock, order: random.Random | None = None) -> None:
        self._clock = clock
        self._order = order
        self._heap: list[tuple[Millis, float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def after(self, delay_ms: int, what: Callable[[], None]) -> None:
        draw = 0.0 if self._order is None else self._order.random()
        heapq.heappush(self._heap, (self._clock.at + max(0, delay_ms), draw, next(self._numbers), what))

    def next_at(self) -> Millis | None:
        return self._heap[0][0] if self._heap else None

    def run_due(self) -> None:
        """Let what is due happen: all of it, or now and then only some, so that a tick comes between."""
        while self._heap and self._heap[0][0] <= self._clock.at:
            heapq.heappop(self._heap)[-1]()
            if self._order is not None and self._order.random() < SPLIT:
                return
