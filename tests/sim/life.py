"""One life: a daemon with its real tick and its real ledger between a simulated share, service and people.

A life has a time of faults and then peace; when everything has settled the invariants are checked. What must hold
at every moment is checked when an action starts. Everything follows from the seed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from chamelaion_watch.core.errors import LedgerUnavailable, OutputProblem, RootProblem
from chamelaion_watch.core.gate import Gate
from chamelaion_watch.core.messages import Action, Event, Hint, Spooled, StopAsked
from chamelaion_watch.core.model import Job, JobState, Millis, RelPath, RootState
from chamelaion_watch.core.pairing import PairingRules
from chamelaion_watch.core.policy import FolderPolicy, Policy
from chamelaion_watch.core.turns import waiting_reason
from chamelaion_watch.daemon import STOP_WITHIN_MS, Daemon
from chamelaion_watch.edges.ledger.sqlite import SqliteLedger
from chamelaion_watch.restore import restore
from chamelaion_watch.sandbox.limits import Limits
from tests.sim.broken import Broken, Crash
from tests.sim.clock import START, ProcessClock, Schedule, SimClock
from tests.sim.counts import Counts
from tests.sim.disk import SimRoot
from tests.sim.effects import SimEffects
from tests.sim.invariants import Invariants
from tests.sim.ledger import LedgerDisk, SimLedger
from tests.sim.odds import Odds
from tests.sim.service import SimService

MINUTE_MS = 60_000
SETTLE_WITHIN_MS = 8 * 60 * MINUTE_MS  # after the faults have stopped
MOST_TURNS = 60_000
LEDGER_RETRY_MS = 5_000  # service.LEDGER_RETRY_S; what imports that module takes longer to start than a life to live


class Life:
    """A world and what happens in it; `trace` gets a line for everything.

    A narrow life is one of the first simulation: without the faults that came later, nor any order but that of arrival.
    """

    def __init__(
        self,
        seed: int,
        folder: Path,
        *,
        policy: Policy | None = None,
        limits: Limits | None = None,
        odds: Odds | None = None,
        roots: int = 1,
        is_narrow: bool = False,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.seed = seed
        self.counts = Counts(lives=1)
        self.rng = random.Random(seed)
        self.clock = SimClock()
        self.schedule = Schedule(self.clock, None if is_narrow else random.Random(f"order {seed}"))
        self.odds = odds or Odds()
        limits = limits or Limits(rpm=None)
        self.service = SimService(seed, self.rng, self.clock, self.schedule, self.odds, limits, self.counts)
        self.roots = {name: SimRoot(name) for name in ("a", "b")[:roots]}
        self.ledger_disk = LedgerDisk(seed, self.odds, self.counts)
        self.policy = policy or Policy()
        self.people = 0  # wishes that may cost money: retries, deleted notes
        self.cancelled: set[tuple[str, str]] = set()  # contents that a person cancelled
        self.deleted_notes: set[tuple[str, RelPath]] = set()
        self.spool: dict[str, str] = {}  # the state folder's: reference id → content
        self.state_folder = folder
        self.ended: list[Job] = []  # all jobs, as they are in the ledger at the end
        self._trace = trace
        self._more = None if is_narrow else random.Random(f"effects {seed}")
        self._disk_rng = random.Random(f"disk {seed}")
        self._daemon: Daemon | None = None
        self._ledger: SimLedger | None = None
        self._effects: SimEffects | None = None
        self._process_clock = ProcessClock(self.clock, self.rng)
        self._wake_at: Millis = 0  # by the process's clock
        self._stop_by: Millis | None = None
        self._frozen_until: Millis = 0
        self._quiet_from: Millis = 0
        self._is_ahead = False  # the wall clock was put forward since the last start
        self._held: Gate | None = None  # of a session whose ledger failed
        self._wishes: SqliteLedger | None = None
        self._invariants = Invariants(self)
        for root in self.roots.values():
            root.trouble = self._disk_trouble
            root.on_publish = partial(self._invariants.published, root.name)

    # -- what the script may do -----------------------------------------------------------------------

    @property
    def daemon(self) -> Daemon:
        assert self._daemon is not None
        return self._daemon

    @property
    def effects(self) -> SimEffects:
        assert self._effects is not None
        return self._effects

    @property
    def ledger(self) -> SimLedger:
        assert self._ledger is not None
        return self._ledger

    @property
    def boots(self) -> int:
        return self.counts.boots

    def say(self, text: str) -> None:
        if self._trace is not None:
            self._trace(f"{(self.clock.at - START) / 1000:10.3f} {text}")

    def disturbed(self) -> None:
        """A person did something: nobody can have seen all of it before two sweeps."""
        self._quiet_from = self.clock.at + 3 * MINUTE_MS

    def hint(self, root: str) -> None:
        """The share tells of a change, if it tells of any."""
        if self._daemon is not None and self.roots[root].has_events and self.rng.random() < 0.8:
            self._daemon.post(Hint(root))

    def wish(self, verb: str, **args: str) -> None:
        """A person types a command, in a process of their own."""
        self.say(f"person: {verb} {args}")
        self.counts.wishes += 1
        if self._wishes is None:
            self._wishes = SqliteLedger(self.state_folder)
        self._wishes.add_command(verb, args, self.clock.wall())
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
            self.disturbed()
            self._live_until(lambda: self.clock.at >= self._quiet_from and self.is_settled(), latest)
            if not self.is_settled():
                raise Broken(f"I9: not settled {SETTLE_WITHIN_MS // MINUTE_MS} min after peace: {self._unsettled()}")
            self._invariants.ended()
            self.ended = self.ledger.jobs()
        finally:
            self.counts.simulated_ms += self.clock.at - START
            self._close()

    def is_settled(self) -> bool:
        if self._daemon is None or self._stop_by is not None or self.clock.at < self._frozen_until:
            return False
        world = self.daemon.world
        return (
            not world.book.of(JobState.QUEUED, JobState.SUBMITTING, JobState.RENDERING, JobState.RENDERED)
            and all(folder.is_ok and folder.is_scanned for folder in world.folders.values())
            and all(file.source for folder in world.folders.values() for file in folder.files.values())
            and all(folder.asleep.is_verified for folder in world.folders.values())
            and not any(folder.temps for folder in world.folders.values())
            and not world.is_notes_due
            and not world.spooled
            and not world.running
        )

    def boot(self) -> None:
        """Start a process, or a session within one: both read the world from the ledger."""
        if self._daemon is not None:
            return
        self.counts.boots += 1
        self.say("boot")
        if self._is_ahead:
            self._invariants.forget_times()
            self._is_ahead = False
        self._process_clock = clock = ProcessClock(self.clock, self.rng)
        self._ledger = SimLedger(self.state_folder, self.ledger_disk)
        policies = [folder_policy(name) for name in self.roots]
        world = restore(self._ledger, self.policy, policies, now=clock.now(), held=self._held)
        self._daemon = Daemon(world, self._ledger, clock)
        self._effects = SimEffects(
            self.rng, self.clock, clock, self.schedule, self.roots, self.service, self.counts, self._more
        )
        self._effects.post = self._heard
        self._effects.watch = self._starts
        self._effects.frozen_until = self._frozen_until
        self._effects.spool = self.spool
        world.spooled |= {reference_id: Spooled(content, 1_000) for reference_id, content in self.spool.items()}
        self._daemon.effects = self._effects
        self._wake_at, self._stop_by = 0, None
        self._invariants.booted()

    def crash(self) -> None:
        """The process dies; it is started again."""
        if self._daemon is None:
            return
        self.counts.crashes += 1
        self.say("crash")
        self._end_process()

    def _end_process(self) -> None:
        self.effects.die()
        self.ledger.close()
        self._held = None
        self._daemon = self._effects = self._ledger = None
        self.schedule.after(self.rng.choice([100, 3_000, 30_000]), self.boot)

    def _end_session(self) -> None:
        """The ledger failed: the service opens it anew, with a new world, and leaves the old threads to themselves."""
        self.say("the ledger failed: a new session")
        self.effects.close()
        self.ledger.close()
        self._held = self.daemon.world.gate
        self._daemon = self._effects = self._ledger = None
        self.schedule.after(LEDGER_RETRY_MS, self.boot)

    def stop(self) -> None:
        """A person restarts the service."""
        if self._daemon is not None and self._stop_by is None:
            self.say("stop")
            self._daemon.post(StopAsked("sim"))

    def freeze(self, ms: int) -> None:
        """Nothing of the daemon runs for a while: SIGSTOP, or a suspended machine."""
        self.say(f"frozen for {ms / 1000:.0f} s")
        self.counts.pauses += 1
        self._frozen_until = self.clock.at + ms
        if self._effects is not None:
            self._effects.frozen_until = self._frozen_until
        self.schedule.after(ms, self.disturbed)

    def set_wall_clock(self, offset_ms: int) -> None:
        """Somebody, or NTP, sets the clock of this machine."""
        self.say(f"the wall clock is {offset_ms / 1000:.0f} s off from now on")
        self.counts.clock_jumps += 1
        self._is_ahead |= offset_ms > self.clock.wall_offset_ms
        self.clock.wall_offset_ms = offset_ms

    def _heard(self, event: Event) -> None:
        if self._daemon is not None:
            self._daemon.post(event)

    def _live_until(self, is_over: Callable[[], bool], latest: Millis) -> None:
        for _ in range(MOST_TURNS):
            if is_over() or self.clock.at >= latest:
                return
            times = [self.schedule.next_at(), self._wakes_at(), latest]
            self.clock.at = max(self.clock.at, min(at for at in times if at is not None))
            self.schedule.run_due()
            if self._daemon is not None and self.clock.at >= self._frozen_until:
                self._turn(self._daemon)
        raise Broken(f"I9: a busy loop: {MOST_TURNS} turns without an end; {self._unsettled()}")

    def _wakes_at(self) -> Millis | None:
        """When the daemon's next tick is due, by the world's clock."""
        if self._daemon is None:
            return None
        return max(self._frozen_until, self.clock.at + self._wake_at - self._process_clock.now())

    def _turn(self, daemon: Daemon) -> None:
        events = daemon._taken()
        if not events and self._process_clock.now() < self._wake_at and not self.ledger.has_news():
            return None
        fate = self.rng.random() < self.odds.crash and self.rng.choice(["before", "within", "after"])
        if fate == "before":
            return self.crash()
        before = daemon.world.gate
        promised_until = self._invariants.heard(events)
        self.effects.crash_in = self.rng.randrange(3) if fate == "within" else None
        self.counts.ticks += 1
        try:
            self._wake_at = daemon.tick(events)
        except Crash:
            return self.crash()
        except LedgerUnavailable:
            if daemon.world.gate is before:  # it failed before the events were taken in: nobody has heard them
                self._invariants.promised_until = promised_until
            return self._end_session()
        if self._trace is not None:
            for event in events:
                self.say(f"  {_shown(event)}")
        if fate:
            return self.crash()
        self._invariants.ticked(daemon.world)
        return self._stop_if_asked(daemon)

    def _stop_if_asked(self, daemon: Daemon) -> None:
        if daemon.world.is_stopping and self._stop_by is None:
            self._stop_by = self._process_clock.now() + STOP_WITHIN_MS
            self.effects.stop()
        if self._stop_by is not None:
            if daemon._may_leave(self._stop_by):
                self._invariants.stopped(daemon.world)
                self.counts.stops += 1
                self._end_process()
            else:
                self._wake_at = min(self._wake_at, self._process_clock.now() + 1_000)

    def _make_peace(self) -> None:
        self.odds.stop()
        self.service.make_peace()
        self.ledger_disk.is_full = False
        for root in self.roots.values():
            root.is_full = root.is_hung = False
            root.mount()
        self.wish("resume")
        for name in self.roots:
            self.wish("resume", folder=name)

    def _close(self) -> None:
        for ledger in (self._ledger, self._wishes):
            if ledger is not None:
                ledger.close()

    def _starts(self, action: Action) -> None:
        if self._trace is not None:
            self.say(f"  start {_shown(action)}")
        self._invariants.starts(action)

    def _disk_trouble(self) -> None:
        """One write on a share fails: before anything is done, or with it done and said to have failed."""
        if not self.odds.disk_error or self._disk_rng.random() >= self.odds.disk_error / 2:
            return
        self.counts.disk_errors += 1
        state = self._disk_rng.choice([RootState.FULL, RootState.DENIED, RootState.STALE])
        if state is RootState.STALE:
            raise RootProblem("simulated: EIO", root_state=state)
        raise OutputProblem(f"simulated: {state}", root_state=state)

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


def folder_policy(name: str) -> FolderPolicy:
    return FolderPolicy(
        name=name,
        path=f"/{name}",
        output="{dir}/{name}.lipsync.mp4",
        recursive=True,
        pairing=PairingRules((".mp4",), (".wav", ".mp3")),
    )


def _shown(what: Action | Event) -> str:
    job = getattr(what, "job", None) or getattr(getattr(what, "action", None), "job", None)
    about = f" job {job.id} {job.key}" if isinstance(job, Job) else ""
    error = getattr(what, "error", None)
    more = "" if error is None else f" {error!r} may_be_taken={getattr(what, 'may_be_taken', '')}"
    if not about and not more:
        return str(what)[:300]
    return f"{type(what).__name__}{about}{more}"
