"""Which complete files are looked at again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from chamelaion_watch.core.rota import WATCHED_PER_SCAN, Rota

SCOPES = {
    "a": [f"a/{number}" for number in range(7)],
    "b": ["b/0"],
    "c": [],
    "d": [f"d/{number}" for number in range(4)],
}


def others(rota: Rota, count: int) -> list[str]:
    def paths_in(scope: str) -> Sequence[str]:
        return SCOPES[scope]

    return rota.others(count, lambda: list(SCOPES), paths_in)


def test_all_have_their_turn_before_anyone_is_there_again() -> None:
    rota, seen = Rota(), list[str]()
    for _ in range(4):
        seen += others(rota, 3)
    everyone = [path for paths in SCOPES.values() for path in paths]
    assert seen == everyone
    assert Counter(seen + others(rota, 3)) == Counter([*everyone, *everyone[:3]])


def test_a_share_is_never_larger_than_all() -> None:
    assert len(others(Rota(), 100)) == 12
    assert Rota().others(5, list, lambda _: []) == []


def test_a_round_is_taken_in_shares_and_another_follows_when_a_sweep_asked_for_it() -> None:
    rota, paths = Rota(), [str(number) for number in range(WATCHED_PER_SCAN + 5)]
    assert (rota.watched(paths, is_sweep=False), rota.is_pending) == ([], False)
    assert (rota.watched(paths, is_sweep=True), rota.is_pending) == (paths[:WATCHED_PER_SCAN], True)
    assert (rota.watched(paths, is_sweep=True), rota.is_pending) == (paths[WATCHED_PER_SCAN:], True)
    assert (rota.watched(["new"], is_sweep=False), rota.is_pending) == (["new"], False)
