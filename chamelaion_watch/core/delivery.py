"""What comes of fetching a result. It is paid for: a folder that cannot take it delays it, nothing loses it."""

from __future__ import annotations

from chamelaion_watch.core import gate, naming, spooling
from chamelaion_watch.core.errors import (
    AccountProblem,
    LinkExpired,
    NotFound,
    OutputProblem,
    Rejected,
    RootProblem,
    Transient,
    WatchError,
)
from chamelaion_watch.core.lifecycle import NO_TROUBLE, Step
from chamelaion_watch.core.messages import Deliver, Delivered, RootFacts, SpoolResult
from chamelaion_watch.core.model import Job, JobState
from chamelaion_watch.core.rendering import request_failed
from chamelaion_watch.core.submission import next_lookup_at, retry_wait
from chamelaion_watch.core.world import World

MAX_TRIES = 8
SPOOL_LOST = "spool_lost"
OUTPUT_RETRY_MS = 30_000  # a full or read-only folder is tried again so often


def delivered(world: World, event: Delivered) -> None:
    """The output is in its place, durably."""
    job = _of(world, event.action)
    if job is None:
        return
    if not event.is_copy and event.action.spooled is None:
        world.gate = gate.answered(world.gate)
    if folder := world.folders.get(job.root):
        folder.write_trouble = None
    how = "fetched and checked" if event.action.spooled is None else "it was kept in the state folder"
    if event.is_copy:
        how = "the same content was rendered before, nothing was paid"
    world.attempt(job, "deliver", "delivered", f"{how}: {event.output}, {event.size} bytes")
    world.step(
        job,
        Step.SUPERSEDE if job.is_superseded else Step.DELIVER,
        output=event.output,
        output_sha256=event.sha256,
        output_bytes=event.size,
        doubt_at=None,
        **NO_TROUBLE,
    )


def deliver_failed(world: World, action: Deliver | SpoolResult, error: WatchError) -> None:
    """Keep the paid result at the service or in the spool, and come back for it."""
    job = _of(world, action)
    if job is None:
        return
    step = "deliver" if isinstance(action, Deliver) else "spool"
    world.progress.pop(job.id, None)
    world.attempt(job, step, error.code, error.message, error.http_status)
    match error:
        case OutputProblem() if isinstance(action, SpoolResult):
            spooling.no_room(world, job, error)
        case Transient() if error.code == SPOOL_LOST:
            world.spooled.pop(job.reference_id, None)  # the next try fetches it again
        case OutputProblem():
            _folder_refused(world, job, error)
        case RootProblem():
            _leave_temp(world, action)
            world.folders[job.root].scanned_unwell(RootFacts(error.root_state, error.message), world.now)
            world.change(job, next_at=world.now + OUTPUT_RETRY_MS)
        case AccountProblem():
            request_failed(world, error)
            world.change(job, next_at=world.now + 1000)
        case NotFound():
            doubt_at = job.doubt_at or world.now
            world.change(job, doubt_at=doubt_at, next_at=next_lookup_at(doubt_at, world.now))
        case Rejected():
            world.step(job, Step.FAIL, code=error.code, message=error.message, http_status=error.http_status)
        case _:
            _try_later(world, job, error)


def _of(world: World, action: Deliver | SpoolResult) -> Job | None:
    """The job that a delivery is about, if it still waits for this very run."""
    job = world.job(action.job.id, JobState.RENDERED)
    return job if job is not None and job.reference_id == action.job.reference_id else None


def _try_later(world: World, job: Job, error: WatchError) -> None:
    if error.code != "media_host":  # its trouble says nothing of the service: nobody else has to wait
        request_failed(world, error)
    tries = job.tries + 1
    if tries >= MAX_TRIES:
        world.step(job, Step.FAIL, code=error.code, message=error.message, http_status=error.http_status, tries=tries)
        return
    # An old link only needs a fresh one, which comes with the next try: no long wait for the first few.
    wait = 1000 * tries if isinstance(error, LinkExpired) else retry_wait(tries, world.chance) // 5
    if isinstance(error, Transient) and error.retry_after_s is not None:
        wait = max(wait, round(error.retry_after_s * 1000))
    world.change(job, tries=tries, next_at=world.now + wait)


def _leave_temp(world: World, action: Deliver | SpoolResult) -> None:
    """A share that went away keeps what was being written there, and no later scan need tell of it once more."""
    if isinstance(action, Deliver):
        world.folders[action.job.root].temps.add(naming.temp_path(action.output))


def _folder_refused(world: World, job: Job, error: OutputProblem) -> None:
    folder = world.folders[job.root]
    if folder.write_trouble is None:
        world.say("root", f"{job.root}: {error.root_state}: {error.message}", root=job.root, is_warning=True)
    folder.write_trouble = (error.root_state, error.message)
    folder.write_again_at = world.now + OUTPUT_RETRY_MS
    world.change(job, next_at=world.now + OUTPUT_RETRY_MS)
