"""All jobs of the ledger, found by what is asked of them; and the queue, in the order in which it is sent."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from chamelaion_watch.core import lifecycle
from chamelaion_watch.core.lifecycle import FINAL
from chamelaion_watch.core.model import Job, JobState, RelPath
from chamelaion_watch.core.shelf import Shelf

Key = TypeVar("Key")


@dataclass(slots=True)
class Queue:
    """The queued jobs, and those of them that need something first: a tick must not ask each of thousands."""

    unprobed: dict[int, None] = field(default_factory=dict)  # perhaps: who finds one that is probed takes it out
    unasked: dict[int, None] = field(default_factory=dict)  # the service is to be asked whether it has it already
    delayed: dict[int, None] = field(default_factory=dict)  # tried again later
    twinned: dict[int, None] = field(default_factory=dict)  # other rows stand for the same run
    _order: list[tuple[int, int]] = field(default_factory=list)
    _places: dict[int, tuple[int, int]] = field(default_factory=dict)

    def put(self, job: Job) -> None:
        """Take in a queued job, or what changed about it."""
        place = None if job.must_look_up else (-job.priority, job.id)
        if self._places.get(job.id) != place:
            self._leave(job.id)
        if place is not None and job.id not in self._places:
            insort(self._order, place)
            self._places[job.id] = place
        self.unprobed[job.id] = None
        _mark(self.unasked, job.id, job.must_look_up)
        _mark(self.delayed, job.id, job.next_at is not None)

    def drop(self, job_id: int) -> None:
        """Let go of a job that is queued no more."""
        self._leave(job_id)
        for ids in (self.unprobed, self.unasked, self.delayed, self.twinned):
            ids.pop(job_id, None)

    def __iter__(self) -> Iterator[int]:
        """Yield those that the service need not be asked about first: the most urgent first, the oldest first."""
        return (job_id for _, job_id in self._order)

    def _leave(self, job_id: int) -> None:
        if (place := self._places.pop(job_id, None)) is not None:
            del self._order[bisect_left(self._order, place)]


@dataclass(slots=True)
class Book:
    """All jobs of the ledger, by pair, by their run, by content; what is finished lies on the shelf."""

    jobs: dict[int, Job] = field(default_factory=dict)  # but for those on the shelf
    shelf: Shelf = field(default_factory=Shelf)
    queue: Queue = field(default_factory=Queue)
    doubted: dict[int, None] = field(default_factory=dict)  # nobody knows whether the service has them
    by_state: dict[JobState, dict[int, None]] = field(default_factory=lambda: {state: {} for state in JobState})
    _latest: dict[tuple[str, RelPath], int] = field(default_factory=dict)
    _by_reference: dict[str, tuple[int, ...]] = field(default_factory=dict)  # ids in order
    _by_content: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)

    def put(self, job: Job) -> None:
        """Take in a new or changed job."""
        taken = self.shelf.take(job.id)
        old = self.jobs.get(job.id)
        if old is not None:
            self.by_state[old.state].pop(job.id)
        self.jobs[job.id] = job
        self.by_state[job.state][job.id] = None
        _mark(self.doubted, job.id, job.doubt_at is not None)
        pair = (job.root, job.key)
        self._latest[pair] = max(job.id, self._latest.get(pair, 0))
        if old is None or _identity(old) != _identity(job):
            self._relink(old, job)
        if job.state is JobState.QUEUED:
            self.queue.put(job)
        elif old is not None and old.state is JobState.QUEUED:
            self.queue.drop(job.id)
        self._mark_twins(job)
        if taken is not None:
            self._mark_twins(taken)

    def shelve(self, job: Job) -> None:
        """Put a finished job on the shelf, be it known or not."""
        assert job.state in FINAL, f"job {job.id} is {job.state}"
        if self.jobs.pop(job.id, None) is not None:
            self.by_state[job.state].pop(job.id)
            self.doubted.pop(job.id, None)
            self._unlink(job)
            if self._latest.get((job.root, job.key)) == job.id:
                del self._latest[job.root, job.key]
        self.shelf.put(job)
        self._mark_twins(job)

    def get(self, job_id: int) -> Job | None:
        return self.jobs.get(job_id) or self.shelf.get(job_id)

    def count(self, state: JobState) -> int:
        return len(self.by_state[state]) + self.shelf.counts[state]

    def of(self, *states: JobState) -> list[Job]:
        """Return the jobs in these states, but for those on the shelf."""
        return [self.jobs[job_id] for state in states for job_id in self.by_state[state]]

    def newest(self, root: str, key: RelPath) -> Job | None:
        live, shelved = self._newest_ids(root, key)
        if shelved <= live:
            return self.jobs.get(live)
        job = self.shelf.get(shelved)
        return job if job is not None and (job.root, job.key) == (root, key) else None

    def is_finished(self, root: str, key: RelPath) -> bool:
        """Whether a pair's newest job lies on the shelf, without taking it from there."""
        live, shelved = self._newest_ids(root, key)
        return shelved > live

    def is_over(self, root: str, key: RelPath, video_sha256: str, audio_sha256: str) -> bool:
        """Say whether a ready pair of this content asks for nothing, without taking its job from the shelf."""
        live, shelved = self._newest_ids(root, key)
        if shelved > live:
            return self.shelf.is_over(shelved, video_sha256, audio_sha256)
        job = self.jobs.get(live)
        return job is not None and _content(job) == (video_sha256, audio_sha256) and lifecycle.is_over(job)

    def twins(self, job: Job) -> list[Job]:
        """Return the other jobs that stand for the same paid run, the oldest first."""
        live = [self.jobs[job_id] for job_id in self._by_reference.get(job.reference_id, ()) if job_id != job.id]
        return sorted([*live, *self._shelved_twins(job)], key=_by_id)

    def same_content(self, video_sha256: str, audio_sha256: str) -> list[Job]:
        content = (video_sha256, audio_sha256)
        live = [self.jobs[job_id] for job_id in self._by_content.get(content, ())]
        return sorted([*live, *self.shelf.of_content(*content)], key=_by_id)

    def open(self) -> list[Job]:
        return [job for state in JobState if state not in FINAL for job in self.of(state)]

    def _newest_ids(self, root: str, key: RelPath) -> tuple[int, int]:
        return self._latest.get((root, key), 0), self.shelf.newest(root, key) or 0

    def _shelved_twins(self, job: Job) -> list[Job]:
        same = self.shelf.of_content(*_content(job))
        return [other for other in same if other.reference_id == job.reference_id and other.id != job.id]

    def _relink(self, old: Job | None, job: Job) -> None:
        if old is not None:
            self._unlink(old)
            for job_id in self._by_reference.get(old.reference_id, ()):
                self._mark_twins(self.jobs[job_id])
        _add(self._by_reference, job.reference_id, job.id)
        _add(self._by_content, _content(job), job.id)

    def _unlink(self, job: Job) -> None:
        _remove(self._by_reference, job.reference_id, job.id)
        _remove(self._by_content, _content(job), job.id)

    def _mark_twins(self, job: Job) -> None:
        live = [self.jobs[job_id] for job_id in self._by_reference.get(job.reference_id, ())]
        for one in live:
            has_twins = len(live) > 1 or bool(self._shelved_twins(one))
            _mark(self.queue.twinned, one.id, has_twins and one.state is JobState.QUEUED)


def _by_id(job: Job) -> int:
    return job.id


def _content(job: Job) -> tuple[str, str]:
    return job.video.sha256, job.audio.sha256


def _identity(job: Job) -> tuple[str, tuple[str, str]]:
    return job.reference_id, _content(job)


def _mark(ids: dict[int, None], job_id: int, is_one: bool) -> None:
    if is_one:
        ids[job_id] = None
    else:
        ids.pop(job_id, None)


def _add(index: dict[Key, tuple[int, ...]], key: Key, job_id: int) -> None:
    index[key] = tuple(sorted((*index.get(key, ()), job_id)))


def _remove(index: dict[Key, tuple[int, ...]], key: Key, job_id: int) -> None:
    left = tuple(other for other in index[key] if other != job_id)
    if left:
        index[key] = left
    else:
        del index[key]
