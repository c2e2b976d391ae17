"""Whose turn it is to be submitted, and why it is not yet another's."""

from __future__ import annotations

from collections.abc import Iterator

from chamelaion_watch.core import gate, twins
from chamelaion_watch.core.folder import Folder
from chamelaion_watch.core.model import Job, JobState, Millis
from chamelaion_watch.core.world import World

_Reason = tuple[str, Millis | None]  # in words, "" if there is none; and until when, if that is known


def next_job(world: World) -> Job | None:
    """Return the most urgent job that may go, oldest first; a canary is the smallest, for it may be for nothing."""
    ready = _ready(world)
    if gate.needs_canary(world.gate):
        return min(ready, key=lambda job: (job.video.signature.size + job.audio.signature.size, job.id), default=None)
    return next(ready, None)


def next_try_at(world: World) -> Millis | None:
    """When the next job that failed before is to be tried again."""
    times = (world.book.jobs[job_id].next_at or 0 for job_id in world.book.queue.delayed)
    return min((at for at in times if at > world.now), default=None)


def waiting_reason(world: World, job: Job) -> _Reason:
    """Say why a queued job is not being submitted now, in words, and until when if that is known."""
    told = (reason for reason in _reasons(world, job) if reason[0])
    return next(told, ("next in the queue", None))


def is_daily_limit_reached(world: World) -> bool:
    limit = world.policy.max_jobs_per_day
    if limit is None:
        return False
    return world.accepted_today() + len(world.book.by_state[JobState.SUBMITTING]) >= limit


# -- inside -------------------------------------------------------------------------------------------


def _ready(world: World) -> Iterator[Job]:
    """Yield the jobs that may go; those that cannot may be thousands, and are passed over by their numbers alone.

    Of 10,000 in a new ledger, all to be looked up first, to ask each for its reason took two fifths of this thread.
    """
    shut = {name for name, folder in world.folders.items() if _of_folder(folder)}
    for job_id in world.book.queue:
        if job_id not in world.checked:
            continue
        job = world.book.jobs[job_id]
        is_put_off = job.root in shut or (job.next_at or 0) > world.now
        if not is_put_off and not _own_reason(world, job)[0]:
            yield job


def _reasons(world: World, job: Job) -> Iterator[_Reason]:
    yield _own_reason(world, job)
    if pause := world.pause:
        yield f"paused by a person{': ' + pause.reason if pause.reason else ''}", pause.until_at
    if is_daily_limit_reached(world):
        yield f"today's limit of {world.policy.max_jobs_per_day} jobs is reached", None
    if not world.gate.is_open:
        yield f"the account is {world.gate.state}: {world.gate.reason}", world.gate.until_at
    in_flight, limit = world.in_flight(), gate.in_flight_limit(world.gate, world.policy)
    if in_flight >= limit:
        yield f"{in_flight} jobs are in flight, the limit is {limit}", None


def _own_reason(world: World, job: Job) -> _Reason:
    """Why this very job may not go yet, whatever the account says; "" if it may."""
    folder = world.folders.get(job.root)
    if folder is None:
        return "its folder is not in the configuration any more", None
    if world.only is not None and (job.root, job.key) not in world.only:
        return "it came after this run had begun", None
    if reason := _of_folder(folder):
        return reason
    if not folder.has(job):
        return "its sources are being checked", None
    if job.id not in world.checked:
        return "its sources are being probed", None
    if job.must_look_up:
        return "the service is asked whether it has it already", job.next_at
    if job.next_at is not None and job.next_at > world.now:
        return f"it failed {job.tries} times and is tried again", job.next_at
    if twin := twins.active(world, job):
        return f"the same content is job {twin.id} ({twin.state}): its result will be taken", None
    return "", None


def _of_folder(folder: Folder) -> _Reason | None:
    if not folder.is_ok:
        return f"its folder is {folder.state}: {folder.reason}", None
    if folder.write_trouble is not None:
        return f"its folder is {folder.write_trouble[0]}: {folder.write_trouble[1]}", folder.write_again_at
    if folder.is_paused:
        return f"its folder is paused{': ' + folder.pause_reason if folder.pause_reason else ''}", folder.paused_until
    return None
