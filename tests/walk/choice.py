"""Which points there are, from two quiet lives, and a seed's sample of them.

Two lives never make exactly the same calls: how many ticks the control thread takes depends on who finishes first.
Numbers that differ a little are no finding; numbers that keep growing are.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.walk.points import Kind, Mode, Point

ORDER = (Mode.KILL, Mode.KILL_AFTER, Mode.EIO, Mode.ENOSPC, Mode.FULL)
MOST_CALLS = 900  # of a quiet life; measured: 585 to 650, as ticks come together on a busy machine


@dataclass(frozen=True, slots=True)
class Recording:
    """How many calls of each kind a quiet life makes."""

    counts: Counter[Kind]

    @classmethod
    def of(cls, order: Iterable[str]) -> Recording:
        return cls(Counter(Kind(*text.split("|")) for text in order))

    @property
    def calls(self) -> int:
        return self.counts.total()


def every_point(recordings: Iterable[Recording], modes: Iterable[Mode] = ORDER) -> Iterator[Point]:
    """Yield all points that one of the lives had, mode by mode."""
    most = Counter[Kind]()
    for recording in recordings:
        most |= recording.counts
    for mode in modes:
        for kind in sorted(most):
            if mode in kind.modes:
                yield from (Point(mode, kind, nth) for nth in range(1, most[kind] + 1))


def sample(recordings: list[Recording], number: int, seed: int) -> list[Point]:
    """Choose points that all of the lives had: another kind each time, in a mode and at a number drawn."""
    least = recordings[0].counts
    for recording in recordings[1:]:
        least &= recording.counts
    chance, chosen = random.Random(seed), dict[Point, None]()
    kinds: list[Kind] = []
    while len(chosen) < number:
        if not kinds:
            kinds = sorted(least)
            chance.shuffle(kinds)
        kind = kinds.pop()
        chosen[Point(chance.choice(kind.modes), kind, chance.randint(1, least[kind]))] = None
    return list(chosen)
