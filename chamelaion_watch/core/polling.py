"""When the service is asked how the paid jobs are, and for which of them.

A few are asked for one by one. From four on, pages of the service's list answer for all that they show, and only who is
not shown is asked for singly, when its own time has come. A round of pages costs the same however many jobs finished:
it goes as often as costs a fifth of a call for each job that finishes, and at least each `poll.first`.
"""

from __future__ import annotations

from chamelaion_watch.core import gate
from chamelaion_watch.core.messages import Poll
from chamelaion_watch.core.model import Job, JobState, Millis
from chamelaion_watch.core.world import World

LIST_FROM = 4
TOGETHER_MS = 2_000  # polls due so soon ride in the same round
LEAST_MS = 1_000  # between two rounds of the list
ROUNDS_COST = 5  # finished jobs for each call, at least
AWAITED = 3  # so many times as often while others wait for a place: a place that nobody knows to be free is lost
FIRST_GUESS_MS = 1_000  # a first look, and a first round, while nothing is known; rounds are doubled from there
OLD_MS = 86_400_000  # a job that renders for a day is asked for rarely, and shown as stuck
OLD_POLL_MS = 300_000


def to_ask(world: World) -> tuple[Poll | None, Millis | None]:
    """Return the round that is due, or when to plan again."""
    may_at = gate.request_at(world.gate, world.now)
    if may_at is None or world.is_running(Poll):
        return None, None
    if (round_at := _round_at(world)) > world.now:
        return None, max(may_at, round_at)
    jobs = [job for job in world.book.of(JobState.RENDERING) if job.doubt_at is None and job.request_id]
    if not jobs:
        return None, None
    is_list = len(jobs) >= LIST_FROM
    at = max(may_at, _list_at(world, jobs) if is_list else _first_at(jobs))
    if at > world.now:
        return None, at
    due = [job for job in jobs if is_due(world, job)]
    if is_list:
        world.pace.listed_at = world.now
        world.pace.rounds += 1
    asked = jobs if is_list else due
    return Poll(tuple((job.id, job.request_id or "") for job in asked), tuple(job.id for job in due)), None


def first_at(world: World, job: Job) -> Millis:
    """When to ask for a job that was accepted just now."""
    learned_ms = world.pace.first_look_ms(world.video_ms.get(job.id))
    return world.now + (min(FIRST_GUESS_MS, world.policy.poll.first_ms) if learned_ms is None else learned_ms)


def next_at(world: World, job: Job) -> Millis:
    """When to ask for a job by itself again, after it was found in progress."""
    return world.now + (OLD_POLL_MS if _is_old(world, job) else world.policy.poll.at(job.tries + 1))


def is_due(world: World, job: Job) -> bool:
    """Whether a job's own time has come, or is about to."""
    return (job.next_at or 0) <= world.now + TOGETHER_MS


def _first_at(jobs: list[Job]) -> Millis:
    return min(job.next_at or 0 for job in jobs)


def _round_at(world: World) -> Millis:
    """When the list may be read again, 0 if there are too few for it: each tick asks, and looks at no job for it."""
    are_enough = len(world.book.by_state[JobState.RENDERING]) >= LIST_FROM + len(world.book.doubted)
    return world.pace.listed_at + _every_ms(world) if are_enough else 0


def _list_at(world: World, jobs: list[Job]) -> Millis:
    """When the list is worth a round: not before the first look at anyone in it is due."""
    is_any_due = any((job.next_at or 0) <= world.now for job in jobs)
    if not is_any_due and not any(job.tries and not _is_old(world, job) for job in jobs):
        return _first_at(jobs)
    return world.pace.listed_at + _every_ms(world)


def _every_ms(world: World) -> int:
    """How far apart the rounds are: as far as the jobs that pay for one have been finishing of late."""
    longest_ms = world.policy.poll.first_ms // (AWAITED if _is_awaited(world) else 1)
    if (apart_ms := world.pace.apart_ms()) is None:
        return min(longest_ms, FIRST_GUESS_MS << min(world.pace.rounds, 20))
    return round(min(longest_ms, max(LEAST_MS, ROUNDS_COST * world.pace.calls * apart_ms)))


def _is_awaited(world: World) -> bool:
    """Whether the in-flight limit is what keeps the next job from being sent."""
    is_full = world.in_flight() >= gate.in_flight_limit(world.gate, world.policy)
    return is_full and bool(world.book.by_state[JobState.QUEUED])


def _is_old(world: World, job: Job) -> bool:
    return world.now - (job.accepted_at or world.now) > OLD_MS
