"""Finished jobs, packed: nothing is left to do, but a pair that comes back must find the run that it was paid with.

A job in memory takes 2 kB, here 0.5 kB; 50,000 are what a busy folder leaves in a year or two. They are found by their
pair and by their content, through hashes, and compared when they are unpacked.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter

from chamelaion_watch.core.model import Job, JobState, Options, RelPath, Signature, Source

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
_LEVEL = 1  # a fifth larger than at best, in a third of the time


@dataclass(slots=True)
class Shelf:
    """Packed jobs by id, by pair (the newest), by content."""

    counts: Counter[JobState] = field(default_factory=Counter)
    _packed: dict[int, bytes] = field(default_factory=dict)
    _by_pair: dict[int, int] = field(default_factory=dict)
    _by_content: dict[int, int | tuple[int, ...]] = field(default_factory=dict)  # most contents have one job

    def put(self, job: Job) -> None:
        """Take in a job that is not here."""
        self._packed[job.id] = _packed(job)
        self.counts[job.state] += 1
        pair, content = _pair(job.root, job.key), _content(job.video.sha256, job.audio.sha256)
        self._by_pair[pair] = max(job.id, self._by_pair.get(pair, 0))
        self._set_content(content, (*self._ids(content), job.id))

    def take(self, job_id: int) -> Job | None:
        """Take a job out, which is not finished any more; None if it is not here."""
        job = self.get(job_id)
        if job is None:
            return None
        del self._packed[job_id]
        self.counts[job.state] -= 1
        pair, content = _pair(job.root, job.key), _content(job.video.sha256, job.audio.sha256)
        if self._by_pair.get(pair) == job_id:
            del self._by_pair[pair]
        self._set_content(content, tuple(other for other in self._ids(content) if other != job_id))
        return job

    def get(self, job_id: int) -> Job | None:
        packed = self._packed.get(job_id)
        return None if packed is None else _unpacked(packed)

    def newest(self, root: str, key: RelPath) -> int | None:
        """Return the id of a pair's newest job here."""
        return self._by_pair.get(_pair(root, key))

    def of_content(self, video_sha256: str, audio_sha256: str) -> Iterator[Job]:
        for job_id in self._ids(_content(video_sha256, audio_sha256)):
            job = _unpacked(self._packed[job_id])
            if (job.video.sha256, job.audio.sha256) == (video_sha256, audio_sha256):
                yield job

    def _ids(self, content: int) -> tuple[int, ...]:
        ids = self._by_content.get(content, ())
        return (ids,) if isinstance(ids, int) else ids

    def _set_content(self, content: int, ids: tuple[int, ...]) -> None:
        if ids:
            self._by_content[content] = ids[0] if len(ids) == 1 else ids
        else:
            self._by_content.pop(content, None)

    def __iter__(self) -> Iterator[Job]:
        return map(_unpacked, self._packed.values())

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._packed


def _pair(root: str, key: RelPath) -> int:
    return hash((root, key))


def _content(video_sha256: str, audio_sha256: str) -> int:
    return hash((video_sha256, audio_sha256))


def _packed(job: Job) -> bytes:
    return zlib.compress(json.dumps([*_plain_of(job), *_nested_of(job), job.state]).encode("ascii"), _LEVEL)


def _unpacked(packed: bytes) -> Job:
    values = json.loads(zlib.decompress(packed))
    plain, nested = values[: len(_PLAIN)], values[len(_PLAIN) : -1]
    return Job(
        **dict(zip(_PLAIN, plain, strict=True)),
        video=_source(*nested[:_SOURCE]),
        audio=_source(*nested[_SOURCE : 2 * _SOURCE]),
        options=Options(*nested[2 * _SOURCE :]),
        state=JobState(values[-1]),
    )


def _source(path: RelPath, size: int, mtime_ns: int, sha256: str) -> Source:
    return Source(path, Signature(size, mtime_ns), sha256)
