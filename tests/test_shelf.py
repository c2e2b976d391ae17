"""Finished jobs, packed and found again."""

from __future__ import annotations

import os
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from chamelaion_watch.core.lifecycle import SOURCE_GONE
from chamelaion_watch.core.model import JobState, Options
from chamelaion_watch.core.shelf import BOX, Shelf
from tests.builders import job, source

NAMES = st.one_of(st.text(min_size=1, max_size=20), st.binary(min_size=1, max_size=20).map(os.fsdecode))
MAYBE_AT = st.none() | st.integers(0, 2**53)


@given(
    key=NAMES,
    output=st.none() | NAMES,
    message=st.none() | NAMES,
    at=MAYBE_AT,
    options=st.builds(Options, st.booleans(), st.none() | st.just("lipsync-2")),
    is_superseded=st.booleans(),
)
def test_a_job_comes_off_the_shelf_as_it_was(
    key: str, output: str | None, message: str | None, at: int | None, options: Options, is_superseded: bool
) -> None:
    one = replace(
        job(3, key=key, state=JobState.DONE, options=options),
        output=output,
        message=message,
        rendered_at=at,
        is_superseded=is_superseded,
        lang="de",
    )
    shelf = Shelf()
    shelf.put(one)
    assert shelf.get(3) == one
    assert shelf.newest("a", key) == 3
    assert list(shelf.of_content(one.video.sha256, one.audio.sha256)) == [one]
    assert shelf.take(3) == one
    assert (list(shelf), shelf.newest("a", key), 3 in shelf, +shelf.counts) == ([], None, False, {})


def test_the_newest_of_a_pair_is_found_and_all_of_one_content() -> None:
    shelf = Shelf()
    done = [replace(job(number, key="s"), state=JobState.DONE) for number in (1, 5, 3)]
    for one in done:
        shelf.put(one)
    assert shelf.newest("a", "s") == 5
    assert {one.id for one in shelf.of_content(done[0].video.sha256, done[0].audio.sha256)} == {1, 3, 5}
    assert list(shelf.of_content("other", "content")) == []
    assert shelf.counts == {JobState.DONE: 3}


def test_what_is_not_there_is_not_taken() -> None:
    assert Shelf().take(1) is None
    assert Shelf().get(1) is None


def test_it_takes_little_room() -> None:
    """2 kB for each job in memory, of which 50,000 may be finished."""
    long = "Show 04/Episode 12/Scene 0107 wide take 3 final"
    one = replace(
        job(1, key=long, state=JobState.DONE, video=source(f"{long}.mp4"), audio=source(f"{long}.wav")),
        output=f"{long}.lipsync.mp4",
        output_sha256="0123456789abcdef" * 4,
    )
    shelf = Shelf()
    for number in range(1, BOX + 1):
        shelf.put(replace(one, id=number, reference_id=f"{number:02}" * 32))
    assert len(shelf._boxes[1]) / BOX < 200
    assert not shelf._filling


def test_each_of_many_is_found_taken_and_put_back() -> None:
    shelf = Shelf()
    many = {number: job(number, key=f"s{number}", state=JobState.DONE) for number in range(1, 3 * BOX)}
    for one in many.values():
        shelf.put(one)
    assert {one.id: one for one in shelf} == many
    for number in range(1, 3 * BOX, 2):
        assert shelf.take(number) == many[number]
        assert (shelf.get(number), shelf.newest("a", f"s{number}")) == (None, None)
    assert {one.id for one in shelf} == set(range(2, 3 * BOX, 2))
    assert shelf.counts == {JobState.DONE: len(many) // 2}
    shelf.put(many[1])
    assert [shelf.get(number) for number in (1, 2, 3)] == [many[1], many[2], None]
    for number in (1, *range(2, 3 * BOX, 2)):
        shelf.take(number)
    assert (list(shelf), shelf._boxes, shelf._box_of, shelf._by_pair, shelf._by_content) == ([], {}, {}, {}, {})


def test_a_pair_asks_for_nothing_more_unless_it_may_come_back() -> None:
    shelf = Shelf()
    done, gone = job(1, key="s", state=JobState.DONE), job(2, key="t", state=JobState.CANCELLED, code=SOURCE_GONE)
    for one in (done, gone):
        shelf.put(one)
    assert shelf.is_over(1, done.video.sha256, done.audio.sha256)
    assert not shelf.is_over(1, done.video.sha256, "other")
    assert not shelf.is_over(2, gone.video.sha256, gone.audio.sha256)
    shelf.take(2)
    assert shelf._not_over == set()
