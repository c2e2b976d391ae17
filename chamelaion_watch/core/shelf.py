"""Finished jobs, packed: nothing is left to do, but a pair that comes back must find the run that it was paid with.

A job in memory takes 2 kB, here 0.4 kB; 50,000 are what a busy folder leaves in a year or two. They are packed by the
dozen, for what is alike in them (each by itself takes half as much again), and found by their pair and by their
content, through hashes, which are compared when they are unpacked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeAlias

from chamelaion_watch.core import lifecycle
from chamelaion_watch.core.model import Job, JobState, Options, RelPath, Signature, Source
from chamelaion_watch.core.packing import pack, unpack

BOX = 16  # jobs that are packed together: more make it no smaller, and each that is asked for unpacks them all

_Row: TypeAlias = tuple[Any, ...]
_NESTED = ("video", "audio", "options", "state")
_PLAIN = tuple(name for name in Job.__slots__ if name not in _NESTED)
_plain_of = attrgetter(*_PLAIN)
_nested_of = attrgetter(
    *(
        f"{side}.{name}"
        for side in ("video", "audio")
        for name in ("path", "signature.size", "signature.mtime_ns", "sha256")
    ),
    *(f"options.{name}" for name in Options.__slots__),
)
_SOURCE = 4  # fields


@dataclass(slots=True)
class Shelf:
    """Packed jobs by id, by pair (the newest), by content."""

    counts: Counter[JobState] = field(default_factory=Counter)
    _filling: dict[int, _Row] = field(default_factory=dict)  # by id: the next box
    _boxes: dict[int, bytes] = field(default_factory=dict)
    _box_of: dict[int, int] = field(default_factory=dict)  # by id; 0 is the one that is being filled
    _boxed: int = 0  # boxes so far
    _last: tuple[int, dict[int, _Row]] | None = None  # jobs that are asked for one after the other often lie together
    _not_over: set[int] = field(default_factory=set)  # ids of those whose pair may come back
    _by_pair: dict[int, int] = field(default_factory=dict)
    _by_content: dict[int, int | tuple[int, ...]] = field(default_factory=dict)  # most contents have one job

    def put(self, job: Job) -> None:
        """Take in a job that is not here."""
        self._filling[job.id] = (*_plain_of(job), *_nested_of(job), str(job.state))
        self._box_of[job.id] = 0
        if len(self._filling) == BOX:
            self._close_box()
        self.counts[job.state] += 1
        if not lifecycle.is_over(job):
            self._not_over.add(job.id)
        pair, content = _pair(job.root, job.key), _content(job.video.sha256, job.audio.sha256)
        self._by_pair[pair] = max(job.id, self._by_pair.get(pair, 0))
        self._set_content(content, (*self._ids(content), job.id))

    def take(self, job_id: int) -> Job | None:
        """Take a job out, which is not finished any more; None if it is not here."""
        job = self.get(job_id)
        if job is None:
            return None
        self._unbox(job_id)
        self.counts[job.state] -= 1
        self._not_over.discard(job_id)
        pair, content = _pair(job.root, job.key), _content(job.video.sha256, job.audio.sha256)
        if self._by_pair.get(pair) == job_id:
            del self._by_pair[pair]
        self._set_content(content, tuple(other for other in self._ids(content) if other != job_id))
        return job

    def get(self, job_id: int) -> Job | None:
        box = self._box_of.get(job_id)
        return None if box is None else _job(self._rows(box)[job_id])

    def newest(self, root: str, key: RelPath) -> int | None:
        """Return the id of a pair's newest job here."""
        return self._by_pair.get(_pair(root, key))

    def is_over(self, job_id: int, video_sha256: str, audio_sha256: str) -> bool:
        """Say whether a job here is of this content, by its hash, and its pair asks for nothing: no unpacking."""
        return job_id not in self._not_over and job_id in self._ids(_content(video_sha256, audio_sha256))

    def of_content(self, video_sha256: str, audio_sha256: str) -> Iterator[Job]:
        for job_id in self._ids(_content(video_sha256, audio_sha256)):
            job = _job(self._rows(self._box_of[job_id])[job_id])
            if (job.video.sha256, job.audio.sha256) == (video_sha256, audio_sha256):
                yield job

    def __iter__(self) -> Iterator[Job]:
        for box in (*self._boxes, 0):
            yield from map(_job, self._rows(box).values())

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._box_of

    def _close_box(self) -> None:
        self._boxed += 1
        self._boxes[self._boxed] = pack(self._filling)
        self._box_of.update(dict.fromkeys(self._filling, self._boxed))
        self._filling.clear()

    def _unbox(self, job_id: int) -> None:
        rows = self._rows(box := self._box_of.pop(job_id))
        del rows[job_id]
        if box and rows:
            self._boxes[box] = pack(rows)
        elif box:
            del self._boxes[box]

    def _rows(self, box: int) -> dict[int, _Row]:
        if not box:
            return self._filling
        if self._last is None or self._last[0] != box:
            self._last = (box, unpack(self._boxes[box]))
        return self._last[1]

    def _ids(self, content: int) -> tuple[int, ...]:
        ids = self._by_content.get(content, ())
        return (ids,) if isinstance(ids, int) else ids

    def _set_content(self, content: int, ids: tuple[int, ...]) -> None:
        if ids:
            self._by_content[content] = ids[0] if len(ids) == 1 else ids
        else:
            self._by_content.pop(content, None)


def _pair(root: str, key: RelPath) -> int:
    return hash((root, key))


def _content(video_sha256: str, audio_sha256: str) -> int:
    return hash((video_sha256, audio_sha256))


def _job(row: _Row) -> Job:
    plain, nested = row[: len(_PLAIN)], row[len(_PLAIN) : -1]
    return Job(
        **dict(zip(_PLAIN, plain, strict=True)),
        video=_source(*nested[:_SOURCE]),
        audio=_source(*nested[_SOURCE : 2 * _SOURCE]),
        options=Options(*nested[2 * _SOURCE :]),
        state=JobState(row[-1]),
    )


def _source(path: RelPath, size: int, mtime_ns: int, sha256: str) -> Source:
    return Source(path, Signature(size, mtime_ns), sha256)
