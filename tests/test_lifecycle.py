"""The life of a job: every cell of the table, and that there is no other way to a state."""

from __future__ import annotations

import itertools

import pytest

from chamelaion_watch.core import lifecycle
from chamelaion_watch.core.lifecycle import IllegalTransition, Step, advance, may
from chamelaion_watch.core.model import JobState
from tests.builders import NOW, job

S = JobState
TABLE = {
    (S.QUEUED, Step.CLAIM): S.SUBMITTING,
    (S.QUEUED, Step.ACCEPT): S.RENDERING,
    (S.QUEUED, Step.COMPLETE): S.RENDERED,
    (S.QUEUED, Step.FAIL): S.FAILED,
    (S.QUEUED, Step.LOSE): S.DOUBTFUL,
    (S.QUEUED, Step.CANCEL): S.CANCELLED,
    (S.SUBMITTING, Step.RELEASE): S.QUEUED,
    (S.SUBMITTING, Step.ACCEPT): S.RENDERING,
    (S.SUBMITTING, Step.FAIL): S.FAILED,
    (S.SUBMITTING, Step.LOSE): S.DOUBTFUL,
    (S.SUBMITTING, Step.CANCEL): S.CANCELLED,
    (S.RENDERING, Step.COMPLETE): S.RENDERED,
    (S.RENDERING, Step.FAIL): S.FAILED,
    (S.RENDERING, Step.LOSE): S.DOUBTFUL,
    (S.RENDERING, Step.CANCEL): S.CANCELLED,
    (S.RENDERED, Step.DELIVER): S.DONE,
    (S.RENDERED, Step.SUPERSEDE): S.SUPERSEDED,
    (S.RENDERED, Step.FAIL): S.FAILED,
    (S.RENDERED, Step.LOSE): S.DOUBTFUL,
    (S.RENDERED, Step.CANCEL): S.CANCELLED,
    (S.FAILED, Step.AGAIN): S.QUEUED,
    (S.FAILED, Step.REDELIVER): S.RENDERED,
    (S.FAILED, Step.CANCEL): S.CANCELLED,
    (S.DOUBTFUL, Step.AGAIN): S.QUEUED,
    (S.DOUBTFUL, Step.ACCEPT): S.RENDERING,
    (S.DOUBTFUL, Step.CANCEL): S.CANCELLED,
    (S.DOUBTFUL, Step.SUPERSEDE): S.SUPERSEDED,
    (S.CANCELLED, Step.AGAIN): S.QUEUED,
}


@pytest.mark.parametrize(("state", "step"), list(itertools.product(JobState, Step)))
def test_every_cell_of_the_table(state: JobState, step: Step) -> None:
    before = job(state=state, tries=4, next_at=NOW)
    after = TABLE.get((state, step))
    assert may(before, step) is (after is not None)
    if after is None:
        with pytest.raises(IllegalTransition, match=f"job 1: no {step} from {state}"):
            advance(before, step, NOW)
        return
    moved = advance(before, step, NOW + 5, message="why")
    assert (moved.state, moved.changed_at, moved.tries, moved.next_at) == (after, NOW + 5, 0, None)
    assert (moved.message, moved.reference_id) == ("why", before.reference_id)


def test_what_is_done_is_never_moved_again() -> None:
    assert lifecycle.TRANSITIONS[S.DONE] == lifecycle.TRANSITIONS[S.SUPERSEDED] == {}


def test_a_submission_is_left_only_by_an_answer_a_look_up_or_a_person() -> None:
    assert set(lifecycle.TRANSITIONS[S.SUBMITTING]) == {
        Step.RELEASE,
        Step.ACCEPT,
        Step.FAIL,
        Step.LOSE,
        Step.CANCEL,
    }


def test_every_state_that_is_not_final_is_left_by_some_step() -> None:
    for state in set(JobState) - {S.DONE, S.SUPERSEDED}:
        assert lifecycle.TRANSITIONS[state]


def test_not_asked_takes_back_all_that_a_submission_wrote() -> None:
    sent = job(
        state=S.FAILED,
        sent_at=1,
        sent_until=2,
        finishing_at=3,
        doubt_at=4,
        request_id="r",
        accepted_at=5,
        rendered_at=6,
    )
    clean = advance(sent, Step.AGAIN, NOW, **lifecycle.NOT_ASKED)
    assert clean == job(state=S.QUEUED)
