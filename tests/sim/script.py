"""What a seed does to its life: how people drop, replace, move and retry, and which faults there are."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

from chamelaion_watch.core.model import JobState
from chamelaion_watch.core.policy import Policy
from chamelaion_watch.sandbox.limits import Limits
from tests.sim import odds
from tests.sim.clock import START
from tests.sim.counts import Counts
from tests.sim.disk import SimFile, SimRoot, sha
from tests.sim.faults import Faults
from tests.sim.life import MINUTE_MS, Life

LONGEST_FAULTS_MS = 30 * MINUTE_MS
CROWDED = 0.15


def live(
    seed: int,
    folder: Path,
    trace: Callable[[str], None] | None = None,
    *,
    is_narrow: bool = False,
    counts: Counts | None = None,
) -> Life:
    """Live the life of a seed; raises Broken. `counts` gets what it contained, however it ends."""
    rng, more = random.Random(f"script {seed}"), random.Random(f"more {seed}")
    life = Life(
        seed,
        folder,
        policy=_policy(rng),
        limits=_limits(rng),
        odds=odds.drawn(rng),
        roots=rng.choice([1, 1, 2]),
        is_narrow=is_narrow,
        trace=trace,
    )
    faults_ms = rng.randrange(2 * MINUTE_MS, LONGEST_FAULTS_MS)
    Script(life, rng, faults_ms).write()
    if not is_narrow:
        odds.widen(life.odds, more)
        Faults(life, more, faults_ms).write()
        Script(life, more, faults_ms).crowd()
    try:
        life.run(START + faults_ms)
    finally:
        if counts is not None:
            counts.add(life.counts)
    return life


def _policy(rng: random.Random) -> Policy:
    return Policy(
        requests_per_minute=rng.choice([60, 60, 10, 3]),
        max_in_flight=rng.choice([8, 8, 3, 1]),
        uploads=rng.choice([1, 2, 4]),
    )


def _limits(rng: random.Random) -> Limits:
    processing: list[float | tuple[float, float]] = [2.0, (5.0, 90.0), (200.0, 900.0)]
    return Limits(
        rpm=rng.choice([None, 60, 5]),
        window=rng.choice(["sliding", "fixed"]),
        cap=rng.choice([None, None, 1, 3]),
        quota=rng.choice([None, None, None, 0, 2]),
        queue_s=(0.5, 20.0),
        processing_s=rng.choice(processing),
    )


class Script:
    """Writes a life's schedule."""

    def __init__(self, life: Life, rng: random.Random, faults_ms: int) -> None:
        self._life = life
        self._rng = rng
        self._until_ms = faults_ms
        self._versions = 0

    def write(self) -> None:
        rng = self._rng
        for number in range(rng.randrange(1, 5)):
            name, root = f"p{number}", rng.choice(list(self._life.roots))
            self._at(rng.randrange(0, 2 * MINUTE_MS), partial(self._drop, root, name))
        for _ in range(rng.randrange(0, 8)):
            self._anywhen(rng.choice(self._deeds()))
        faults = Faults(self._life, rng, self._until_ms)
        for fault in (faults.outage, faults.revoke, faults.unwell, faults.fill, faults.refill, self._life.stop):
            if rng.random() < 0.25:
                self._anywhen(fault)

    def crowd(self) -> None:
        """Now and then so many pairs at once that polls go by the list."""
        if self._rng.random() < CROWDED:
            for number in range(self._rng.randrange(4, 9)):
                root = self._rng.choice(list(self._life.roots))
                self._at(self._rng.randrange(20_000), partial(self._drop, root, f"q{number}"))

    def _deeds(self) -> list[Callable[[], None]]:
        return [
            self._replace,
            self._replace,
            self._touch,
            self._remove,
            self._copy,
            self._swap_back,
            self._delete_note,
            self._retry,
            self._cancel,
            self._pause,
            self._take_away,
            self._rename,
        ]

    def _at(self, ms: int, what: Callable[[], None]) -> None:
        def done() -> None:
            self._life.disturbed()
            what()

        self._life.schedule.after(ms, done)

    def _anywhen(self, what: Callable[[], None]) -> None:
        self._at(self._rng.randrange(self._until_ms), what)

    # -- files ----------------------------------------------------------------------------------------

    def _content(self, name: str) -> str:
        self._versions += 1
        return f"{name} version {self._versions}"

    def _drop(self, root: str, name: str) -> None:
        for ending, late_ms in ((".mp4", 0), (".wav", self._rng.choice([0, 500, 70_000]))):
            self._at(late_ms, partial(self._copy_in, root, f"{name}{ending}"))

    def _copy_in(self, root: str, path: str) -> None:
        """A copy that grows, and is whole after a while; a pause inside it now and then."""
        file = SimFile(self._content(path), 2_000, self._mtime(), is_whole=False, is_silent=self._rng.random() < 0.05)
        self._put(root, path, file)
        at = 0
        for _ in range(self._rng.randrange(4)):
            at += self._rng.choice([300, 2_000, 8_000])
            self._at(at, lambda: self._grow(root, file))
        self._at(at + 500, lambda: self._grow(root, file, is_whole=True))

    def _put(self, root: str, path: str, file: SimFile) -> None:
        self._life.say(f"person: {root}/{path} is {file.content}")
        self._life.roots[root].media[path] = file
        self._life.hint(root)

    def _grow(self, root: str, file: SimFile, *, is_whole: bool = False) -> None:
        file.size += 1_000
        file.mtime_ns = self._mtime()
        file.is_whole = is_whole
        self._life.hint(root)

    def _mtime(self) -> int:
        return self._life.clock.at * 1_000_000 + self._rng.randrange(1_000)

    def _some(self) -> tuple[SimRoot, str] | None:
        found = [(root, path) for root in self._life.roots.values() for path in sorted(root.media)]
        return self._rng.choice(found) if found else None

    def _replace(self) -> None:
        """New content under the name: by a rename over it, or written in place."""
        if some := self._some():
            root, path = some
            file, content = root.media[path], self._content(path)
            self._life.counts.replaced += 1
            if self._rng.random() < 0.5:
                self._put(root.name, path, SimFile(content, file.size, self._mtime()))
                return
            self._life.say(f"person: {root.name}/{path} is rewritten as {content}")
            file.content, file.is_whole, file.mtime_ns = content, False, self._mtime()
            self._at(3_000, lambda: self._grow(root.name, file, is_whole=True))

    def _swap_back(self) -> None:
        """New content, and later the old one again."""
        if some := self._some():
            root, path = some
            old = root.media[path].content
            self._life.counts.replaced += 2
            self._put(root.name, path, SimFile(self._content(path), 7_000, self._mtime()))
            back = self._rng.choice([1_000, 40_000, 300_000])
            self._at(back, lambda: self._put(root.name, path, SimFile(old, 7_500, self._mtime())))

    def _touch(self) -> None:
        if some := self._some():
            some[0].media[some[1]].mtime_ns = self._mtime()

    def _remove(self) -> None:
        if some := self._some():
            root, path = some
            file = root.media.pop(path)
            self._life.say(f"person: {root.name}/{path} is removed")
            self._life.hint(root.name)
            if self._rng.random() < 0.7:
                self._at(self._rng.choice([500, 20_000, 200_000]), lambda: self._put(root.name, path, file))

    def _pair(self) -> tuple[SimRoot, str] | None:
        found = [
            (root, path[:-4])
            for root in self._life.roots.values()
            for path in sorted(root.media)
            if path.endswith(".mp4") and f"{path[:-4]}.wav" in root.media
        ]
        return self._rng.choice(found) if found else None

    def _copy(self) -> None:
        """The same pair under another name, perhaps in another folder."""
        if pair := self._pair():
            root, stem = pair
            other = self._rng.choice(list(self._life.roots))
            for ending in (".mp4", ".wav"):
                file = root.media[stem + ending]
                twin = SimFile(file.content, file.size, self._mtime(), is_silent=file.is_silent)
                self._put(other, f"{stem}-twin{self._versions}{ending}", twin)

    def _rename(self) -> None:
        if pair := self._pair():
            root, stem = pair
            for ending in (".mp4", ".wav"):
                self._put(root.name, f"{stem}-moved{ending}", root.media.pop(stem + ending))

    def _take_away(self) -> None:
        for root in self._life.roots.values():
            if root.outputs:
                path = self._rng.choice(sorted(root.outputs))
                self._life.say(f"person: takes {path} away")
                del root.outputs[path]

    # -- wishes ---------------------------------------------------------------------------------------

    def _delete_note(self) -> None:
        for root in self._life.roots.values():
            if root.notes:
                path = self._rng.choice(sorted(root.notes))
                self._life.say(f"person: deletes {path}")
                self._life.people += 1
                self._life.counts.wishes += 1
                self._life.deleted_notes.add((root.name, path))
                del root.notes[path]

    def _retry(self) -> None:
        self._life.people += 1
        self._life.wish("retry", failed="1")

    def _cancel(self) -> None:
        jobs = [job for job in self._life.jobs() if job.state is not JobState.DONE]
        if jobs:
            job = self._rng.choice(jobs)
            self._life.cancelled.add((job.video.sha256, job.audio.sha256))
            self._life.wish("cancel", job=str(job.id))

    def _pause(self) -> None:
        root = self._rng.choice([None, *self._life.roots])
        args = {} if root is None else {"folder": root}
        self._life.wish("pause", **args)
        self._at(self._rng.randrange(1_000, 600_000), lambda: self._life.wish("resume", **args))


def content_of(video: str, audio: str) -> str:
    """The SHA-256 that the service's result for two contents has."""
    return sha(sha(video) + sha(audio))
