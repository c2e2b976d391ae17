"""The jobs by what is asked of them, compared with asking every job."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from chamelaion_watch.core.book import Book
from chamelaion_watch.core.model import Job, JobState
from tests.builders import job, source

JOBS = st.builds(
    lambda number, state, content, run, priority, next_at, must_look_up: replace(
        job(number, key=f"s{number % 3}", state=state),
        video=source("v.mp4", content),
        reference_id=f"cw-{content}-{run}",
        priority=-number % 2 if priority else 0,
        next_at=next_at,
        must_look_up=must_look_up,
    ),
    number=st.integers(1, 6),
    state=st.sampled_from([JobState.QUEUED, JobState.QUEUED, JobState.SUBMITTING, JobState.DONE]),
    content=st.sampled_from("ab"),
    run=st.integers(1, 2),
    priority=st.booleans(),
    next_at=st.none() | st.integers(0, 3),
    must_look_up=st.booleans(),
)


@given(changes=st.lists(JOBS, max_size=30))
def test_it_says_what_asking_every_job_would(changes: list[Job]) -> None:
    book, plain = Book(), dict[int, Job]()
    for one in changes:
        book.put(one)
        plain[one.id] = one
    jobs = sorted(plain.values(), key=lambda one: one.id)
    queued = [one for one in jobs if one.state is JobState.QUEUED]
    assert list(book.queued()) == sorted(queued, key=lambda one: (-one.priority, one.id))
    assert set(book.queue.unprobed) == {one.id for one in queued}
    assert set(book.queue.unasked) == {one.id for one in queued if one.must_look_up}
    assert set(book.queue.delayed) == {one.id for one in queued if one.next_at is not None}
    for one in jobs:
        twins = [other for other in jobs if other.reference_id == one.reference_id and other.id != one.id]
        assert book.twins(one) == twins
        assert (one.id in book.queue.twinned) == (one in queued and bool(twins))
        content = (one.video.sha256, one.audio.sha256)
        assert book.same_content(*content) == [
            other for other in jobs if (other.video.sha256, other.audio.sha256) == content
        ]
        newest = book.newest(one.root, one.key)
        assert newest is not None
        assert newest.id == max(other.id for other in jobs if other.key == one.key)
    for state in JobState:
        assert {one.id for one in book.of(state)} == {one.id for one in jobs if one.state is state}
