"""Results whose folder cannot take them: which of them are fetched into the state folder meanwhile.

What is paid for is brought home while the service still has it. Delivering it later needs no network.
"""

from __future__ import annotations

from chamelaion_watch.core import gate, twins
from chamelaion_watch.core.errors import OutputProblem
from chamelaion_watch.core.folder import Folder
from chamelaion_watch.core.lifecycle import NO_TROUBLE
from chamelaion_watch.core.messages import Deliver, ResultSpooled, SpoolResult, Unspool
from chamelaion_watch.core.model import Job, JobState, Millis, RootState
from chamelaion_watch.core.world import World, where

AWAY_FOR_MS = 10_000  # a share that blinks is awaited: its results go straight to their place
AGAIN_MS = 600_000  # what found no room is tried again so often


def to_spool(world: World) -> tuple[SpoolResult | None, Millis | None]:
    """Return the next result to fetch into the spool, or when to ask again; one at a time, so that the cap holds."""
    may_at = gate.request_at(world.gate, world.now)
    if may_at is None or world.is_running(SpoolResult):
        return None, None
    waits: list[Millis] = []
    for job in world.book.of(JobState.RENDERED):
        due_at = _due_at(world, job)
        if due_at is None:
            continue
        if max(due_at, may_at) <= world.now:
            return SpoolResult(job, room(world)), None
        waits.append(max(due_at, may_at))
    return None, min(waits, default=None)


def to_forget(world: World) -> Unspool | None:
    """Return what to remove: results that are in their place, or that nobody wants any more."""
    if not world.spooled or world.is_running(Unspool):
        return None
    awaited = {job.reference_id for job in world.book.of(JobState.RENDERED)}
    over = tuple(sorted(world.spooled.keys() - awaited))
    return Unspool(over) if over else None


def room(world: World) -> int:
    """Return how many bytes the spool may still take."""
    return max(0, world.policy.spool_bytes - sum(result.size for result in world.spooled.values()))


def spooled(world: World, event: ResultSpooled) -> None:
    """A result is in the state folder, whole and durable."""
    job = event.action.job
    world.progress.pop(job.id, None)
    world.spooled[job.reference_id] = event.spooled
    world.spool_again_at.pop(job.reference_id, None)
    if current := world.job(job.id, JobState.RENDERED):
        world.change(current, next_at=None, **NO_TROUBLE)
    world.gate = gate.answered(world.gate)
    text = f"fetched and checked, {event.spooled.size} bytes; kept in the state folder until {job.root} can take it"
    world.attempt(job, "spool", "spooled", text)
    world.say("job", f"{where(job)}: {text}", job=job)


def no_room(world: World, job: Job, error: OutputProblem) -> None:
    """The state folder cannot take a result: it waits at the service."""
    if job.reference_id not in world.spool_again_at:
        text = f"{where(job)}: its result waits at the service: {error.message}"
        world.say("job", text, job=job, is_warning=True)
    world.spool_again_at[job.reference_id] = world.now + AGAIN_MS


def waiting_reason(world: World, job: Job) -> str:
    """Say what a rendered job waits for, and where its result is; "" if it is simply its turn."""
    folder = world.folders.get(job.root)
    if folder is None:
        why = "its folder is not in the configuration any more"
    elif not folder.may_write:
        state, reason = folder.write_trouble or (folder.state, folder.reason)
        why = f"its folder is {state}: {reason}"
    else:
        return ""
    place = "in the state folder" if job.reference_id in world.spooled else "at the service"
    return f"the result is safe {place}; {why}"


def _due_at(world: World, job: Job) -> Millis | None:
    """Return when a result may be fetched into the spool, or None where that is not wanted."""
    folder = world.folders.get(job.root)
    if folder is None or folder.facts is None or folder.may_write:  # without facts it was not looked at yet
        return None
    if job.doubt_at is not None or job.reference_id in world.spooled:
        return None
    if not room(world) or _is_being_delivered(world, folder, job) or twins.copies(world, job):
        return None
    away_until = folder.state_since_at + AWAY_FOR_MS if not folder.is_ok else 0
    return max(away_until, world.spool_again_at.get(job.reference_id, 0), job.next_at or 0)


def _is_being_delivered(world: World, folder: Folder, job: Job) -> bool:
    """Whether a delivery may still end by itself; one that a hung folder holds may never."""
    return folder.state is not RootState.HUNG and world.is_running(Deliver, job.id)
