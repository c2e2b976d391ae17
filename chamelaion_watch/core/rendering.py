"""What polls mean. A paid job is never given up because it is slow; an unknown word means still in progress."""

from __future__ import annotations

from chamelaion_watch.core import gate, polling
from chamelaion_watch.core.errors import AccountProblem, Transient, WatchError
from chamelaion_watch.core.lifecycle import Step
from chamelaion_watch.core.messages import Polled
from chamelaion_watch.core.model import Job, JobState, Request, RequestStatus
from chamelaion_watch.core.remote_errors import remote_code
from chamelaion_watch.core.submission import count_failure
from chamelaion_watch.core.world import World

SLOW_MS = 600_000  # "queued" for longer is said, not failed: busy periods take more than 10 min (vendor's guide)


def polled(world: World, event: Polled) -> None:
    """Take in a round of answers."""
    asked = dict(event.action.requests)
    for job_id, request in event.answers.items():
        job = world.job(job_id, JobState.RENDERING)
        if job is not None and job.request_id == asked[job_id]:  # else the answer is about an earlier run of it
            _answer(world, job, request)
    if event.answers:
        world.gate = gate.answered(world.gate)
    if event.error is not None:
        request_failed(world, event.error)
    finished = sum(
        answer is not None and (answer.is_completed or answer.is_failed) for answer in event.answers.values()
    )
    world.pace.asked(world.now, finished, event.calls)
    unanswered = [job_id for job_id in event.action.singly if job_id not in event.answers]
    for job_id in unanswered[1:] + unanswered[:1]:  # who stopped the round is asked last in the next
        if job := world.job(job_id, JobState.RENDERING):
            _ask_later(world, job)


def request_failed(world: World, error: WatchError) -> None:
    """A poll or a look-up failed: that may be everybody's business."""
    match error:
        case AccountProblem():
            world.gate = gate.refused(world.gate, error, world.now, chance=world.chance, policy=world.policy)
        case Transient() if error.http_status is not None:
            world.gate = count_failure(world, error)
        case _:
            pass


def slowness(job: Job, now: int) -> str | None:
    """Say in words that a request takes long, or None."""
    since = job.accepted_at or job.changed_at
    if now - since > polling.OLD_MS:
        return f"stuck? rendering for {(now - since) // 3_600_000} h; ask the service about request {job.request_id}"
    if job.request_status == RequestStatus.QUEUED and now - since > SLOW_MS:
        return f"in the service's queue for {(now - since) // 60_000} min; busy periods take longer"
    return None


def _answer(world: World, job: Job, request: Request | None) -> None:
    if request is not None and request.reference_id not in (None, job.reference_id):
        world.say("odd", f"job {job.id}: request {request.id} is of another pair: looked up anew", job=job)
        request = None
    if request is None:
        # The next question goes by reference_id; only a 404 to that, for the whole grace, makes it doubtful.
        world.change(job, doubt_at=job.doubt_at or world.now, next_at=world.now + 1000)
    elif request.is_completed:
        took_ms = world.now - (job.accepted_at or world.now) if request.took_ms is None else request.took_ms
        world.pace.finished(took_ms, world.video_ms.get(job.id))
        world.attempt(job, "render", "completed", f"request {request.id} is completed")
        world.step(job, Step.COMPLETE, rendered_at=world.now, request_status=request.status, doubt_at=None)
    elif request.is_failed:
        message = request.error_message or "the service gives no reason"
        world.attempt(job, "render", "remote_failed", message)
        world.step(job, Step.FAIL, code=remote_code(message), message=message, request_status=request.status)
    else:
        _still_running(world, job, request)


def _still_running(world: World, job: Job, request: Request) -> None:
    if request.status != job.request_status and request.status not in set(RequestStatus):
        world.say("odd", f"job {job.id}: unknown status {request.status[:40]!r}, taken as in progress", job=job)
    if (job.request_status, request.status) == (RequestStatus.PROCESSING, RequestStatus.QUEUED):
        world.say("odd", f"job {job.id}: went back from processing to queued", job=job)
    if (request.status, None) != (job.request_status, job.doubt_at):
        job = world.change(job, request_status=request.status, doubt_at=None)
    if polling.is_due(world, job):
        _ask_later(world, job)


def _ask_later(world: World, job: Job) -> None:
    world.change(job, tries=min(job.tries + 1, 30), next_at=polling.next_at(world, job))
