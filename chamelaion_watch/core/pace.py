"""How long the service takes: learned from what it finished, so that it is asked when an answer is worth while."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from chamelaion_watch.core.model import Millis

REMEMBERED = 50  # finished jobs: enough for a lowest tenth, few enough to follow a busy evening
LEAST_KNOWN = 3  # finished jobs, before anything is made of them
EARLY = 0.9  # of the time that the quickest tenth took: too early costs one call, too late a person's patience
SOONEST_MS, LATEST_MS = 250, 300_000  # of a first look: a bad job fails within seconds, however long a good one takes


@dataclass(slots=True)
class Pace:
    """What was learned in this process, and when the service's list was last read, how often, by how many calls."""

    listed_at: Millis = 0
    rounds: int = 0
    calls: int = 1
    _took: deque[tuple[int, int | None]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def finished(self, took_ms: int, video_ms: int | None) -> None:
        """A job rendered so long, queue included; `video_ms` is the length of its video, None if unknown."""
        self._took.append((max(took_ms, 0), video_ms or None))

    def typical_ms(self) -> int | None:
        """Return what half of the last jobs took at most; None until it is known."""
        times = self._times()
        return times[len(times) // 2] if len(times) >= LEAST_KNOWN else None

    def first_look_ms(self, video_ms: int | None) -> int | None:
        """Return how long after its acceptance a job is asked for first; None until it is known.

        The lowest tenth of rendering time per second of video: where the service needs a time of its own for each
        job, that comes from the longest videos, and is too early for the shorter ones rather than too late.
        """
        ratios = sorted(took / video for took, video in self._took if video is not None)
        if video_ms is not None and len(ratios) >= LEAST_KNOWN:
            return _bounded(ratios[len(ratios) // 10] * video_ms)
        times = self._times()
        return _bounded(times[len(times) // 10]) if len(times) >= LEAST_KNOWN else None

    def _times(self) -> list[int]:
        return sorted(took for took, _ in self._took)


def _bounded(took_ms: float) -> int:
    return round(min(max(took_ms * EARLY, SOONEST_MS), LATEST_MS))
