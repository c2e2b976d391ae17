"""Simulated time: a clock that only the schedule moves, and the schedule."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

from chamelaion_watch.core.model import Millis

START: Millis = 1_700_000_000_000


class SimClock:
    """What the daemon asks for time; `now` never goes back."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.at: Millis = START

    def now(self) -> Millis:
        return self.at

    def chance(self) -> float:
        return self._rng.random()


class Schedule:
    """Things that will happen, in order of time, then of their arrival."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self._heap: list[tuple[Millis, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def after(self, delay_ms: int, what: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self._clock.at + max(0, delay_ms), next(self._numbers), what))

    def next_at(self) -> Millis | None:
        return self._heap[0][0] if self._heap else None

    def run_due(self) -> None:
        """Let everything happen whose time has come."""
        while self._heap and self._heap[0][0] <= self._clock.at:
            heapq.heappop(self._heap)[2]()
