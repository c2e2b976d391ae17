"""Jobs that stand for the same paid run: the same content dropped again, renamed, or back after other content.

One row at most is ever sent (`one_sender` in the ledger's schema); the others wait for it and share its fate.
"""

from __future__ import annotations

from chamelaion_watch.core.lifecycle import Step
from chamelaion_watch.core.messages import LocalCopy
from chamelaion_watch.core.model import Job, JobState
from chamelaion_watch.core.world import World, where

# What failed for these reasons was never sent: another pair of the same content is judged for itself.
_OUR_CODES = frozenset({"unreadable", "no_picture", "no_sound", "duration_mismatch", "internal"})
_ENDED = (JobState.DONE, JobState.SUPERSEDED, JobState.CANCELLED, JobState.FAILED, JobState.DOUBTFUL)


def active(world: World, job: Job) -> Job | None:
    """The row that pays for this run, if another does."""
    for twin in world.book.twins(job):
        if twin.state in (JobState.SUBMITTING, JobState.RENDERING, JobState.RENDERED):
            return twin
        if twin.state is JobState.QUEUED and twin.id < job.id and _may_ever_go(world, twin):
            return twin
    return None


def follow(world: World) -> None:
    """The same pair dropped again costs nothing: it shares the fate of the run that was paid for."""
    for job_id in list(world.book.queue.twinned):
        job = world.job(job_id, JobState.QUEUED)
        if job is None or job_id not in world.checked or job.sent_at is not None:
            continue
        for twin in world.book.twins(job):
            if _follow(world, job, twin):
                break


def copies(world: World, job: Job) -> tuple[LocalCopy, ...]:
    """Outputs of the same run that may still lie on a share: content that is paid for once is enough."""
    done = [twin for twin in world.book.twins(job) if twin.state in (JobState.DONE, JobState.SUPERSEDED)]
    return tuple(
        LocalCopy(twin.root, twin.output, twin.output_sha256, twin.output_bytes)
        for twin in done
        if twin.output is not None and twin.output_sha256 is not None and twin.output_bytes is not None
    )


# -- inside -------------------------------------------------------------------------------------------


def _may_ever_go(world: World, job: Job) -> bool:
    """Whether a queued job is only waiting for its turn: one whose folder or sources are away holds nobody up."""
    folder = world.folders.get(job.root)
    is_wanted = world.only is None or (job.root, job.key) in world.only
    return is_wanted and folder is not None and folder.is_ok and not folder.is_paused and folder.has(job)


def _is_stranded(world: World, job: Job) -> bool:
    """Whether a result is there, and its own folder cannot take it: nobody need wait for that."""
    folder = world.folders.get(job.root)
    return job.state is JobState.RENDERED and (folder is None or not folder.may_write)


def _follow(world: World, job: Job, twin: Job) -> bool:
    """Let a job share its twin's fate, if that is known."""
    if twin.state is JobState.FAILED and twin.code not in _OUR_CODES:
        world.attempt(job, "twin", "same_content", f"the same content failed as {where(twin)}")
        world.step(job, Step.FAIL, code=twin.code, message=twin.message, http_status=twin.http_status)
    elif twin.state not in _ENDED and not _is_stranded(world, twin):
        return False
    elif twin.state is JobState.DONE or (twin.request_id and twin.rendered_at):
        world.attempt(job, "twin", "same_content", f"the same content as job {twin.id}: nothing is paid")
        world.step(job, Step.COMPLETE, request_id=twin.request_id, rendered_at=world.now)
    elif twin.request_id is not None:  # paid for, and then cancelled or lost
        world.attempt(job, "twin", "same_content", f"the service has it as job {twin.id}: nothing is paid")
        world.step(job, Step.ACCEPT, request_id=twin.request_id, accepted_at=world.now, next_at=world.now)
    elif twin.sent_at is not None:
        message = f"the same content was sent as job {twin.id}, and nothing tells whether the service took it"
        world.step(job, Step.LOSE, code="doubtful", message=message)
    else:
        return False
    return True
