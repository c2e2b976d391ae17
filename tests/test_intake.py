"""From pairs to jobs, phase by phase, and what `retry` and `cancel` make of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chamelaion_watch.core import intake
from chamelaion_watch.core.lifecycle import SOURCE_GONE
from chamelaion_watch.core.model import Job, JobState, Signature, Source
from chamelaion_watch.core.world import Pause, World
from tests.builders import NOW, folder_with, job, source, sweep, tick, world

S = JobState
NEW = source("s1.wav", "new content", size=6_000, mtime_ns=9)


def replaced(made: World, path: str, found: Source) -> None:
    """A source was replaced, and passed the gate."""
    made.folders["a"].files[path].source = found
    made.folders["a"].index.touch(path)
    tick(made)


def vanished(made: World, *paths: str) -> None:
    made.pause = Pause()
    made.running.clear()
    tick(made, sweep(vanished=paths))
    made.running.clear()
    tick(made, sweep())


def newest(made: World, key: str = "s1") -> Job:
    found = made.book.newest("a", key)
    assert found is not None
    return found


# -- new pairs ----------------------------------------------------------------------------------------


def test_a_pair_becomes_a_job_once() -> None:
    made = world()
    made.folders["a"] = folder_with(job())
    for _ in range(3):
        tick(made)
    (made_job,) = made.book.jobs.values()
    assert (made_job.key, made_job.run_no, made_job.state) == ("s1", 1, S.QUEUED)
    assert made_job.reference_id == job().reference_id
    assert not made_job.must_look_up


def test_in_a_folder_that_this_ledger_never_saw_the_service_is_asked_first() -> None:
    made = world()
    made.folders["a"] = folder_with(job())
    made.folders["a"].is_new = True
    tick(made)
    assert newest(made).must_look_up


def test_the_same_content_anywhere_stands_for_the_same_run() -> None:
    done = job(1, run_no=3, state=S.DONE)
    again = job(2, key="s2", video=replace(done.video, path="s2.mp4"), audio=replace(done.audio, path="s2.wav"))
    made = world(done)
    made.folders["a"] = folder_with(done, again)
    tick(made)
    assert newest(made, "s2").reference_id == done.reference_id


def test_what_is_held_or_not_of_this_run_is_left_alone() -> None:
    for spoil in ("held", "only"):
        made = world()
        made.folders["a"] = folder_with(job())
        if spoil == "held":
            made.folders["a"].held = {"s1"}
        else:
            made.only = set()
        tick(made)
        assert made.book.jobs == {}


# -- new content, by phase ----------------------------------------------------------------------------


def test_queued_it_keeps_its_place() -> None:
    made = world(job(created_at=NOW - 5, tries=3, next_at=NOW + 10**6))
    replaced(made, "s1.wav", NEW)
    now = newest(made)
    assert (now.id, now.audio, now.tries, now.next_at) == (1, NEW, 0, None)
    assert now.reference_id != job().reference_id


def test_touched_with_the_same_content_nothing_happens_but_that_it_is_known() -> None:
    touched = replace(job().audio, signature=Signature(5_000, 99))
    made = world(job(tries=2))
    replaced(made, "s1.wav", touched)
    now = newest(made)
    assert (now.audio, now.tries, now.reference_id) == (touched, 2, job().reference_id)
    for state in (S.DONE, S.FAILED, S.RENDERING, S.CANCELLED):
        made = world(job(state=state))
        replaced(made, "s1.wav", touched)
        assert list(made.book.jobs) == [1]
        assert newest(made).state is state


@pytest.mark.parametrize("state", [S.RENDERING, S.RENDERED])
def test_what_is_paid_for_is_finished_aside_and_the_new_content_is_the_next_version(state: JobState) -> None:
    made = world(job(state=state, request_id="r"))
    replaced(made, "s1.wav", NEW)
    assert made.book.jobs[1].is_superseded
    assert (newest(made).id, newest(made).audio, newest(made).state) == (2, NEW, S.QUEUED)


def test_after_a_doubt_the_old_content_stays_doubtful_for_ever() -> None:
    made = world(job(state=S.DOUBTFUL, sent_at=5))
    replaced(made, "s1.wav", NEW)
    assert made.book.jobs[1].state is S.SUPERSEDED
    assert newest(made).id == 2


@pytest.mark.parametrize("state", [S.FAILED, S.CANCELLED])
def test_new_content_clears_a_failure_in_its_row_if_nothing_was_ever_sent(state: JobState) -> None:
    made = world(job(state=state, code="no_sound"))
    replaced(made, "s1.wav", NEW)
    now = newest(made)
    assert (now.id, now.state, now.audio, now.code) == (1, S.QUEUED, NEW, None)


@pytest.mark.parametrize("state", [S.FAILED, S.CANCELLED])
def test_the_row_of_a_paid_run_stays_its_record_when_new_content_comes(state: JobState) -> None:
    """Else the old content, back again, would be paid for under the very same reference."""
    made = world(job(state=state, sent_at=5, request_id="r", code="remote_failed"))
    replaced(made, "s1.wav", NEW)
    assert (made.book.jobs[1].request_id, newest(made).id) == ("r", 2)
    replaced(made, "s1.wav", job().audio)
    assert newest(made).reference_id == job().reference_id  # and its twin says what became of it


# -- removed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [S.QUEUED, S.FAILED])
def test_removed_before_the_upload_it_is_cancelled_silently(state: JobState) -> None:
    made = world(job(state=state))
    vanished(made, "s1.wav")
    assert (newest(made).state, newest(made).code) == (S.CANCELLED, SOURCE_GONE)


@pytest.mark.parametrize("state", [S.RENDERING, S.RENDERED, S.DOUBTFUL, S.DONE])
def test_removed_after_it_was_sent_it_is_finished(state: JobState) -> None:
    made = world(job(state=state, request_id="r"))
    vanished(made, "s1.wav")
    assert newest(made).state is state


def test_removed_during_the_upload_it_is_cancelled_unless_the_last_piece_may_be_out() -> None:
    for finishing_at, is_cancelling in ((None, True), (NOW, False)):
        made = world(job(state=S.SUBMITTING, sent_at=NOW, finishing_at=finishing_at))
        vanished(made, "s1.wav")
        assert (1 in made.cancelling) is is_cancelling


def test_back_again_it_is_queued_again_as_the_same_run() -> None:
    made = world(job(state=S.CANCELLED, code=SOURCE_GONE))
    made.folders["a"].offer("s1", NOW)
    tick(made)
    assert (newest(made).id, newest(made).state, newest(made).run_no) == (1, S.QUEUED, 1)


def test_back_again_a_run_that_was_paid_for_is_not_paid_for_again() -> None:
    made = world(job(state=S.CANCELLED, code=SOURCE_GONE, sent_at=5, request_id="r"))
    tick(made)
    made.checked.add(2)
    tick(made)
    assert (newest(made).id, newest(made).state, newest(made).request_id) == (2, S.RENDERING, "r")


def test_a_source_that_went_while_the_daemon_was_down_is_missed() -> None:
    """There never was a pair that could be seen to go: the job was queued for ever."""
    made = world(job(), job(2, key="s2", state=S.FAILED))
    made.folders["a"] = folder_with()
    made.running.clear()
    tick(made, sweep())
    assert {one.state for one in made.book.jobs.values()} == {S.CANCELLED}


def test_one_look_is_not_enough_to_miss_it_and_a_restless_source_is_awaited() -> None:
    made = world(job())
    made.folders["a"] = folder_with()
    made.folders["a"].is_scanned = False
    tick(made, sweep())
    assert newest(made).state is S.QUEUED
    tick(made, sweep(appeared=("s1.mp4",)))
    assert newest(made).state is S.QUEUED


# -- retry --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [S.FAILED, S.DOUBTFUL, S.CANCELLED])
def test_asked_for_again_it_is_a_new_run_of_the_same_row(state: JobState) -> None:
    made = world(job(state=state, sent_at=5, request_id="r", code="x", message="y"))
    assert "run 2" in intake.again(made, made.book.jobs[1], "why")
    now = newest(made)
    assert (now.id, now.state, now.run_no, now.sent_at, now.request_id, now.code) == (1, S.QUEUED, 2, None, None, None)
    assert now.reference_id != job().reference_id


def test_a_result_that_is_paid_for_is_fetched_again_and_not_made_again() -> None:
    made = world(job(state=S.FAILED, request_id="r", rendered_at=5, sent_at=1, code="cut"))
    intake.again(made, made.book.jobs[1], "why")
    assert (newest(made).state, newest(made).run_no, newest(made).request_id) == (S.RENDERED, 1, "r")


def test_a_row_that_was_asked_for_again_stays_the_record_of_its_runs_when_new_content_comes() -> None:
    """Life 20338: the old content came back, and its first run, which the service had forgotten, was paid once more."""
    made = world(job(state=S.DOUBTFUL, request_id="r", sent_at=NOW))
    made.pause = Pause()
    old = newest(made)
    intake.again(made, old, "its note was deleted")
    replaced(made, "s1.wav", NEW)
    assert [one.state for one in made.book.jobs.values()] == [S.CANCELLED, S.QUEUED]
    assert (newest(made).audio, newest(made).run_no) == (NEW, 1)
    replaced(made, "s1.wav", old.audio)
    assert (newest(made).audio, newest(made).run_no) == (old.audio, 2)


def test_done_it_is_run_again_as_a_new_row() -> None:
    made = world(job(state=S.DONE, output="s1.lipsync.mp4"))
    intake.again(made, made.book.jobs[1], "why")
    tick(made)
    assert (made.book.jobs[1].state, newest(made).id, newest(made).run_no) == (S.DONE, 2, 2)


@pytest.mark.parametrize("state", [S.DONE, S.FAILED])
def test_a_file_that_was_touched_meanwhile_does_not_strand_the_retry(state: JobState) -> None:
    """The job held the old signature, so its sources seemed to be checked for ever."""
    made = world(job(state=state))
    touched = replace(job().audio, signature=Signature(5_000, 99))
    replaced(made, "s1.wav", touched)
    intake.again(made, made.book.jobs[1], "why")
    tick(made)
    assert made.folders["a"].has(newest(made))


def test_an_older_row_is_not_retried_beside_a_newer_one() -> None:
    made = world(job(state=S.FAILED, is_superseded=True), job(2, audio=NEW))
    assert "job 2 is newer" in intake.again(made, made.book.jobs[1], "why")
    assert made.book.jobs[1].state is S.FAILED


def test_a_twin_in_the_queue_comes_along_to_the_run_that_is_asked_for() -> None:
    """Else nothing told that its own was paid for, and it was paid anew (simulated lives 34933 and 57224)."""
    paid = job(state=S.FAILED, sent_at=1, request_id="r", code="no_face", message="m")
    twin = replace(paid, id=2, key="s2", state=S.QUEUED, sent_at=None, request_id=None)
    other = job(3, "s3")
    made = world(paid, twin, other)
    intake.again(made, paid, "asked")
    assert made.book.jobs[1].run_no == made.book.jobs[2].run_no == 2
    assert made.book.jobs[2].reference_id == made.book.jobs[1].reference_id != paid.reference_id
    assert made.book.jobs[3] == other


def test_back_again_it_joins_the_newest_run_of_its_content() -> None:
    newer = job(1, state=S.RENDERING, run_no=2, sent_at=1, request_id="r")
    gone = replace(job(1), id=2, key="s2", state=S.CANCELLED, code="source_gone")
    made = world(newer, gone)
    made.folders["a"] = folder_with(
        newer, replace(gone, video=source("s2.mp4", "s1.mp4"), audio=source("s2.wav", "s1.wav"))
    )
    intake.take_in(made)
    assert (made.book.jobs[2].state, made.book.jobs[2].reference_id) == (S.QUEUED, newer.reference_id)


def test_two_pairs_of_one_content_that_are_retried_together_are_paid_for_once() -> None:
    first, second = job(1, state=S.FAILED), job(2, key="s2", state=S.FAILED, video=job().video, audio=job().audio)
    made = world(first, second)
    for one in (first, second):
        intake.again(made, one, "retry --failed")
    assert made.book.jobs[1].reference_id == made.book.jobs[2].reference_id
    assert made.book.jobs[1].run_no == 2


@pytest.mark.parametrize("state", [S.QUEUED, S.SUBMITTING, S.RENDERING, S.RENDERED])
def test_what_is_under_way_is_not_retried(state: JobState) -> None:
    made = world(job(state=state))
    assert "nothing to retry" in intake.again(made, made.book.jobs[1], "why")
    assert newest(made).state is state


# -- cancel -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [S.QUEUED, S.RENDERING, S.RENDERED, S.FAILED, S.DOUBTFUL])
def test_cancel(state: JobState) -> None:
    made = world(job(state=state))
    intake.cancel(made, made.book.jobs[1], intake.BY_REQUEST, "why")
    assert newest(made).state is S.CANCELLED
    tick(made)
    assert newest(made).state is S.CANCELLED


def test_cancelling_an_upload_is_written_down() -> None:
    made = world(job(state=S.SUBMITTING, sent_at=NOW))
    intake.cancel(made, made.book.jobs[1], intake.BY_REQUEST, "why")
    assert (newest(made).state, newest(made).code) == (S.SUBMITTING, intake.BY_REQUEST)
    assert 1 in made.changed


@pytest.mark.parametrize("state", [S.DONE, S.CANCELLED, S.SUPERSEDED])
def test_what_is_over_is_not_cancelled(state: JobState) -> None:
    made = world(job(state=state))
    assert "already" in intake.cancel(made, made.book.jobs[1], intake.BY_REQUEST, "why")


def test_new_content_that_came_during_a_doubt_is_queued_when_the_doubt_is_cancelled() -> None:
    made = world(job(state=S.SUBMITTING, sent_at=1, finishing_at=2, doubt_at=NOW))
    replaced(made, "s1.wav", NEW)
    intake.cancel(made, made.book.jobs[1], intake.BY_REQUEST, "why")
    tick(made)
    assert (made.book.jobs[1].state, newest(made).id, newest(made).audio) == (S.CANCELLED, 2, NEW)
