"""The life of a job: one table, and the only place that assigns a state.

    queued ─claim▶ submitting ─accept▶ rendering ─complete▶ rendered ─deliver▶ done
       ◀─release──┘    (any but done) ─fail▶ failed ─again▶ queued, or rendered if the result is paid for

`submitting` is written before the first byte leaves and is left only by an answer or by a look-up of our
`reference_id`. After a crash every state is simply planned again from the row: see each state's line below.
"""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import Any

from chamelaion_watch.core.model import Job, JobState, Millis

S = JobState


class Step(enum.StrEnum):
    """What happened to a job."""

    CLAIM = "claim"  # we are about to submit it
    RELEASE = "release"  # certainly not taken by the service
    ACCEPT = "accept"  # the service has it: by its answer, or found by reference_id
    COMPLETE = "complete"  # the service says completed
    DELIVER = "deliver"  # the output is in its place, durably
    FAIL = "fail"  # permanent for this run
    LOSE = "lose"  # a paid submission may exist, and nothing can tell
    CANCEL = "cancel"  # by a person, or its source went before the upload
    SUPERSEDE = "supersede"  # delivered aside, for newer content took its place
    AGAIN = "again"  # a person asks again, or the input changed
    REDELIVER = "redeliver"  # a person asks again for a result that is already paid for


TRANSITIONS: dict[JobState, dict[Step, JobState]] = {
    # The planner moves it on when the gate, a slot and the pre-flight allow. A crash changes nothing.
    S.QUEUED: {
        Step.CLAIM: S.SUBMITTING,
        Step.ACCEPT: S.RENDERING,
        Step.COMPLETE: S.RENDERED,
        Step.FAIL: S.FAILED,
        Step.LOSE: S.DOUBTFUL,
        Step.CANCEL: S.CANCELLED,
    },
    # The uploading thread's report moves it on. After a crash: released if `finishing_at` is not set, else looked up.
    S.SUBMITTING: {
        Step.RELEASE: S.QUEUED,
        Step.ACCEPT: S.RENDERING,
        Step.FAIL: S.FAILED,
        Step.LOSE: S.DOUBTFUL,
        Step.CANCEL: S.CANCELLED,
    },
    # Polls move it on, for as long as the service says neither completed nor failed. After a crash: polled again.
    S.RENDERING: {
        Step.COMPLETE: S.RENDERED,
        Step.FAIL: S.FAILED,
        Step.LOSE: S.DOUBTFUL,
        Step.CANCEL: S.CANCELLED,
    },
    # The delivery moves it on; it is paid: a folder that cannot take it only delays it. After a crash: once more.
    S.RENDERED: {
        Step.DELIVER: S.DONE,
        Step.SUPERSEDE: S.SUPERSEDED,
        Step.FAIL: S.FAILED,
        Step.LOSE: S.DOUBTFUL,
        Step.CANCEL: S.CANCELLED,
    },
    # Only a person moves it on: the note deleted, a source replaced, `retry`.
    S.FAILED: {
        Step.AGAIN: S.QUEUED,
        Step.REDELIVER: S.RENDERED,
        Step.CANCEL: S.CANCELLED,
    },
    # Only a person moves it on: it is never sent again by itself.
    S.DOUBTFUL: {
        Step.AGAIN: S.QUEUED,
        Step.ACCEPT: S.RENDERING,
        Step.CANCEL: S.CANCELLED,
        Step.SUPERSEDE: S.SUPERSEDED,
    },
    S.CANCELLED: {Step.AGAIN: S.QUEUED},
    S.DONE: {},  # asked for once more, the pair gets a new row: this one stays the record of its output
    S.SUPERSEDED: {},
}

FINAL = frozenset({S.DONE, S.SUPERSEDED, S.CANCELLED})
NEEDS_A_PERSON = frozenset({S.FAILED, S.DOUBTFUL})
PAID = frozenset({S.RENDERING, S.RENDERED})

SOURCE_GONE = "source_gone"  # code of a job that was cancelled as its source went: the pair may come back


class IllegalTransition(Exception):
    """A bug: the table has no such step from this state."""


def may(job: Job, step: Step) -> bool:
    """Say whether the table has this step from the job's state."""
    return step in TRANSITIONS[job.state]


def is_over(job: Job) -> bool:
    """Say whether a ready pair of the job's content asks for nothing: its files need no watching, but for a change."""
    return job.state in (S.DONE, S.SUPERSEDED) or (job.state is S.CANCELLED and job.code != SOURCE_GONE)


def advance(job: Job, step: Step, now: Millis, **changes: Any) -> Job:
    """Return the job after `step`, with other fields changed on the way; raises IllegalTransition."""
    try:
        state = TRANSITIONS[job.state][step]
    except KeyError:
        raise IllegalTransition(f"job {job.id}: no {step} from {job.state}") from None
    moved: dict[str, Any] = {"state": state, "changed_at": now, "tries": 0, "next_at": None}
    return replace(job, **(moved | changes))


NOT_SENT: dict[str, Any] = {"sent_at": None, "sent_until": None, "finishing_at": None, "doubt_at": None}
NOT_ASKED: dict[str, Any] = NOT_SENT | {
    "request_id": None,
    "request_status": None,
    "accepted_at": None,
    "rendered_at": None,
}
NO_TROUBLE: dict[str, Any] = {"code": None, "message": None, "http_status": None}
