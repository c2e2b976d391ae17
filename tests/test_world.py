"""The state of the control thread: the book of jobs, and what is to be told to the ledger."""

from __future__ import annotations

from dataclasses import replace

from chamelaion_watch.core.book import Book
from chamelaion_watch.core.lifecycle import Step
from chamelaion_watch.core.messages import Probe, Submit
from chamelaion_watch.core.model import JobState
from chamelaion_watch.core.policy import Policy
from chamelaion_watch.core.world import HISTORY, World, where
from tests.builders import NOW, job


def test_the_book_finds_jobs_by_everything_that_is_asked_for() -> None:
    book, first, second = Book(), job(1), job(2, key="s2", reference_id=job().reference_id)
    for one in (second, first):
        book.put(one)
    assert book.newest("a", "s1") is first
    assert book.newest("b", "s1") is None
    assert list(book.twins(first)) == [second]
    assert book.same_content(first.video.sha256, first.audio.sha256) == [first]
    assert book.of(JobState.QUEUED) == [second, first]
    assert book.of(JobState.DONE) == []


def test_the_book_keeps_up_with_what_changes() -> None:
    book = Book()
    book.put(job())
    moved = replace(job(), state=JobState.DONE, reference_id="other", video=job(key="x").video)
    book.put(moved)
    assert (book.of(JobState.QUEUED), book.of(JobState.DONE)) == ([], [moved])
    assert list(book.twins(job(2))) == []
    assert book.same_content(job().video.sha256, job().audio.sha256) == []
    assert book.open() == []


def test_the_newest_row_of_a_pair_is_the_one_with_the_highest_number() -> None:
    book = Book()
    for number in (1, 3, 2):
        book.put(job(number))
    newest = book.newest("a", "s1")
    assert newest is not None
    assert newest.id == 3


def test_a_step_is_said_written_and_forgets_what_belonged_to_the_state() -> None:
    made = World(Policy(), now=NOW)
    made.put(job(tries=3))
    made.checked.add(1)
    made.progress[1] = (1, 2)
    after = made.step(made.book.jobs[1], Step.FAIL, code="no_sound", message="silent")
    assert after.state is JobState.FAILED
    assert (made.checked, made.progress, list(made.changed)) == (set(), {}, [1])
    (said,) = made.said
    assert (said.text, said.is_warning, said.job_id) == ("a/s1: failed (no_sound: silent)", True, 1)
    assert made.is_notes_due


def test_history_is_bounded() -> None:
    made = World(Policy(), now=NOW)
    made.put(job())
    for number in range(2 * HISTORY):
        made.attempt(job(), "step", "code", str(number))
    assert len(made.history[1]) == HISTORY
    assert len(made.attempts) == 2 * HISTORY


def test_what_is_under_way_is_counted_by_kind_and_job() -> None:
    made = World(Policy(), now=NOW)
    made.running = {Probe(job()): NOW, Submit(job(2), NOW): NOW}
    assert made.is_running(Probe, 1)
    assert not made.is_running(Probe, 2)
    assert made.is_running((Probe, Submit), 2)
    assert made.count_running(Submit) == 1
    assert made.in_flight() == 0


def test_a_job_is_named_by_folder_and_pair() -> None:
    assert where(job(key="x/s1")) == "a/x/s1"
