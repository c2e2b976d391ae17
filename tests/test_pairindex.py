"""Pairs kept up to date scope by scope, compared with pairing everything anew after each change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chamelaion_watch.core.model import FileState, PairState
from chamelaion_watch.core.pairindex import PairIndex
from chamelaion_watch.core.pairing import scope_of
from tests.builders import folder_policy

SETTLE_MS = 1_000
PATHS = [
    *("s.mp4", "s.wav", "s.mp3", "s.de.wav", "job/take.mp4", "job/voice.wav", "job/voice.de.wav", "job/take.wav"),
    *("video/e1.mp4", "audio/e1.wav", "job/other.mp4"),
]
STATES = [FileState.ARRIVING, FileState.COMPLETE]
CHANGES = st.lists(
    st.tuples(st.sampled_from(PATHS), st.sampled_from([None, *STATES]), st.sampled_from([0, 400, 1_200])), max_size=40
)


@given(changes=CHANGES)
def test_what_is_kept_is_what_pairing_everything_anew_gives(
    changes: list[tuple[str, FileState | None, int]],
) -> None:
    index, states, now = PairIndex(folder_policy()), dict[str, FileState](), 10_000
    arrived: list[tuple[str, int]] = []
    for path, state, wait_ms in changes:
        now += wait_ms
        if state is None and path in states:
            del states[path]
            index.remove(path)
        elif state is not None and path not in states:
            states[path] = state
            arrived.append((path, now))
            index.add(scope_of(path), [path], now)
        elif state is not None and states[path] is not state:
            states[path] = state
            index.touch(path)
        index.update(states.__getitem__, now, SETTLE_MS)
        assert index.pairs == anew(states, arrived, now).pairs
        assert index.unpaired == anew(states, arrived, now).unpaired
        assert index.disputed == {
            path: item for path, item in index.unpaired.items() if item.state is PairState.ATTENTION
        }


def anew(states: dict[str, FileState], arrived: list[tuple[str, int]], now: int) -> PairIndex:
    index = PairIndex(folder_policy())
    for path in states:
        index.add(scope_of(path), [path], 0)
    for path, at in arrived:
        index._arrived_at[path.rpartition("/")[0]] = at
    index.update(states.__getitem__, now, SETTLE_MS)
    return index


def test_a_file_that_settles_pairs_nothing_anew_where_names_alone_decide() -> None:
    """Each look at one of 4,000 files in a folder paired all of them again."""
    index = PairIndex(folder_policy())
    index.add("", ["s.mp4", "s.wav"], 0)
    index.update(lambda _: FileState.ARRIVING, 0, SETTLE_MS)
    index.ready.clear()
    index.touch("s.wav")
    assert index._dirty == set()
    assert list(index.ready) == ["s"]
