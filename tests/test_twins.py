"""The same content under several names: one row pays, the others follow."""

from __future__ import annotations

from typing import Any

import pytest

from chamelaion_watch.core import twins
from chamelaion_watch.core.messages import Deliver, LocalCopy, Submit
from chamelaion_watch.core.model import Job, JobState, RootState
from tests.builders import job, of, sha, tick, world

S = JobState


def twin(job_id: int = 2, key: str = "s2", **changes: Any) -> Job:
    """Another row that stands for the run of job 1."""
    return job(job_id, key, reference_id=job().reference_id, **changes)


def test_of_two_that_are_queued_the_older_is_sent_and_the_other_waits() -> None:
    made = world(job(), twin())
    assert [action.job.id for action in of(Submit, tick(made))] == [1]
    assert twins.active(made, made.book.jobs[2]) is made.book.jobs[1]


@pytest.mark.parametrize("state", [S.SUBMITTING, S.RENDERING])
def test_it_waits_for_the_row_that_pays(state: JobState) -> None:
    made = world(job(state=state, sent_at=1, request_id="r"), twin())
    assert of(Submit, tick(made)) == []


def test_what_is_done_is_taken_with_the_copy_that_lies_there() -> None:
    done = job(state=S.DONE, sent_at=1, request_id="r", output="s1.lipsync.mp4", output_sha256=sha("o"), output_bytes=7)
    made = world(done, twin())
    (deliver,) = of(Deliver, tick(made))
    assert (deliver.job.id, deliver.job.request_id) == (2, "r")
    assert deliver.copies == (LocalCopy("a", "s1.lipsync.mp4", sha("o"), 7),)


def test_a_result_that_newer_content_overtook_is_taken_too() -> None:
    """Old content, put back: its row was superseded, could not be sent again, and so was tried for ever."""
    made = world(job(state=S.SUPERSEDED, sent_at=1, request_id="r", rendered_at=2), twin())
    tick(made)
    assert (made.book.jobs[2].state, made.book.jobs[2].request_id) == (S.RENDERED, "r")


def test_what_was_cancelled_after_it_was_paid_for_is_adopted() -> None:
    made = world(job(state=S.CANCELLED, sent_at=1, request_id="r"), twin())
    assert of(Submit, tick(made)) == []
    assert (made.book.jobs[2].state, made.book.jobs[2].request_id) == (S.RENDERING, "r")


@pytest.mark.parametrize("state", [S.CANCELLED, S.SUPERSEDED, S.DOUBTFUL])
def test_what_may_have_been_taken_is_not_sent_under_another_name(state: JobState) -> None:
    made = world(job(state=state, sent_at=1), twin())
    assert of(Submit, tick(made)) == []
    assert (made.book.jobs[2].state, made.book.jobs[2].code) == (S.DOUBTFUL, "doubtful")


def test_the_service_does_not_judge_the_same_content_twice() -> None:
    made = world(job(state=S.FAILED, sent_at=1, request_id="r", code="no_face", message="no face"), twin())
    tick(made)
    assert (made.book.jobs[2].state, made.book.jobs[2].code) == (S.FAILED, "no_face")


def test_what_we_judged_ourselves_or_never_sent_says_nothing() -> None:
    for before in (job(state=S.FAILED, code="no_sound"), job(state=S.CANCELLED, code="by_request")):
        made = world(before, twin())
        assert [action.job.id for action in of(Submit, tick(made))] == [2]


@pytest.mark.parametrize("spoil", ["unwell", "no folder", "paused", "no sources", "other run"])
def test_one_that_cannot_go_holds_nobody_up(spoil: str) -> None:
    first = job(root="b") if spoil in ("unwell", "no folder", "paused") else job()
    made = world(first, twin())
    made.folders["b"] = world(first).folders["a"]
    if spoil == "unwell":
        made.folders["b"].state = RootState.MISSING
    elif spoil == "no folder":
        del made.folders["b"]
    elif spoil == "paused":
        made.folders["b"].is_paused = True
    elif spoil == "no sources":
        made.folders["a"].files["s1.wav"].source = None
    else:
        made.only = {("a", "s2")}
    assert [action.job.id for action in of(Submit, tick(made))] == [2]


def test_a_result_whose_own_folder_cannot_take_it_is_fetched_for_the_other() -> None:
    made = world(job(state=S.RENDERED, root="gone", sent_at=1, request_id="r", rendered_at=2), twin())
    (deliver,) = of(Deliver, tick(made))
    assert (deliver.job.id, deliver.job.request_id) == (2, "r")
