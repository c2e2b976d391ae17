"""One life: a daemon with its real tick and its real ledger between a simulated share, service and people.

A life has a time of faults and then peace; when everything has settled the invariants are checked. What must hold
at every moment is checked when an action starts. Everything follows from the seed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from chamelaion_watch.core import gate
from chamelaion_watch.core.errors import Throttled, Transient
from chamelaion_watch.core.lifecycle import FINAL, NEEDS_A_PERSON
from chamelaion_watch.core.messages import Action, Deliver, Event, Hint, LookUp, Poll, ProbeAccount, StopAsked, Submit
from chamelaion_watch.core.model import Job, JobState, Millis
from chamelaion_watch.core.pairing import PairingRules
from chamelaion_watch.core.planner import waiting_reason
from chamelaion_watch.core.policy import FolderPolicy, Policy
from chamelaion_watch.daemon import Daemon
from chamelaion_watch.edges.ledger.sqlite import SqliteLedger
from chamelaion_watch.restore import restore
from chamelaion_watch.sandbox.limits import Limits
from tests.sim.clock import START, Schedule, SimClock
from tests.sim.disk import SimRoot, sha
from tests.sim.effects import Broken, Crash, SimEffects
from tests.sim.service import Odds, SimService

MINUTE_MS = 60_000
SETTLE_WITHIN_MS = 8 * 60 * MINUTE_MS  # after the faults have stopped
MOST_TICKS = 40_000
STOP_WITHIN_MS = 8_000


class Life:
    """A world and what happens in it; `trace` gets a line for everything."""

    def __init__(
        self,
        seed: int,
        folder: Path,
        *,
        policy: Policy | None = None,
        limits: Limits | None = None,
        odds: Odds | None = None,
        roots: int = 1,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.clock = SimClock(self.rng)
        self.schedule = Schedule(self.clock)
        self.odds = odds or Odds()
        self.service = SimService(self.rng, self.clock, self.schedule, self.odds, limits or Limits(rpm=None))
        self.roots = {name: SimRoot(name) for name in ("a", "b")[:roots]}
        self.policy = policy or Policy()
        self.people = 0  # wishes that may cost money: retries, deleted notes
        self.cancelled: set[tuple[str, str]] = set()  # contents that a person cancelled
        self.boots = 0
        self.ended: list[Job] = []  # all jobs, as they are in the ledger at the end
        self._trace = trace
        self._folder = folder
        self._daemon: Daemon | None = None
        self._ledger: SqliteLedger | None = None
        self._effects: SimEffects | None = None
        self._wake_at: Millis = 0
        self._stop_by: Millis | None = None
        self._promised_until: Millis = 0
        self._submissions: list[Millis] = []
        self._canaries: set[int] = set()
        self._wishes: SqliteLedger | None = None

    # -- what the script may do -----------------------------------------------------------------------

    @property
    def daemon(self) -> Daemon:
        assert self._daemon is not None
        return self._daemon

    @property
    def ledger(self) -> SqliteLedger:
        assert self._ledger is not None
        return self._ledger

    def say(self, text: str) -> None:
        if self._trace is not None:
            self._trace(f"{(self.clock.at - START) / 1000:10.3f} {text}")

    def hint(self, root: str) -> None:
        """The share tells of a change, if it tells of any."""
        if self._daemon is not None and self.roots[root].has_events and self.rng.random() < 0.8:
            self._daemon.post(Hint(root))

    def wish(self, verb: str, **args: str) -> None:
        """A person types a command, in a process of their own."""
        self.say(f"person: {verb} {args}")
        if self._wishes is None:
            self._wishes = SqliteLedger(self._folder)
        self._wishes.add_command(verb, args, self.clock.at)
        self.schedule.after(1_000, lambda: None)  # the loop looks for commands each second

    def jobs(self) -> list[Job]:
        return self._daemon.world.book.open() if self._daemon is not None else []

    def states(self) -> dict[JobState, int]:
        """How many jobs ended how."""
        return dict(Counter(job.state for job in self.ended))

    # -- living ---------------------------------------------------------------------------------------

    def run(self, peace_at: Millis, begin_peace: Callable[[], None] = lambda: None) -> None:
        """Live through the faults, then until everything has settled; raises Broken."""
        try:
            self.boot()
            self._live_until(lambda: self.clock.at >= peace_at, peace_at)
            self.say("peace")
            self._make_peace()
            begin_peace()
            latest = self.clock.at + SETTLE_WITHIN_MS
            quiet_from = self.clock.at + 3 * MINUTE_MS  # two sweeps, whatever happens
            self._live_until(lambda: self.clock.at >= quiet_from and self.is_settled(), latest)
            if not self.is_settled():
                raise Broken(f"not settled {SETTLE_WITHIN_MS // MINUTE_MS} min after the faults: {self._unsettled()}")
            self._check_the_end()
            self.ended = self.ledger.jobs()
        finally:
            self._close()

    def is_settled(self) -> bool:
        if self._daemon is None or self._stop_by is not None:
            return False
        world = self.daemon.world
        return (
            not world.book.of(JobState.QUEUED, JobState.SUBMITTING, JobState.RENDERING, JobState.RENDERED)
            and all(folder.is_ok and folder.is_scanned for folder in world.folders.values())
            and all(file.source for folder in world.folders.values() for file in folder.files.values())
            and not any(folder.temps for folder in world.folders.values())
            and not world.is_notes_due
            and not world.running
        )

    def boot(self) -> None:
        self.boots += 1
        self.say("boot")
        self._ledger = SqliteLedger(self._folder)
        world = restore(self._ledger, self.policy, [folder_policy(name) for name in self.roots], now=self.clock.at)
        self._daemon = Daemon(world, self._ledger, self.clock)
        self._effects = SimEffects(self.rng, self.clock, self.schedule, self.roots, self.service)
        self._effects.post = self._heard
        self._effects.watch = self._check_start
        self._daemon.effects = self._effects
        self._wake_at, self._stop_by = 0, None
        self._canaries.clear()

    def crash(self) -> None:
        """The process dies; it is started again."""
        if self._daemon is None or self._effects is None or self._ledger is None:
            return
        self.say("crash")
        self._effects.die()
        self._ledger.close()
        self._daemon = self._effects = self._ledger = None
        self.schedule.after(self.rng.choice([100, 3_000, 30_000]), self.boot)

    def stop(self) -> None:
        """A person restarts the service."""
        if self._daemon is not None and self._stop_by is None:
            self.say("stop")
            self._daemon.post(StopAsked("sim"))

    def _heard(self, event: Event) -> None:
        if self._daemon is not None:
            self._daemon.post(event)

    def _live_until(self, is_over: Callable[[], bool], latest: Millis) -> None:
        for _ in range(MOST_TICKS):
            if is_over() or self.clock.at >= latest:
                return
            times = [self.schedule.next_at(), self._wake_at if self._daemon else None, latest]
            self.clock.at = max(self.clock.at, min(at for at in times if at is not None))
            self.schedule.run_due()
            if self._daemon is not None:
                self._turn(self._daemon)
        raise Broken(f"a busy loop: {MOST_TICKS} turns without an end; {self._unsettled()}")

    def _turn(self, daemon: Daemon) -> None:
        events = daemon._wait(0)
        if not events and self.clock.at < self._wake_at and not self.ledger.has_news():
            return None
        assert self._effects is not None
        fate = self.rng.random() < self.odds.crash and self.rng.choice(["before", "within", "after"])
        if fate == "before":
            return self.crash()
        for event in events:
            self._remember_promise(event)
        self._effects.crash_in = self.rng.randrange(3) if fate == "within" else None
        try:
            self._wake_at = daemon.tick(events)
        except Crash:
            return self.crash()
        for event in events:
            self.say(f"  {_shown(event)}")
        if fate:
            return self.crash()
        return self._stop_if_asked(daemon)

    def _stop_if_asked(self, daemon: Daemon) -> None:
        assert self._effects is not None
        if daemon.world.is_stopping and self._stop_by is None:
            self._stop_by = self.clock.at + STOP_WITHIN_MS
            self._effects.stop()
        if self._stop_by is not None:
            if daemon._may_leave(self._stop_by):
                self.crash()
            else:
                self._wake_at = min(self._wake_at, self.clock.at + 1_000)

    def _make_peace(self) -> None:
        for name in vars(self.odds):
            setattr(self.odds, name, 0.0)
        self.service.is_key_good, self.service.is_down = True, False
        self.service.service.limits = self.service.service.limits.changed({"quota": None})
        for root in self.roots.values():
            root.is_full = False
            root.health = type(root.health).OK
        self.wish("resume")
        for name in self.roots:
            self.wish("resume", folder=name)

    def _close(self) -> None:
        for ledger in (self._ledger, self._wishes):
            if ledger is not None:
                ledger.close()

    # -- at every moment ------------------------------------------------------------------------------

    def _remember_promise(self, event: Event) -> None:
        error = getattr(event, "error", None)
        if isinstance(error, Throttled | Transient) and error.retry_after_s is not None:
            self._promised_until = max(self._promised_until, self.clock.at + round(error.retry_after_s * 1000))

    def _check_start(self, action: Action) -> None:
        self.say(f"  start {_shown(action)}")
        is_request = isinstance(action, Submit | LookUp | Poll | ProbeAccount | Deliver)
        if is_request and self.clock.at < self._promised_until and not (isinstance(action, Deliver) and action.copies):
            wait_s = (self._promised_until - self.clock.at) / 1000
            raise Broken(f"{type(action).__name__} {wait_s:.1f} s inside a promised Retry-After")
        if isinstance(action, Submit):
            self._check_submission(action)

    def _check_submission(self, action: Submit) -> None:
        assert self._effects is not None
        world, rpm = self.daemon.world, self.policy.requests_per_minute
        self._submissions.append(self.clock.at)
        if len(self._submissions) > rpm and self.clock.at - self._submissions[-rpm - 1] < MINUTE_MS:
            raise Broken(f"more than {rpm} submissions in a minute")
        if self._effects.sending >= self.policy.uploads:
            raise Broken(f"more than {self.policy.uploads} uploads at once")
        if world.in_flight() > gate.in_flight_limit(world.gate, self.policy):
            raise Broken(f"{world.in_flight()} in flight")
        # A canary that is still under way when the gate closes once more says nothing of this closing.
        running = {
            one.job.id for one in world.running if isinstance(one, Submit) and one.decided_at > world.gate.since_at
        }
        self._canaries &= running
        if gate.needs_canary(world.gate):
            if self._canaries - {action.job.id}:
                raise Broken(f"two canaries: {self._canaries} and {action.job.id}")
            self._canaries.add(action.job.id)
        if action.job.sent_at is None or self.ledger.job(action.job.id) != action.job:
            raise Broken("a submission that is not in the ledger")

    # -- at the end -----------------------------------------------------------------------------------

    def _unsettled(self) -> str:
        if self._daemon is None:
            return "no daemon"
        world = self.daemon.world
        jobs = [f"{job.id} {job.key} {job.state} {waiting_reason(world, job)[0]}" for job in world.book.open()]
        files = [
            f"{path} {file.state} {file.verdict and file.verdict.reason}"
            for folder in world.folders.values()
            for path, file in folder.files.items()
            if file.source is None
        ]
        running = [type(action).__name__ for action in world.running]
        temps = [sorted(folder.temps) for folder in world.folders.values() if folder.temps]
        return f"{jobs} {files} running {running} {world.gate} notes due {world.is_notes_due} temps {temps}"

    def _check_the_end(self) -> None:
        self._check_money()
        self._check_outputs()
        self._check_pairs()
        self._check_notes()
        if not self.ledger.is_sound():
            raise Broken("the ledger is damaged")

    def _check_money(self) -> None:
        runs: Counter[tuple[str, str]] = Counter()
        for reference, contents in self.service.by_run.items():
            if len(contents) > 1:
                raise Broken(f"paid {len(contents)} times for {reference}")
            runs[contents[0]] += 1
        for content, count in runs.items():
            if count > 1 + self.people:
                raise Broken(f"paid {count} times for one content, asked for {self.people} times more: {content}")

    def _check_outputs(self) -> None:
        right = {sha(video + audio) for contents in self.service.by_run.values() for video, audio in contents}
        for root in self.roots.values():
            if root.temps:
                raise Broken(f"temps are left: {root.temps}")
            for path, sha256 in root.outputs.items():
                if sha256 not in right:
                    raise Broken(f"wrong content in {path}")

    def _check_pairs(self) -> None:
        world = self.daemon.world
        for name, folder in world.folders.items():
            for key, pair in folder.pairs.items():
                job, sources = world.book.newest(name, key), folder.sources(pair)
                if job is None or sources is None:
                    raise Broken(f"{key}: no job")
                if (job.video.sha256, job.audio.sha256) != (sources[0].sha256, sources[1].sha256):
                    raise Broken(f"{key}: job {job.id} {job.state} is about other content")
                self._check_job(name, job)

    def _check_job(self, root: str, job: Job) -> None:
        if job.state is JobState.DONE:
            if job.output_sha256 != sha(job.video.sha256 + job.audio.sha256):
                raise Broken(f"job {job.id}: the output of other content")
            there = self.roots[root].outputs.get(job.output or "", job.output_sha256)  # a person may take it away
            if there != job.output_sha256:
                raise Broken(f"job {job.id}: {job.output} is not its output")
        elif job.state is JobState.CANCELLED:
            if (job.video.sha256, job.audio.sha256) not in self.cancelled:
                raise Broken(f"job {job.id}: cancelled, and nobody asked ({job.code}: {job.message})")
        elif job.state not in NEEDS_A_PERSON:
            raise Broken(f"job {job.id}: {job.state} at the end")

    def _check_notes(self) -> None:
        world = self.daemon.world
        wanted = {f"job:{job.id}" for job in world.book.of(*NEEDS_A_PERSON) if _is_newest(self.daemon, job)}
        for (root, subject), note in world.notes.items():
            if subject.startswith("job:") and subject not in wanted:
                raise Broken(f"{subject} has a note and no reason for it")
            for path in note.paths:
                if path not in self.roots[root].notes:
                    raise Broken(f"{path} is not there")
        for subject in wanted - {subject for _, subject in world.notes}:
            raise Broken(f"{subject} has failed without a note")
        for name, root_ in self.roots.items():
            known = {path for (root, _), note in world.notes.items() if root == name for path in note.paths}
            if set(root_.notes) - known:
                raise Broken(f"notes that nobody knows of: {sorted(set(root_.notes) - known)}")
        if any(job.state in FINAL for job in world.book.open()):
            raise Broken("a final job counts as open")


def folder_policy(name: str) -> FolderPolicy:
    return FolderPolicy(
        name=name,
        path=f"/{name}",
        output="{dir}/{name}.lipsync.mp4",
        recursive=True,
        pairing=PairingRules((".mp4",), (".wav", ".mp3")),
    )


def _is_newest(daemon: Daemon, job: Job) -> bool:
    return daemon.world.book.newest(job.root, job.key) is job


def _shown(what: Action | Event) -> str:
    job = getattr(what, "job", None) or getattr(getattr(what, "action", None), "job", None)
    about = f" job {job.id} {job.key}" if isinstance(job, Job) else ""
    error = getattr(what, "error", None)
    more = "" if error is None else f" {error!r} may_be_taken={getattr(what, 'may_be_taken', '')}"
    if not about and not more:
        return str(what)[:300]
    return f"{type(what).__name__}{about}{more}"
