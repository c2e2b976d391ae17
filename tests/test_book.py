"""The jobs by what is asked of them, compared with asking every job."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chamelaion_watch.core.book import Book
from chamelaion_watch.core.model import Job, JobState
from tests.builders import job, source

JOBS = st.builds(
    lambda number, state, content, run, priority, next_at, must_look_up, doubt_at: replace(
        job(number, key=f"s{number % 3}", state=state),
        video=source("v.mp4", content),
        audio=source("a.wav", content),
        reference_id=f"cw-{content}-{run}",
        priority=-number % 2 if priority else 0,
        next_at=next_at,
        must_look_up=must_look_up,
        doubt_at=doubt_at,
    ),
    number=st.integers(1, 6),
    state=st.sampled_from([JobState.QUEUED, JobState.QUEUED, JobState.SUBMITTING, JobState.DONE]),
    content=st.sampled_from("ab"),
    run=st.integers(1, 2),
    priority=st.booleans(),
    next_at=st.none() | st.integers(0, 3),
    must_look_up=st.booleans(),
    doubt_at=st.none() | st.integers(0, 3),
)


@given(changes=st.lists(st.tuples(JOBS, st.booleans()), max_size=30))
def test_it_says_what_asking_every_job_would_whatever_lies_on_the_shelf(changes: list[tuple[Job, bool]]) -> None:
    book, plain = Book(), dict[int, Job]()
    for one, is_shelved in changes:
        if is_shelved and one.state is JobState.DONE and one.id not in plain:
            book.shelve(one)
        else:
            book.put(one)
            if is_shelved and one.state is JobState.DONE:
                book.shelve(one)
        plain[one.id] = one
    jobs = sorted(plain.values(), key=lambda one: one.id)
    queued = [one for one in jobs if one.state is JobState.QUEUED]
    in_turn = sorted((one for one in queued if not one.must_look_up), key=lambda one: (-one.priority, one.id))
    assert list(book.queue) == [one.id for one in in_turn]
    assert set(book.queue.unprobed) == {one.id for one in queued}
    assert set(book.queue.unasked) == {one.id for one in queued if one.must_look_up}
    assert set(book.queue.delayed) == {one.id for one in queued if one.next_at is not None}
    assert set(book.doubted) == {one.id for one in book.jobs.values() if one.doubt_at is not None}
    for one in jobs:
        twins = [other for other in jobs if other.reference_id == one.reference_id and other.id != one.id]
        assert book.twins(one) == twins
        assert (one.id in book.queue.twinned) == (one in queued and bool(twins))
        content = (one.video.sha256, one.audio.sha256)
        assert book.same_content(*content) == [
            other for other in jobs if (other.video.sha256, other.audio.sha256) == content
        ]
        newest = book.newest(one.root, one.key)
        assert newest == max((other for other in jobs if other.key == one.key), key=lambda other: other.id)
        assert book.is_finished(one.root, one.key) == (newest.id in book.shelf)
        assert book.get(one.id) == one
    for state in JobState:
        assert book.count(state) == sum(one.state is state for one in jobs)
    assert {one.id for one in book.of(*JobState)} | {one.id for one in book.shelf} == plain.keys()
    assert not book.jobs.keys() & {one.id for one in book.shelf}


def test_what_is_not_finished_is_not_shelved() -> None:
    with pytest.raises(AssertionError):
        Book().shelve(job(state=JobState.RENDERED))
