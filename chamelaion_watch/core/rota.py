"""Which complete files are looked at again: those of open jobs after each sweep, of all others a share in turn.

A source that is overwritten in place touches no folder, and some day it must be noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from chamelaion_watch.core.model import RelPath

WATCHED_PER_SCAN = 200  # files of open jobs looked at with a sweep; the others follow in the next scans


@dataclass(slots=True)
class Rota:
    """Whose turn it is."""

    _round: list[RelPath] = field(default_factory=list)  # of open jobs: still to be looked at
    _is_round_wanted: bool = False
    _scopes: list[RelPath] = field(default_factory=list)
    _paths: list[RelPath] = field(default_factory=list)

    @property
    def is_pending(self) -> bool:
        """Whether a round is under way, or another is to follow it."""
        return bool(self._round) or self._is_round_wanted

    def watched(self, paths: Iterable[RelPath], *, is_sweep: bool) -> list[RelPath]:
        """Return the next of a round; a sweep begins one with these paths, now or when the last has ended."""
        self._is_round_wanted |= is_sweep
        if not self._round and self._is_round_wanted:
            self._round, self._is_round_wanted = list(paths), False
        chosen, self._round = self._round[:WATCHED_PER_SCAN], self._round[WATCHED_PER_SCAN:]
        return chosen

    def others(
        self, count: int, scopes: Callable[[], Sequence[RelPath]], paths_in: Callable[[RelPath], Sequence[RelPath]]
    ) -> list[RelPath]:
        """Return the next so many of all, scope by scope; each once before anyone is there again."""
        chosen: list[RelPath] = []
        is_new_turn = not self._paths and not self._scopes
        while len(chosen) < count:
            if not self._paths and not self._scopes:
                if not is_new_turn:
                    break
                self._scopes, is_new_turn = list(reversed(scopes())), False
                if not self._scopes:
                    break
            if not self._paths:
                self._paths = list(paths_in(self._scopes.pop()))
            room = count - len(chosen)
            chosen += self._paths[:room]
            self._paths = self._paths[room:]
        return chosen
