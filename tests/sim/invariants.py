"""What must hold: at every event and start of an action, now and then, at a clean stop, and at the end.

Judged from the world's side wherever that is possible: by what the service was sent, what lies on the shares and what
the ledger holds, not by what the daemon believes. The table of the invariants stands in the package's docstring.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from chamelaion_watch import status
from chamelaion_watch.core import gate
from chamelaion_watch.core.errors import AccountProblem, QuotaExhausted, Transient
from chamelaion_watch.core.lifecycle import FINAL, NEEDS_A_PERSON
from chamelaion_watch.core.messages import (
    Action,
    Deliver,
    Event,
    LookUp,
    Poll,
    ProbeAccount,
    RemoveFiles,
    SpoolResult,
    Submit,
    WriteNote,
)
from chamelaion_watch.core.model import Job, JobState, Millis, RelPath
from chamelaion_watch.core.world import World
from tests.sim.broken import Broken
from tests.sim.disk import sha
from tests.sim.service import SECRET

if TYPE_CHECKING:
    from tests.sim.life import Life

MINUTE_MS = 60_000
LOOK_EVERY = 50  # ticks: what people would be shown is read
REQUESTS = (Submit, LookUp, Poll, ProbeAccount, Deliver, SpoolResult)
GLOBAL_CODES = {"rate_limited", "quota_exhausted", "unauthorized"}  # everybody waits: nobody's failure
FETCHING = (Deliver, SpoolResult)


class Invariants:
    """What one life is held to."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self.promised_until: Millis = 0  # for every request
        self._quota_until: Millis = 0  # for submissions
        self._submissions: list[Millis] = []
        self._canaries: set[int] = set()
        self._looks = random.Random(f"looks {life.seed}")

    # -- when it matters ------------------------------------------------------------------------------

    def forget_times(self) -> None:
        """The wall clock went ahead before a start: a promise that is stored by the wall clock cannot be known any more."""
        self.promised_until = self._quota_until = 0
        self._submissions.clear()

    def booted(self) -> None:
        self._canaries.clear()

    def heard(self, events: Iterable[Event]) -> Millis:
        """Remember what the service asked for (I7); returns what was promised before."""
        before = self.promised_until
        for event in events:
            error = getattr(event, "error", None)
            if not isinstance(error, AccountProblem | Transient) or error.code == "media_host":  # its own business
                continue
            if error.retry_after_s is None:
                continue
            until = self._life.clock.at + round(error.retry_after_s * 1000)
            if isinstance(error, QuotaExhausted):  # which lets polls pass
                self._quota_until = max(self._quota_until, until)
            else:
                self.promised_until = max(self.promised_until, until)
        return before

    def starts(self, action: Action) -> None:
        """An action is about to be carried out."""
        self._check_promise(action)
        self._check_probes(action)
        if isinstance(action, Submit):
            self._check_submission(action)

    def published(self, root: str, path: RelPath, sha256: str) -> None:
        """A name on a share shows a file from now on (I4)."""
        if sha256 not in self._right():
            raise Broken(f"I4: wrong content in {root}/{path}")

    def ticked(self, world: World) -> None:
        """Now and then, look as a person would: everything that waits says why (I2)."""
        if self._looks.randrange(LOOK_EVERY):
            return
        lines = status.snapshot(world, pid=1, started_at=0)["pairs"]
        for line in lines:
            if not line["reason"] and line["state"] != JobState.SUBMITTING and not self._is_under_way(world, line):
                raise Broken(f"I2: {line['name']} is {line['state']} for no reason that anybody is told")
        if SECRET in str(lines):
            raise Broken("I6: a link with its signature is shown")

    def stopped(self, world: World) -> None:
        """A process ended by itself, with everything that leaves traces at its end (I5)."""
        own = {
            path
            for root in self._life.roots.values()
            for path in root.temps
            if root.writers.get(path) is self._life.effects
        }
        if own and not any(isinstance(action, (*FETCHING, WriteNote, RemoveFiles)) for action in world.running):
            raise Broken(f"I5: temps are left by a clean stop: {sorted(own)}")

    def ended(self) -> None:
        """Everything has settled."""
        self._check_money()
        self._check_outputs()
        self._check_pairs()
        self._check_notes()
        self._check_secrets()
        if self._life.spool:
            raise Broken(f"I5: results are left in the spool: {self._life.spool}")
        if not self._life.ledger.is_sound():
            raise Broken("I10: the ledger is damaged")

    # -- at every moment ------------------------------------------------------------------------------

    def _check_promise(self, action: Action) -> None:
        is_local = isinstance(action, Deliver) and (action.copies or action.spooled)
        until = max(self.promised_until, self._quota_until if isinstance(action, Submit) else 0)
        if isinstance(action, REQUESTS) and not is_local and self._life.clock.at < until:
            wait_s = (until - self._life.clock.at) / 1000
            raise Broken(f"I7: {type(action).__name__} {wait_s:.1f} s inside a promised Retry-After")

    def _check_probes(self, action: Action) -> None:
        running = self._life.daemon.world.running
        if isinstance(action, ProbeAccount) and sum(isinstance(one, ProbeAccount) for one in running) > 1:
            raise Broken("I7: two probes of the account")

    def _check_submission(self, action: Submit) -> None:
        life = self._life
        world, rpm = life.daemon.world, life.policy.requests_per_minute
        self._submissions.append(life.clock.at)
        if len(self._submissions) > rpm and life.clock.at - self._submissions[-rpm - 1] < MINUTE_MS:
            raise Broken(f"I7: more than {rpm} submissions in a minute")
        if len(life.effects.uploads.sending) >= life.policy.uploads:
            raise Broken(f"more than {life.policy.uploads} uploads at once")
        if world.in_flight() > gate.in_flight_limit(world.gate, life.policy):
            raise Broken(f"{world.in_flight()} in flight")
        self._check_canary(action, world)
        if action.job.sent_at is None or life.ledger.job(action.job.id) != action.job:
            raise Broken("I1: a submission that is not in the ledger")

    def _check_canary(self, action: Submit, world: World) -> None:
        # A canary that is still under way when the gate closes once more says nothing of this closing.
        running = {
            one.job.id for one in world.running if isinstance(one, Submit) and one.decided_at > world.gate.since_at
        }
        self._canaries &= running
        if world.gate.is_half_open or not world.gate.is_open:
            if self._canaries - {action.job.id}:
                raise Broken(f"I7: two canaries: {self._canaries} and {action.job.id}")
            self._canaries.add(action.job.id)

    def _is_under_way(self, world: World, line: dict[str, object]) -> bool:
        job = world.book.get(line["job"]) if isinstance(line["job"], int) else None
        return job is not None and any(isinstance(one, FETCHING) and one.job.id == job.id for one in world.running)

    # -- at the end -----------------------------------------------------------------------------------

    def _right(self) -> set[str]:
        runs = self._life.service.by_run.values()
        return {sha(video + audio) for contents in runs for video, audio in contents}

    def _check_money(self) -> None:
        life = self._life
        runs: Counter[tuple[str, str]] = Counter()
        for reference, contents in life.service.by_run.items():
            if len(contents) > 1:
                raise Broken(f"I1: paid {len(contents)} times for {reference}")
            runs[contents[0]] += 1
        for content, count in runs.items():
            if count > 1 + life.people:
                raise Broken(f"I1: paid {count} times for one content, asked for {life.people} times more: {content}")

    def _check_outputs(self) -> None:
        right = self._right()
        for root in self._life.roots.values():
            if root.temps:
                raise Broken(f"I5: temps are left: {root.temps}")
            for path, sha256 in root.outputs.items():
                if sha256 not in right:
                    raise Broken(f"I4: wrong content in {path}")

    def _check_pairs(self) -> None:
        """What lies on the shares, not what the daemon has seen of it: each pair is done, noted, or cancelled (I2)."""
        world = self._life.daemon.world
        for name, key in self._lying():
            folder = world.folders[name]
            folder.wake(key, world.now)
            pair, job = folder.pairs.get(key), world.book.newest(name, key)
            sources = folder.sources(pair) if pair else None
            if job is None or sources is None:
                raise Broken(f"I2: {name}/{key}: no job")
            root = self._life.roots[name]
            lying = (root.media[f"{key}.mp4"].sha256, root.media[f"{key}.wav"].sha256)
            if (job.video.sha256, job.audio.sha256) != lying:
                raise Broken(f"I2: {key}: job {job.id} {job.state} is about other content")
            self._check_job(name, job)

    def _lying(self) -> Iterator[tuple[str, RelPath]]:
        for name, root in self._life.roots.items():
            for path in sorted(root.media):
                if path.endswith(".mp4") and f"{path[:-4]}.wav" in root.media:
                    yield name, path[:-4]

    def _check_job(self, root: str, job: Job) -> None:
        life = self._life
        if job.state is JobState.DONE:
            if job.output_sha256 != sha(job.video.sha256 + job.audio.sha256):
                raise Broken(f"I4: job {job.id}: the output of other content")
            there = life.roots[root].outputs.get(job.output or "", job.output_sha256)  # a person may take it away
            if there != job.output_sha256:
                raise Broken(f"I4: job {job.id}: {job.output} is not its output")
        elif job.state is JobState.CANCELLED:
            if (job.video.sha256, job.audio.sha256) not in life.cancelled:
                raise Broken(f"I2: job {job.id}: cancelled, and nobody asked ({job.code}: {job.message})")
        elif job.state is JobState.DOUBTFUL:
            is_cancelled = (job.video.sha256, job.audio.sha256) in life.cancelled  # … in doubt, as another pair
            if job.reference_id not in life.service.unknown and not is_cancelled:
                raise Broken(f"I2: job {job.id}: doubtful, and the service never forgot it for as long as the grace")
        elif job.state is not JobState.FAILED:
            raise Broken(f"I9: job {job.id}: {job.state} at the end")
        elif job.code in GLOBAL_CODES:
            raise Broken(f"I2: job {job.id}: failed for what everybody waits for: {job.code}")

    def _check_notes(self) -> None:
        """A note for each job that needs a person, and no other (I2)."""
        life = self._life
        world = life.daemon.world
        wanted = {
            f"job:{job.id}" for job in world.book.of(*NEEDS_A_PERSON) if world.book.newest(job.root, job.key) is job
        }
        for (root, subject), note in world.notes.items():
            if subject.startswith("job:") and subject not in wanted:
                raise Broken(f"I2: {subject} has a note and no reason for it")
            for path in note.paths:
                if path not in life.roots[root].notes and (root, path) not in life.deleted_notes:
                    raise Broken(f"I2: {path} is not there")
        for subject in wanted - {subject for _, subject in world.notes}:
            raise Broken(f"I2: {subject} has failed without a note")
        for name, root_ in life.roots.items():
            known = {path for (root, _), note in world.notes.items() if root == name for path in note.paths}
            if set(root_.notes) - known:
                raise Broken(f"I2: notes that nobody knows of: {sorted(set(root_.notes) - known)}")
        if any(job.state in FINAL for job in world.book.open()):
            raise Broken("a final job counts as open")

    def _check_secrets(self) -> None:
        """No signed link in the ledger or in a note (I6)."""
        secret = SECRET.encode()
        stored = [path.read_bytes() for path in self._life.state_folder.iterdir() if path.is_file()]
        told = [note for root in self._life.roots.values() for note in root.notes.values()]
        if any(secret in text for text in (*stored, *told)):
            raise Broken("I6: a link with its signature was stored")
