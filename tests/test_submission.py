"""What comes of an upload, and the look-ups that end a doubt: the rules that keep a pair from being paid for twice."""

from __future__ import annotations

from typing import Any

import pytest

from chamelaion_watch.core import submission
from chamelaion_watch.core.errors import (
    InputProblem,
    QuotaExhausted,
    Rejected,
    RootProblem,
    Throttled,
    Transient,
    Unauthorized,
    Unreachable,
    WatchError,
)
from chamelaion_watch.core.messages import (
    Failed,
    LeaveAsked,
    LookedUp,
    LookUp,
    Poll,
    Probe,
    ProbeAccount,
    Progress,
    StopAsked,
    Submit,
    SubmitFailed,
    Submitted,
)
from chamelaion_watch.core.model import Job, JobState, Request, RootState
from chamelaion_watch.core.polling import FIRST_GUESS_MS
from chamelaion_watch.core.submission import WITHDRAWN
from chamelaion_watch.core.world import World
from tests.builders import NOW, job, of, source, sweep, tick, world

S_ = 1_000
RESET = Transient("reset", code="connection_reset")


def sending(*others: Job) -> tuple[World, Submit]:
    made = world(job(), *others)
    (action,) = of(Submit, tick(made))
    assert made.book.jobs[1].state is JobState.SUBMITTING
    return made, action


def failed(made: World, action: Submit, error: WatchError, *, may_be_taken: bool = False) -> Job:
    tick(made, SubmitFailed(action, error, may_be_taken=may_be_taken))
    return made.book.jobs[1]


def look_ups(made: World, until_ms: int, *, found_at: int | None = None) -> list[int]:
    """Let time pass, answering each look-up with 404 or, from `found_at` on, with the request; when they were asked."""
    asked, now = [], made.now
    while now - NOW <= until_ms:
        for action in of(LookUp, tick(made, at=now)):
            asked.append(now - NOW)
            request = Request("req", "queued") if found_at is not None and now - NOW >= found_at else None
            tick(made, LookedUp(action, request), at=now)
        now += 500
    return asked


# -- the answer ---------------------------------------------------------------------------------------


def test_a_claim_is_marked_before_anything_is_sent() -> None:
    _, action = sending()
    assert (action.job.sent_at, action.decided_at) == (NOW, NOW)
    assert action.job.sent_until == NOW + submission.SEND_WINDOW_MS


def test_accepted_it_renders_and_counts_for_the_day() -> None:
    made, action = sending()
    tick(made, Submitted(action, "req-1"), at=NOW + S_)
    now = made.book.jobs[1]
    assert (now.state, now.request_id, now.accepted_at) == (JobState.RENDERING, "req-1", NOW + S_)
    assert now.next_at == NOW + S_ + FIRST_GUESS_MS
    assert (now.sent_until, now.finishing_at, now.doubt_at) == (None, None, None)
    assert now.sent_at == NOW  # no other row of this run may ever be sent
    assert made.accepted_today() == 1


def test_an_answer_that_nobody_waits_for_is_said_and_changes_nothing() -> None:
    made, action = sending()
    made.change(made.book.jobs[1], state=JobState.CANCELLED)
    tick(made, Submitted(action, "req-1"))
    assert made.book.jobs[1].state is JobState.CANCELLED
    assert any(line.kind == "late" for line in made.said)


@pytest.mark.parametrize(
    "error", [Throttled("429"), QuotaExhausted("412"), Unauthorized("401"), Throttled("429", retry_after_s=30)]
)
@pytest.mark.parametrize("may_be_taken", [False, True])
def test_a_refusal_of_the_account_is_certainly_not_taken_and_costs_no_try(
    error: WatchError, may_be_taken: bool
) -> None:
    made, action = sending()
    now = failed(made, action, error, may_be_taken=may_be_taken)
    assert (now.state, now.tries, now.sent_at, now.finishing_at) == (JobState.QUEUED, 0, None, None)
    assert made.gate.canary is None
    assert not made.gate.is_open


def test_the_account_is_not_what_doubt_is_about() -> None:
    """The body is out and a proxy's page comes back: the service may have it."""
    made, action = sending()
    now = failed(made, action, Unreachable("a captive portal"), may_be_taken=True)
    assert (now.state, now.doubt_at) == (JobState.SUBMITTING, NOW)


def test_threat_59_rejected_it_fails_and_leaves_no_mark_of_having_been_sent() -> None:
    made, action = sending()
    now = failed(made, action, Rejected("video file is required", http_status=400))
    assert (now.state, now.code, now.http_status, now.sent_at) == (JobState.FAILED, "rejected", 400, None)


@pytest.mark.parametrize("error", [RESET, Transient("stalled", code="stalled"), WatchError("a bug")])
def test_threat_60_what_broke_before_the_last_piece_is_tried_again_and_then_fails(error: WatchError) -> None:
    made, action = sending()
    for tries in range(1, submission.MAX_TRIES):
        now = failed(made, action, error)
        assert (now.state, now.tries, now.sent_at) == (JobState.QUEUED, tries, None)
        assert now.next_at is not None
        assert now.next_at > made.now
        made.checked.add(1)
        made.running.clear()  # scans and probes that nobody answers here
        made.now = now.next_at
        (action,) = of(Submit, tick(made))
        assert action.job.reference_id == now.reference_id
    now = failed(made, action, error)
    assert (now.state, now.sent_at) == (JobState.FAILED, None)


def test_threat_60_a_503_that_names_a_time_is_taken_at_its_word_by_everybody() -> None:
    made, action = sending(job(2, key="s2"))
    failed(made, action, Transient("503", http_status=503, retry_after_s=120.0))
    requests = (Submit, LookUp, Poll, ProbeAccount)
    assert not any(isinstance(action, requests) for action in tick(made, at=NOW + 119 * S_))
    assert of(ProbeAccount, tick(made, at=NOW + 120 * S_))


def test_waits_grow_and_are_spread() -> None:
    waits = [submission.retry_wait(tries, 0.0) for tries in range(1, 9)]
    assert waits == [10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 600_000, 600_000]
    assert submission.retry_wait(1, 0.5) == 15_000


def test_threat_17_a_source_that_cannot_be_read_is_not_tried_for_ever() -> None:
    """A bad sector behind gigabytes: each try costs them all again."""
    made, action = sending()
    error = InputProblem("s1.mp4: cannot be read: Input/output error", code="input_unreadable")
    for tries in range(1, submission.MAX_TRIES):
        now = failed(made, action, error)
        assert (now.state, now.tries, now.sent_at) == (JobState.QUEUED, tries, None)
        assert made.folders["a"].files["s1.mp4"].source is None
        made.folders["a"] = world(job()).folders["a"]  # it settled again
        made.checked.add(1)
        made.running.clear()
        made.now = now.next_at or 0
        (action,) = of(Submit, tick(made))
    now = failed(made, action, error)
    assert (now.state, now.code) == (JobState.FAILED, "input_unreadable")


def test_a_source_that_changed_is_looked_at_again_and_costs_no_try() -> None:
    made, action = sending()
    now = failed(made, action, InputProblem("s1.mp4 changed"))
    assert (now.state, now.tries, now.sent_at) == (JobState.QUEUED, 0, None)
    assert made.folders["a"].files["s1.mp4"].source is None


def test_a_share_that_went_away_is_frozen_and_the_job_waits() -> None:
    made, action = sending()
    now = failed(made, action, RootProblem("gone", root_state=RootState.NOT_MOUNTED))
    assert now.state is JobState.QUEUED
    assert made.folders["a"].state is RootState.NOT_MOUNTED


def test_a_withdrawn_upload_blames_no_source() -> None:
    made, action = sending()
    failed(made, action, InputProblem("the daemon is stopping", code=WITHDRAWN))
    assert made.folders["a"].files["s1.mp4"].source is not None


# -- leave to finish ----------------------------------------------------------------------------------


def test_leave_is_written_down_when_it_is_given() -> None:
    made, _ = sending()
    tick(made, LeaveAsked(1), at=NOW + 9 * S_)
    now = made.book.jobs[1]
    assert now.finishing_at == NOW + 9 * S_
    assert made.leave == {1: NOW + 9 * S_ + submission.SEND_WINDOW_MS}
    assert 1 in made.changed


def test_leave_is_denied_to_what_is_no_longer_wanted() -> None:
    for spoil in ("stop", "cancel", "changed", "gone"):
        made, _ = sending()
        if spoil == "stop":
            tick(made, StopAsked("SIGTERM"))
        elif spoil == "cancel":
            made.cancelling[1] = "by_request"
        elif spoil == "changed":
            made.denied[1] = "its source changed"
        else:
            made.change(made.book.jobs[1], state=JobState.CANCELLED)
        tick(made, LeaveAsked(1))
        assert (made.leave, 1 in made.denied or 1 in made.cancelling) == ({}, True)
        assert made.book.jobs[1].finishing_at is None


def test_bytes_that_move_extend_the_promise_and_nothing_else_does() -> None:
    made, _ = sending()
    tick(made, Progress(1, 5, 10), at=NOW + 20 * S_)
    assert made.book.jobs[1].sent_until == NOW + submission.SEND_WINDOW_MS
    tick(made, Progress(1, 6, 10), at=NOW + 45 * S_)
    assert made.book.jobs[1].sent_until == NOW + 45 * S_ + submission.SEND_WINDOW_MS
    assert made.progress[1] == (6, 10)


# -- doubt --------------------------------------------------------------------------------------------


def test_threat_47_48_a_doubt_is_looked_up_at_0_2_5_15_30_and_then_each_30_seconds_until_the_grace_is_over() -> None:
    made, action = sending()
    failed(made, action, RESET, may_be_taken=True)
    asked = look_ups(made, 200 * S_)
    # The first went out in the tick of the failure; it is answered by none here, so the row starts anew.
    assert asked == []
    made, action = sending()
    (first,) = of(LookUp, tick(made, SubmitFailed(action, RESET, may_be_taken=True)))
    tick(made, LookedUp(first, None))
    assert look_ups(made, 125 * S_) == [2_000, 5_000, 15_000, 30_000, 60_000, 90_000, 120_000]
    now = made.book.jobs[1]
    assert (now.state, now.tries, now.sent_at, now.doubt_at) == (JobState.QUEUED, 1, None, None)


def test_threat_47_nothing_is_sent_while_in_doubt() -> None:
    made, action = sending()
    failed(made, action, RESET, may_be_taken=True)
    for seconds in range(0, 119, 7):
        assert of(Submit, tick(made, at=NOW + seconds * S_)) == []


def test_threat_47_a_hit_ends_the_doubt_at_once_and_is_polled_at_once() -> None:
    made, action = sending()
    (first,) = of(LookUp, tick(made, SubmitFailed(action, RESET, may_be_taken=True)))
    tick(made, LookedUp(first, None))
    assert look_ups(made, 40 * S_, found_at=15 * S_) == [2_000, 5_000, 15_000]
    now = made.book.jobs[1]
    assert (now.state, now.request_id, now.doubt_at) == (JobState.RENDERING, "req", None)
    assert made.accepted_today() == 1


def test_threat_48_a_404_just_before_the_grace_is_over_is_not_believed() -> None:
    made, action = sending()
    (look_up,) = of(LookUp, tick(made, SubmitFailed(action, RESET, may_be_taken=True)))
    tick(made, LookedUp(look_up, None), at=NOW + 2 * S_)
    tick(made, LookedUp(look_up, None), at=NOW + made.policy.lookup_grace_ms - 1)
    assert made.book.of(JobState.SUBMITTING)
    tick(made, LookedUp(look_up, None), at=NOW + made.policy.lookup_grace_ms)
    assert made.book.of(JobState.QUEUED)


def test_threat_48_the_only_404_is_not_believed_however_late_it_comes() -> None:
    """Every look-up of the grace failed, and then a server that is unwell says 404 once: that paid twice."""
    made, action = sending()
    (look_up,) = of(LookUp, tick(made, SubmitFailed(action, RESET, may_be_taken=True)))
    tick(made, LookedUp(look_up, None), at=NOW + 600 * S_)
    assert made.book.of(JobState.SUBMITTING)
    (look_up,) = of(LookUp, tick(made, at=NOW + 602 * S_))
    tick(made, LookedUp(look_up, None), at=NOW + 602 * S_)
    assert made.book.of(JobState.QUEUED)


def test_an_answer_about_an_earlier_run_is_not_listened_to() -> None:
    made, action = sending()
    (look_up,) = of(LookUp, tick(made, SubmitFailed(action, RESET, may_be_taken=True)))
    made.change(made.book.jobs[1], reference_id="cw-of-another-run")
    tick(made, LookedUp(look_up, Request("req", "queued")))
    assert made.book.jobs[1].state is JobState.SUBMITTING


def test_a_look_up_that_fails_is_repeated_however_long_it_takes() -> None:
    made, action = sending()
    (look_up,) = of(LookUp, tick(made, SubmitFailed(action, RESET, may_be_taken=True)))
    tick(made, Failed(look_up, RESET), at=NOW + 600 * S_)
    assert made.book.jobs[1].state is JobState.SUBMITTING
    assert of(LookUp, tick(made, at=NOW + 620 * S_))


def test_a_denial_from_the_time_of_doubt_does_not_spoil_the_next_upload() -> None:
    """The source changed while its upload was in doubt: the whole of the next upload was thrown away for it."""
    made, action = sending()
    (look_up,) = of(LookUp, tick(made, SubmitFailed(action, RESET, may_be_taken=True)))
    made.denied[1] = "its source changed"
    tick(made, LookedUp(look_up, None), at=NOW + 2 * S_)
    tick(made, LookedUp(look_up, None), at=NOW + 200 * S_)
    assert made.denied == {}


# -- a ledger that is new -----------------------------------------------------------------------------


def test_what_an_older_ledger_may_have_paid_for_is_asked_for_first() -> None:
    made = world(job(must_look_up=True))
    (look_up,) = (actions := tick(made))
    assert isinstance(look_up, LookUp)
    assert of(Submit, actions) == []
    tick(made, LookedUp(look_up, Request("old", "completed")))
    assert (made.book.jobs[1].state, made.book.jobs[1].request_id) == (JobState.RENDERING, "old")


def test_what_it_does_not_know_may_go() -> None:
    made = world(job(must_look_up=True))
    (look_up,) = tick(made)
    assert isinstance(look_up, LookUp)
    assert of(Submit, tick(made, LookedUp(look_up, None)))


# -- after a crash ------------------------------------------------------------------------------------


def recovered(**changes: Any) -> tuple[World, Job]:
    before = job(state=JobState.SUBMITTING, sent_at=NOW - 9 * S_, sent_until=NOW, **changes)
    made = world(before)
    submission.recovered(made, before)
    return made, made.book.jobs[1]


def test_threat_01_what_cannot_have_been_whole_goes_back_to_the_queue() -> None:
    _, now = recovered(tries=3)
    assert (now.state, now.sent_at, now.tries) == (JobState.QUEUED, None, 4)


def test_threat_10_a_pair_in_whose_upload_the_daemon_ends_again_and_again_is_set_aside() -> None:
    made, now = recovered(tries=submission.MAX_TRIES - 1)
    assert (now.state, now.code, now.sent_at) == (JobState.FAILED, "poisonous", None)
    assert of(Submit, tick(made)) == []


def test_threat_02_what_may_have_been_whole_is_in_doubt_from_the_restart_on() -> None:
    made, now = recovered(finishing_at=NOW - 5 * S_, doubt_at=NOW - 4 * S_)
    assert (now.state, now.doubt_at) == (JobState.SUBMITTING, NOW)
    assert of(LookUp, tick(made))


@pytest.mark.parametrize("finishing_at", [None, NOW - 5])
def test_a_crash_does_not_forget_that_it_was_cancelled(finishing_at: int | None) -> None:
    made, now = recovered(code="by_request", finishing_at=finishing_at)
    if finishing_at is not None:
        (look_up,) = of(LookUp, tick(made))
        tick(made, LookedUp(look_up, Request("req", "queued")))
        now = made.book.jobs[1]
    assert (now.state, now.code) == (JobState.CANCELLED, "by_request")


# -- cancelled while it is sent -----------------------------------------------------------------------


def test_cancelled_in_mid_upload_it_is_cancelled_when_the_upload_has_stopped() -> None:
    made, action = sending()
    made.cancelling[1] = "by_request"
    now = failed(made, action, InputProblem("stopped", code=WITHDRAWN))
    assert (now.state, now.code, now.sent_at) == (JobState.CANCELLED, "by_request", None)
    assert made.cancelling == {}


def test_cancelled_too_late_it_is_not_delivered() -> None:
    made, action = sending()
    made.cancelling[1] = "by_request"
    tick(made, Submitted(action, "req"))
    assert (made.book.jobs[1].state, made.book.jobs[1].request_id) == (JobState.CANCELLED, "req")


def test_cancelled_and_in_doubt_it_is_cancelled_when_the_doubt_is_over() -> None:
    made, action = sending()
    made.cancelling[1] = "by_request"
    (look_up,) = of(LookUp, tick(made, SubmitFailed(action, RESET, may_be_taken=True)))
    tick(made, LookedUp(look_up, None), at=NOW + 2 * S_)
    tick(made, LookedUp(look_up, None), at=NOW + 300 * S_)
    assert made.book.jobs[1].state is JobState.CANCELLED


def test_new_content_during_a_doubt_is_queued_when_the_doubt_is_over() -> None:
    """It stayed without a job where the upload had been cancelled (simulated life 38314)."""
    made, action = sending()
    made.cancelling[1] = "by_request"
    (look_up,) = of(LookUp, tick(made, SubmitFailed(action, RESET, may_be_taken=True)))
    changed = source("s1.wav", "new", mtime_ns=7)
    made.folders["a"].files["s1.wav"].source = changed
    made.folders["a"].offer("s1", NOW)
    tick(made, LookedUp(look_up, None), at=NOW + 2 * S_)
    tick(made, LookedUp(look_up, None), at=NOW + 300 * S_)
    tick(made)
    assert [(one.state, one.audio) for one in made.book.of(JobState.CANCELLED, JobState.QUEUED)] == [
        (JobState.CANCELLED, action.job.audio),
        (JobState.QUEUED, changed),
    ]


def test_new_content_during_an_upload_that_is_refused_for_good_is_queued() -> None:
    made, action = sending()
    changed = source("s1.wav", "new", mtime_ns=7)
    made.folders["a"].files["s1.wav"].source = changed
    made.folders["a"].offer("s1", NOW)
    tick(made)
    now = failed(made, action, Rejected("no face", code="no_face"))
    assert (now.state, now.audio) == (JobState.QUEUED, changed)


def test_new_content_during_the_upload_is_what_is_sent_next() -> None:
    made, action = sending()
    folder = made.folders["a"]
    changed = source("s1.wav", "new", mtime_ns=7)
    folder.files["s1.wav"].source = changed
    folder.offer("s1", NOW)
    tick(made)
    assert made.denied == {1: "its source changed"}
    now = failed(made, action, InputProblem("stopped", code=WITHDRAWN))
    assert (now.state, now.audio) == (JobState.QUEUED, changed)
    assert now.reference_id != action.job.reference_id
    assert of(Probe, tick(made, sweep())) or made.is_running(Probe, 1)
