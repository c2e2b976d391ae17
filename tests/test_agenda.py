"""When files are looked at: compared with asking every file."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chamelaion_watch.core.agenda import Agenda

PATHS = [f"s{number}.mp4" for number in range(6)]
CHANGES = st.lists(st.tuples(st.sampled_from(PATHS), st.none() | st.integers(0, 9)), max_size=60)


@given(changes=CHANGES, now=st.integers(0, 10), most=st.integers(0, 7))
def test_it_says_what_asking_every_file_would(changes: list[tuple[str, int | None]], now: int, most: int) -> None:
    agenda, plain = Agenda(), dict[str, int]()
    for path, at in changes:
        if at is None:
            agenda.drop(path)
            plain.pop(path, None)
        else:
            agenda.put(path, at)
            plain[path] = at
        assert agenda.first_at() == min(plain.values(), default=None)
    in_order = [path for at, path in sorted((at, path) for path, at in plain.items()) if at <= now]
    assert agenda.due(now, most) == in_order[:most]
    assert agenda.due(now, most) == in_order[:most]  # nothing was taken out
    assert set(agenda) == plain.keys()
    wanted = [path for path in PATHS if path in plain]
    assert agenda.soonest(most, wanted) == sorted(wanted, key=lambda path: (plain[path], path))[:most]


def test_what_is_put_off_for_ever_leaves_little_behind() -> None:
    agenda = Agenda()
    for at in range(100_000):
        agenda.put("s.mp4", at)
        agenda.first_at()
    assert len(agenda._heap) == 1
