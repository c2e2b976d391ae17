"""What comes of an upload: accepted, certainly not taken, or in doubt; and the look-ups that end the doubt.

The rule: if the last piece never left, the service cannot have a whole request. If it left and no clear answer came,
only a look-up by our reference_id may say that there is nothing, and a 404 is believed only `lookup_grace` after
our socket was closed: a proxy may still be delivering the upload (a look-up alone doubled 9 % of 1,000 simulated
fault schedules, this none).
"""

from __future__ import annotations

from chamelaion_watch.core import gate, intake, polling
from chamelaion_watch.core.errors import (
    AccountProblem,
    InputProblem,
    OutputProblem,
    Rejected,
    RootProblem,
    Transient,
    Unreachable,
    WatchError,
)
from chamelaion_watch.core.lifecycle import NO_TROUBLE, NOT_SENT, SOURCE_GONE, Step
from chamelaion_watch.core.messages import LeaveAsked, LookedUp, Progress, RootFacts, Submit, SubmitFailed, Submitted
from chamelaion_watch.core.model import Job, JobState, Millis, Request
from chamelaion_watch.core.world import World

MAX_TRIES = 6  # of one step, before a transient failure is called permanent
RETRY_FIRST_MS, RETRY_MAX_MS = 10_000, 600_000
SEND_WINDOW_MS = 60_000  # how long the ledger promises that bytes may still leave; extended while they move
LOOKUPS_AT_MS = (0, 2_000, 5_000, 15_000, 30_000)
LOOKUP_EVERY_MS = 30_000
CONFIRM_404_MS = 1_500  # between the first 404 to a look-up and the one that is believed, at least
WITHDRAWN = "withdrawn"  # code of the InputProblem that a denied leave raises


def submitted(world: World, event: Submitted) -> None:
    """The service has it."""
    action = event.action
    world.gate = gate.accepted(world.gate, action.job.id, world.now, world.in_flight(), world.policy)
    world.accepted_at.append(world.now)
    if job := world.job(action.job.id, JobState.SUBMITTING):
        _accept(world, job, event.request_id)
    else:
        world.say("late", f"request {event.request_id} answers job {action.job.id}, which no longer waits for it")
    _forget_upload(world, action.job.id)


def submit_failed(world: World, event: SubmitFailed) -> None:
    """The upload ended without a request id: sort out what that means for money, then for the account."""
    error, action = event.error, event.action
    _tell_gate(world, action, error)
    job = world.job(action.job.id, JobState.SUBMITTING)
    if job is None:
        _forget_upload(world, action.job.id)
        return
    world.attempt(job, "submit", error.code, error.message, error.http_status)
    match error:
        case Rejected():
            _fail(world, job, error)
        case AccountProblem() if not (isinstance(error, Unreachable) and event.may_be_taken):
            _release(world, job, tries=job.tries)
        case InputProblem() if error.code == "input_unreadable":  # a bad disk: not for ever, and a person must know
            _blame_sources(world, job, error)
            _try_later(world, job, error)
        case InputProblem() | OutputProblem() | RootProblem():
            _blame_sources(world, job, error)
            _release(world, job, tries=job.tries)
        case _ if event.may_be_taken:
            world.change(job, doubt_at=world.now, next_at=world.now)
        case _:
            _try_later(world, job, error)
    _forget_upload(world, action.job.id)


def leave_asked(world: World, event: LeaveAsked) -> None:
    """Give leave to send the last piece, written down first; or deny it."""
    job = world.job(event.job_id, JobState.SUBMITTING)
    if job is None or world.is_stopping or job.id in world.denied or job.id in world.cancelling:
        world.denied.setdefault(event.job_id, "the daemon is stopping" if world.is_stopping else "no longer wanted")
        return
    until = world.now + SEND_WINDOW_MS
    world.change(job, finishing_at=world.now, sent_until=until)
    world.leave[job.id] = until


def progressed(world: World, event: Progress) -> None:
    """Bytes moved: promise a little longer that more may follow."""
    world.progress[event.job_id] = (event.done, event.total)
    job = world.job(event.job_id, JobState.SUBMITTING)
    if job and job.sent_until is not None and job.sent_until - world.now < SEND_WINDOW_MS // 2:
        world.change(job, sent_until=world.now + SEND_WINDOW_MS)


def looked_up(world: World, event: LookedUp) -> None:
    """The service was asked by reference_id: a hit ends any doubt, a 404 only after the grace."""
    world.gate = gate.answered(world.gate)
    job = world.job(event.action.job.id, JobState.QUEUED, JobState.SUBMITTING, JobState.RENDERING, JobState.RENDERED)
    if job is None or job.reference_id != event.action.job.reference_id:
        return
    if event.request is not None:
        _found(world, job, event.request)
    elif job.state is JobState.QUEUED:
        world.change(job, must_look_up=False)
    elif not _is_believed(world, job):
        soon = world.now + CONFIRM_404_MS
        again_at = soon if _is_grace_over(world, job) else next_lookup_at(job.doubt_at or world.now, world.now)
        world.change(job, next_at=again_at)
    elif job.state is JobState.SUBMITTING:
        _not_there(world, job)
    else:
        lose(world, job)


def look_up_failed(world: World, job: Job, error: WatchError) -> None:
    """No answer: ask again, however long it takes."""
    if current := world.job(job.id, JobState.QUEUED, JobState.SUBMITTING, JobState.RENDERING, JobState.RENDERED):
        is_held = gate.request_at(world.gate, world.now) != world.now  # the gate says when: as soon as it is open
        wait = 0 if is_held else LOOKUP_EVERY_MS if isinstance(error, AccountProblem) else RETRY_FIRST_MS
        world.change(current, next_at=world.now + wait)


def lose(world: World, job: Job) -> None:
    """The service no longer knows a request that was paid for: only a person can say."""
    world.step(
        job,
        Step.LOSE,
        code="doubtful",
        message="the service does not know this request any more, though it was accepted",
        http_status=404,
    )


def unfinished(world: World) -> list[SubmitFailed]:
    """Return what becomes of uploads that a stop could not end in time: they had no leave, and get none any more.

    A slow line takes seconds for one piece; six reloads during one upload would make its pair `poisonous`.
    """
    stopped = InputProblem("the daemon stopped before the last piece was sent", code=WITHDRAWN)
    submits = [action for action in world.running if isinstance(action, Submit)]
    jobs = ((action, world.job(action.job.id, JobState.SUBMITTING)) for action in submits)
    return [SubmitFailed(action, stopped, may_be_taken=False) for action, job in jobs if job and not job.finishing_at]


def recovered(world: World, job: Job, *, did_end: bool = True) -> None:
    """After a crash: what was being sent goes back to the queue if it cannot have been whole, else is looked up.

    Each time that the process did end counts against the pair: perhaps it is this one that ends it.
    """
    if job.code in (SOURCE_GONE, intake.BY_REQUEST):
        world.cancelling[job.id] = job.code
    if job.finishing_at is None:
        world.attempt(job, "recover", "released", "the daemon stopped before the last piece was sent")
        tries = job.tries + did_end
        if tries < MAX_TRIES or job.id in world.cancelling:
            _release(world, job, tries=tries)
        else:  # the others shall go on
            _fail(world, job, WatchError(f"the daemon ended {MAX_TRIES} times in its upload", code="poisonous"))
    else:
        world.attempt(job, "recover", "doubt", "the daemon stopped after the last piece may have been sent")
        world.change(job, doubt_at=world.now, next_at=world.now)


def next_lookup_at(doubt_at: Millis, now: Millis) -> Millis:
    """When to ask again: at 0, 2, 5, 15, 30 s after the doubt began, then each 30 s."""
    return next((doubt_at + at for at in LOOKUPS_AT_MS if doubt_at + at > now), now + LOOKUP_EVERY_MS)


def retry_wait(tries: int, chance: float) -> int:
    """Milliseconds before try number `tries` + 1: growing, and spread by as much again."""
    wait = min(RETRY_MAX_MS, RETRY_FIRST_MS << min(max(tries - 1, 0), 20))
    return round(wait * (1 + chance))


# -- inside -------------------------------------------------------------------------------------------


def _accept(world: World, job: Job, request_id: str) -> None:
    world.attempt(job, "accept", "accepted", f"request {request_id}")
    after = world.step(
        job,
        Step.ACCEPT,
        request_id=request_id,
        accepted_at=world.now,
        next_at=polling.first_at(world, job),
        must_look_up=False,
        sent_until=None,
        finishing_at=None,
        doubt_at=None,
        **NO_TROUBLE,
    )
    if code := world.cancelling.get(job.id):
        intake.cancel(world, after, code, "cancelled; the service had taken it already, so it is not delivered")


def _found(world: World, job: Job, request: Request) -> None:
    if job.state in (JobState.QUEUED, JobState.SUBMITTING):
        world.accepted_at.append(world.now)  # the ledger's attempts count it too
        _accept(world, job, request.id)
        if current := world.job(job.id, JobState.RENDERING):
            world.change(current, next_at=world.now)
    else:
        # Not at once: a service that denies it by id and finds it by reference would be asked as fast as it answers.
        world.change(job, doubt_at=None, next_at=world.now + world.policy.poll.first_ms, request_id=request.id)


def _is_believed(world: World, job: Job) -> bool:
    """Whether a 404 counts: the grace is over, and it is not the only one: a server may be unwell for a moment."""
    first_at = world.unseen_at.setdefault(job.id, world.now)
    return _is_grace_over(world, job) and world.now - first_at >= CONFIRM_404_MS


def _is_grace_over(world: World, job: Job) -> bool:
    return job.doubt_at is not None and world.now - job.doubt_at >= world.policy.lookup_grace_ms


def _not_there(world: World, job: Job) -> None:
    """The grace is over and the service has nothing: it is certain now that it was not taken."""
    world.attempt(job, "look_up", "not_taken", "the service never received it; it is sent again", 404)
    if job.id in world.cancelling:
        world.step(job, Step.CANCEL, code=world.cancelling.pop(job.id), message="cancelled before it was taken")
        return
    _try_later(world, job, Transient("the service did not answer an upload", code="timed_out"))


def _try_later(world: World, job: Job, error: WatchError) -> None:
    tries = job.tries + 1
    if tries >= MAX_TRIES and job.id not in world.cancelling:
        _fail(world, job, error, tries=tries)
        return
    asked = getattr(error, "retry_after_s", None)
    wait = retry_wait(tries, world.chance) if asked is None else max(round(asked * 1000), 1000)
    _release(world, job, tries=tries, next_at=world.now + wait)


def _fail(world: World, job: Job, error: WatchError, *, tries: int = 0) -> None:
    """It was certainly not taken, so the mark of having been sent goes: another row of the same run may be."""
    trouble = {"code": error.code, "message": error.message, "http_status": error.http_status}
    world.step(job, Step.FAIL, tries=tries, **NOT_SENT, **trouble)


def _release(world: World, job: Job, *, tries: int, next_at: Millis | None = None) -> None:
    job = world.step(job, Step.RELEASE, tries=tries, next_at=next_at, **NOT_SENT)
    world.denied.pop(job.id, None)
    if code := world.cancelling.pop(job.id, None):
        intake.cancel(world, job, code, "cancelled before the upload was complete: nothing was paid")


def _blame_sources(world: World, job: Job, error: WatchError) -> None:
    folder = world.folders.get(job.root)
    if folder is None or error.code == WITHDRAWN:
        return
    if isinstance(error, RootProblem):
        folder.scanned_unwell(RootFacts(error.root_state, error.message), world.now)
        return
    for path in (job.video.path, job.audio.path):
        folder.recheck(path, world.now)


def _tell_gate(world: World, action: Submit, error: WatchError) -> None:
    job_id = action.job.id
    match error:
        case AccountProblem():
            world.gate = gate.refused(
                world.gate,
                error,
                world.now,
                chance=world.chance,
                policy=world.policy,
                in_flight=world.in_flight() - 1,
                is_submission=True,
                began_at=action.decided_at,
            )
        case Transient() if error.http_status is not None:
            world.gate = count_failure(world, error)
        case Rejected() if error.http_status is not None:
            world.gate = gate.answered(world.gate)
    world.gate = gate.dropped(world.gate, job_id)


def count_failure(world: World, error: Transient) -> gate.Gate:
    """A 5xx: one more towards the breaker; one that names a time is taken at its word by everybody."""
    if error.retry_after_s is not None:
        asked = Unreachable(error.message, retry_after_s=error.retry_after_s)
        return gate.refused(world.gate, asked, world.now, chance=world.chance, policy=world.policy)
    down = Unreachable(f"the service failed {gate.BREAKER_FAILURES} times in a row: {error.message}")
    return gate.server_failed(world.gate, world.now, down, chance=world.chance, policy=world.policy)


def _forget_upload(world: World, job_id: int) -> None:
    world.denied.pop(job_id, None)
    world.progress.pop(job_id, None)
    if world.job(job_id, JobState.SUBMITTING) is None:
        world.cancelling.pop(job_id, None)
