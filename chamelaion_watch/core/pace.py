"""How long the service takes: learned from what it finished, so that it is asked when an answer is worth while."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from chamelaion_watch.core.model import Millis

REMEMBERED = 50  # finished jobs: enough for a lowest tenth, few enough to follow a busy evening
LEAST_KNOWN = 3  # finished jobs, before anything is made of them
NEWS = 0.3  # what the last round counts for, against all before it
EARLY = 0.9  # of the time that the quickest tenth took: too early costs one call, too late a person's patience
SOONEST_MS, LATEST_MS = 250, 300_000  # of a first look: a bad job fails within seconds, however long a good one takes


@dataclass(slots=True)
class Pace:
    """What was learned in this process, and when the service's list was last read, how often, by how many calls."""

    listed_at: Millis = 0
    rounds: int = 0
    calls: int = 1
    _took: deque[tuple[int, int | None]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _asked_at: Millis | None = None
    _rate: float | None = None  # finished jobs per millisecond

    def finished(self, took_ms: int, video_ms: int | None) -> None:
        """A job rendered so long, queue included; `video_ms` is the length of its video, None if unknown."""
        self._took.append((max(took_ms, 0), video_ms or None))

    def asked(self, now: Millis, finished: int, calls: int) -> None:
        """A round of questions found so many jobs finished, and took so many calls."""
        self.calls = max(calls, 1)
        if self._asked_at is not None and now > self._asked_at:
            found = finished / (now - self._asked_at)
            self._rate = found if self._rate is None else NEWS * found + (1 - NEWS) * self._rate
        self._asked_at = now

    def apart_ms(self) -> float | None:
        """Return how far apart jobs have been finishing of late; None until it is known."""
        return 1 / self._rate if self._rate else None

    def first_look_ms(self, video_ms: int | None) -> int | None:
        """Return how long after its acceptance a job is asked for first; None until it is known.

        The lowest tenth of rendering time per second of video: where the service needs a time of its own for each
        job, that comes from the longest videos, and is too early for the shorter ones rather than too late.
        """
        ratios = sorted(took / video for took, video in self._took if video is not None)
        if video_ms is not None and len(ratios) >= LEAST_KNOWN:
            return _bounded(ratios[len(ratios) // 10] * video_ms)
        times = sorted(took for took, _ in self._took)
        return _bounded(times[len(times) // 10]) if len(times) >= LEAST_KNOWN else None


def _bounded(took_ms: float) -> int:
    return round(min(max(took_ms * EARLY, SOONEST_MS), LATEST_MS))
