"""The control thread: one inbox, one `tick`, one wait. It owns the world and is the only writer of the ledger.

Each tick reads the clock once, applies what happened, writes what is about to be done, commits, and only then
starts it. A crash anywhere loses nothing that was decided, and decides nothing that was not written.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterable
from typing import Protocol

from loguru import logger

from chamelaion_watch import restore
from chamelaion_watch.core import intake, submission
from chamelaion_watch.core.commands import NUMBER
from chamelaion_watch.core.errors import InputProblem
from chamelaion_watch.core.gate import Gate
from chamelaion_watch.core.messages import (
    Action,
    Command,
    Deliver,
    Event,
    RemoveFiles,
    SpoolResult,
    StopAsked,
    Submit,
    SubmitFailed,
    WriteNote,
)
from chamelaion_watch.core.model import Job, Millis
from chamelaion_watch.core.planner import plan
from chamelaion_watch.core.reactions import apply
from chamelaion_watch.core.resting import rest
from chamelaion_watch.core.submission import WITHDRAWN
from chamelaion_watch.core.world import Pause, Said, World
from chamelaion_watch.edges.clock import Clock
from chamelaion_watch.edges.ledger.protocol import EventRow, Ledger

GATHER_MS = 10  # events of so long after the last tick share one: a commit is an fsync, and takes as long
LOOK_FOR_COMMANDS_MS = 1_000  # surface.md: commands apply within a second
STOPPED_MS = 10_000  # a wait takes a second; one that took so long was a SIGSTOP, or the machine was asleep
STOP_WITHIN_MS = 8_000  # then the process leaves with the ledger committed, whatever still runs
ENDING = (Submit, Deliver, SpoolResult, WriteNote, RemoveFiles)  # what a stop waits for: it leaves traces


class Starter(Protocol):
    """What a tick needs of `effects`; the simulation has its own."""

    def start(self, action: Action) -> None: ...
    def grant(self, job_id: int, until: Millis) -> None: ...
    def deny(self, job_id: int, why: str) -> None: ...
    def stop(self) -> None: ...


class Daemon:
    """A world, its ledger and its hands; `after_tick` is called with the world when everything is committed."""

    def __init__(
        self,
        world: World,
        ledger: Ledger,
        clock: Clock,
        *,
        after_tick: Callable[[World], None] = lambda _: None,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        self.world = world
        self.effects: Starter | None = None
        self.commanded_at: Millis | None = None  # when a command was applied last
        self._ledger = ledger
        self._clock = clock
        self._after_tick = after_tick
        self._heartbeat = heartbeat
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._roots = ledger.roots()
        self._gate_kept: tuple[Gate, Pause | None] | None = None
        self._told: list[Said] = []
        self._ticked_at: Millis = 0

    def post(self, event: Event) -> None:
        """Put an event into the inbox; from any thread, or a signal handler."""
        self._inbox.put(event)

    def run(self) -> None:
        """Tick until a stop is asked for and what leaves traces has ended, or 8 s have passed."""
        wake_at: Millis = 0
        stop_by: Millis | None = None
        while stop_by is None or not self._may_leave(stop_by):
            before = self._clock.now()
            events = self._wait(wake_at)
            self._make_up_for(self._clock.now() - before)
            self._heartbeat()
            if events or self._clock.now() >= wake_at or self._ledger.has_news():
                wake_at = self.tick(events)
            if self.world.is_stopping and stop_by is None:
                stop_by = self._clock.now() + STOP_WITHIN_MS
                self._hands().stop()
        if unfinished := submission.unfinished(self.world):
            self.tick(unfinished)

    def tick(self, events: Iterable[Event]) -> Millis:
        """Take in what happened, decide, write, start; returns when to tick again at the latest."""
        world = self.world
        world.now, world.chance = self._clock.now(), self._clock.chance()
        with self._ledger.transaction():
            commands = self._commands()
            for event in (*commands, *events):
                apply(world, event)
            intake.take_in(world)
            self._write()
            made = plan(world)
            actions = [action for action in made.actions if self._is_ours(action)]
            self._write()
        rest(world)
        self._answer_uploads()
        for action in actions:
            world.running[action] = world.now
            self._hands().start(action)
        self._log()
        if commands:
            self.commanded_at = world.now
        self._after_tick(world)
        self._ticked_at = self._clock.now()
        return made.wake_at

    # -- inside ---------------------------------------------------------------------------------------

    def _make_up_for(self, waited_ms: Millis) -> None:
        """A process that was stopped, or slept with its machine, did nothing: what is under way is not late for it."""
        if waited_ms >= STOPPED_MS:
            logger.info("this process stood still for {} s", waited_ms // 1000)
            for action in self.world.running:
                self.world.running[action] += waited_ms

    def _wait(self, wake_at: Millis) -> list[Event]:
        """Return what the inbox holds, waiting until `wake_at` for the first, but no longer than a second."""
        events = self._taken(until=min(wake_at, self._clock.now() + LOOK_FOR_COMMANDS_MS), most=1)
        return events + self._taken(until=self._ticked_at + GATHER_MS) if events else events

    def _taken(self, *, until: Millis = 0, most: int | None = None) -> list[Event]:
        """Return what the inbox holds, and what comes until then, but no more than `most`."""
        events: list[Event] = []
        with contextlib.suppress(queue.Empty):
            while len(events) != most:
                wait_ms = until - self._clock.now()
                events.append(self._inbox.get(timeout=wait_ms / 1000) if wait_ms > 0 else self._inbox.get_nowait())
        return events

    def _commands(self) -> list[Command]:
        rows = self._ledger.new_commands()
        return [Command(row.id, row.verb, row.args, self._job_named(row.args.get("job", ""))) for row in rows]

    def _job_named(self, number: str) -> Job | None:
        return self._ledger.job(int(number)) if NUMBER.fullmatch(number) else None

    def _write(self) -> None:
        """Put all that changed into the transaction."""
        self._write_jobs()
        self._write_files()
        self._write_notes()
        self._write_roots()
        self._write_gate()
        world, ledger = self.world, self._ledger
        for command_id, answer in world.finished_commands:
            ledger.finish_command(command_id, world.now, answer)
        for line in world.said:
            ledger.add_event(EventRow(world.now, line.kind, line.text, line.job_id, line.root))
        self._told += world.said
        world.finished_commands.clear()
        world.said.clear()

    def _write_jobs(self) -> None:
        """New jobs get their ids here."""
        world, ledger = self.world, self._ledger
        for job in world.new_jobs:
            added = ledger.add_job(job)
            world.book.put(added)
            world.attempt(added, "queue", "queued", f"{added.video.path} + {added.audio.path}")
            world.say("job", f"{added.root}/{added.key}: {added.state}", job=added)
        for job_id in world.changed:
            ledger.save_job(world.book.jobs[job_id])
        for attempt in world.attempts:
            ledger.add_attempt(attempt)
        world.new_jobs.clear()
        world.changed.clear()
        world.attempts.clear()

    def _write_files(self) -> None:
        for name, folder in self.world.folders.items():
            for source in folder.identified:
                self._ledger.remember_file(name, source.path, source.signature, source.sha256)
            if folder.forgotten:
                self._ledger.forget_files(name, folder.forgotten)
            folder.identified.clear()
            folder.forgotten.clear()

    def _write_notes(self) -> None:
        world = self.world
        for note in world.noted:
            self._ledger.save_note(restore.note_row(note, world.now))
        for root, subject in world.unnoted:
            self._ledger.drop_note(root, subject)
        world.noted.clear()
        world.unnoted.clear()

    def _write_roots(self) -> None:
        world = self.world
        if not world.is_roots_changed:
            return
        world.is_roots_changed = False
        for name, folder in world.folders.items():
            if not (folder.is_scanned or folder.is_paused or name in self._roots):
                continue
            row = restore.root_row(folder, self._roots.get(name), world.now)
            if row != self._roots.get(name):
                self._ledger.save_root(row)
                self._ledger.unhold(name)
                self._ledger.hold(name, sorted(folder.held))
                self._roots[name] = row

    def _write_gate(self) -> None:
        gate = self.world.gate, self.world.pause
        if gate != self._gate_kept:
            self._ledger.save_gate(restore.gate_row(self.world))
            self._gate_kept = gate

    def _is_ours(self, action: Action) -> bool:
        """Claim a submission in the ledger by compare-and-set; one that another has is none of ours."""
        if not isinstance(action, Submit):
            return True
        self.world.changed.pop(action.job.id, None)
        if self._ledger.claim_job(action.job):
            return True
        taken = InputProblem("another row or daemon is submitting this run", code=WITHDRAWN)
        self.post(SubmitFailed(action, taken, may_be_taken=False))
        return False

    def _answer_uploads(self) -> None:
        """Committed: now, and not before, an upload may finish."""
        for job_id, until in self.world.leave.items():
            self._hands().grant(job_id, until)
        for job_id, why in self.world.denied.items():
            self._hands().deny(job_id, why)
        for job_id in self.world.cancelling:
            self._hands().deny(job_id, "it was cancelled")
        self.world.leave.clear()

    def _log(self) -> None:
        told, self._told = self._told, []
        for line in told:
            logger.log("WARNING" if line.is_warning else "INFO", "{}", line.text)

    def _may_leave(self, stop_by: Millis) -> bool:
        return self._clock.now() >= stop_by or not any(isinstance(action, ENDING) for action in self.world.running)

    def _hands(self) -> Starter:
        assert self.effects is not None, "effects are set before the first tick"
        return self.effects


def stop(daemon: Daemon, reason: str) -> None:
    """Ask a daemon to stop; from any thread, or a signal handler."""
    daemon.post(StopAsked(reason))
