"""The hands of one simulated process: each action is a generator that yields the milliseconds it takes.

Implements `daemon.Starter`. A crash drops the process: nothing that has not happened yet will, but for what the
service has already received.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Generator

from chamelaion_watch.core import naming
from chamelaion_watch.core.errors import InputProblem, NotFound, Transient, WatchError
from chamelaion_watch.core.messages import (
    AccountProbed,
    Action,
    Claim,
    Claimed,
    Deliver,
    Delivered,
    Event,
    Failed,
    FilesRemoved,
    Hash,
    Hashed,
    LeaveAsked,
    LookedUp,
    LookUp,
    NoteWritten,
    Poll,
    Polled,
    Probe,
    ProbeAccount,
    Probed,
    Progress,
    RemoveFiles,
    Scan,
    Submit,
    SubmitFailed,
    Submitted,
    WriteNote,
)
from chamelaion_watch.core.model import Millis, Request
from chamelaion_watch.core.submission import WITHDRAWN
from chamelaion_watch.sandbox.core import Ticket
from tests.sim.clock import Schedule, SimClock
from tests.sim.disk import SimRoot, SimTree
from tests.sim.service import SimService

Steps = Generator[int, None, Event]

DECISION_LASTS_MS = 5_000
LEAVE_WITHIN_MS = 60_000


class Crash(Exception):
    """The process dies here."""


class Broken(AssertionError):
    """An invariant does not hold."""


class SimEffects:
    """What one process has under way."""

    def __init__(
        self, rng: random.Random, clock: SimClock, schedule: Schedule, roots: dict[str, SimRoot], service: SimService
    ) -> None:
        self.post: Callable[[Event], None] = lambda _: None
        self.watch: Callable[[Action], None] = lambda _: None
        self.crash_in: int | None = None  # so many calls from now
        self._rng = rng
        self._clock = clock
        self._schedule = schedule
        self._service = service
        self._roots = roots
        self._trees = {name: SimTree(root) for name, root in roots.items()}
        self._is_alive = True
        self._is_stopping = False
        self._leaves: dict[int, list[Millis | str]] = {}
        self._tickets: set[Ticket] = set()
        self.sending = 0

    # -- what a tick calls ----------------------------------------------------------------------------

    def start(self, action: Action) -> None:
        self._may_crash()
        self.watch(action)
        if isinstance(action, Submit):
            self._leaves[action.job.id] = []
        self._go_on(action, self._perform(action))

    def grant(self, job_id: int, until: Millis) -> None:
        self._may_crash()
        if job_id in self._leaves:
            self._leaves[job_id].append(until)

    def deny(self, job_id: int, why: str) -> None:
        if job_id in self._leaves:
            self._leaves[job_id].append(why)

    def stop(self) -> None:
        self._is_stopping = True
        for answers in self._leaves.values():
            answers.append("the daemon is stopping")

    def die(self) -> None:
        """Nothing of this process happens any more; its sockets are closed."""
        self._is_alive = False
        for ticket in self._tickets:
            self._service.release(ticket)

    def _may_crash(self) -> None:
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                raise Crash

    # -- going on -------------------------------------------------------------------------------------

    def _go_on(self, action: Action, steps: Steps) -> None:
        if not self._is_alive:
            return
        try:
            wait_ms = next(steps)
        except StopIteration as end:
            self.post(end.value)
        except WatchError as error:
            self.post(Failed(action, error))
        else:
            self._schedule.after(wait_ms, lambda: self._go_on(action, steps))

    def _perform(self, action: Action) -> Steps:
        match action:
            case Scan():
                return self._scan(action)
            case Claim():
                return self._claim(action)
            case Hash():
                return self._hash(action)
            case Probe():
                return self._probe(action)
            case Submit():
                return self._submit(action)
            case LookUp():
                return self._look_up(action)
            case Poll():
                return self._poll(action)
            case Deliver():
                return self._deliver(action)
            case WriteNote():
                return self._write_note(action)
            case RemoveFiles():
                return self._remove(action)
            case ProbeAccount():
                return self._probe_account(action)

    def _ms(self, least: int, most: int) -> int:
        return self._rng.randrange(least, most)

    # -- the share ------------------------------------------------------------------------------------

    def _scan(self, action: Scan) -> Steps:
        yield self._ms(1, 50)
        return self._trees[action.root].scan(action)

    def _claim(self, action: Claim) -> Steps:
        yield self._ms(1, 20)
        self._roots[action.root].require_well()
        self._roots[action.root].has_sentinel = True
        return Claimed(action)

    def _hash(self, action: Hash) -> Steps:
        root = self._roots[action.root]
        root.require_well()
        file = root.media.get(action.path)
        if file is None or file.signature != action.signature:
            raise InputProblem(f"{action.path}: changed")
        yield self._ms(10, 3_000)
        root.require_well()
        if file.signature != action.signature:
            raise InputProblem(f"{action.path}: changed while it was read")
        return Hashed(action, file.sha256)

    def _probe(self, action: Probe) -> Steps:
        yield self._ms(5, 500)
        root = self._roots[action.job.root]
        return Probed(action, root.probe(action.job.video), root.probe(action.job.audio))

    def _write_note(self, action: WriteNote) -> Steps:
        for path, data in action.files:
            yield self._ms(1, 30)
            self._roots[action.root].write_note(path, data)
        yield self._ms(1, 30)
        return NoteWritten(action, tuple(path for path, _ in action.files))

    def _remove(self, action: RemoveFiles) -> Steps:
        for path in action.paths:
            yield self._ms(1, 30)
            self._roots[action.root].remove(path)
        return FilesRemoved(action)

    # -- submitting -----------------------------------------------------------------------------------

    def _submit(self, action: Submit) -> Steps:
        job, is_finished, ticket = action.job, False, None
        self.sending += 1
        try:
            yield self._ms(1, 300)
            if self._clock.at - action.decided_at > DECISION_LASTS_MS:
                raise InputProblem("too old", code=WITHDRAWN)
            root = self._roots[job.root]
            video, audio = root.open(job.video), root.open(job.audio)
            ticket = self._service.admit()
            self._tickets.add(ticket)
            yield from self._upload(job.id)
            for file, source in ((video, job.video), (audio, job.audio)):
                root.require_well()
                if file.signature != source.signature:
                    raise InputProblem(f"{source.path}: changed while it was sent")
            yield from self._wait_for_leave(job.id)
            is_finished = True
            self._tickets.discard(ticket)
            sent, ticket = ticket, None
            request_id = self._service.take(sent, job, video.sha256, audio.sha256)
            yield self._ms(1, 2_000)
            return Submitted(action, request_id)
        except WatchError as error:
            yield self._ms(1, 15_000) if is_finished else 0
            return SubmitFailed(action, error, may_be_taken=is_finished)
        finally:
            if self._is_alive:
                self.sending -= 1
                self._leaves.pop(job.id, None)
                if ticket is not None:
                    self._tickets.discard(ticket)
                    self._service.release(ticket)

    def _upload(self, job_id: int) -> Generator[int, None, None]:
        is_slow = self._rng.random() < self._service.odds.slow_upload
        for piece in range(4):
            yield self._ms(5_000, 60_000) if is_slow else self._ms(10, 1_500)
            if self._leaves[job_id]:
                raise InputProblem(f"stopped: {self._leaves[job_id][0]}", code=WITHDRAWN)
            if self._service.is_down or self._rng.random() < self._service.odds.reset / 4:
                raise Transient("simulated: reset in mid-upload", code="connection_reset")
            self.post(Progress(job_id, piece, 5))

    def _wait_for_leave(self, job_id: int) -> Generator[int, None, None]:
        self.post(LeaveAsked(job_id))
        began = self._clock.at
        while not self._leaves[job_id]:
            if self._clock.at - began > LEAVE_WITHIN_MS:
                raise InputProblem("no leave", code=WITHDRAWN)
            yield 20
        answer = self._leaves[job_id][0]
        if isinstance(answer, str) or self._is_stopping:
            raise InputProblem(f"stopped before the last piece: {answer}", code=WITHDRAWN)
        yield self._ms(0, 5)
        if self._clock.at >= answer:
            raise InputProblem("slept", code=WITHDRAWN)

    # -- asking ---------------------------------------------------------------------------------------

    def _look_up(self, action: LookUp) -> Steps:
        yield self._ms(10, 2_000)
        return LookedUp(action, self._find(action.job.reference_id))

    def _poll(self, action: Poll) -> Steps:
        answers: dict[int, Request | None] = {}
        for job_id, request_id in action.requests:
            yield self._ms(10, 500)
            try:
                answers[job_id] = self._find(request_id)
            except WatchError as error:
                return Polled(action, answers, error)
        return Polled(action, answers)

    def _find(self, handle: str) -> Request | None:
        try:
            return self._service.find(handle)
        except NotFound:
            return None

    def _probe_account(self, action: ProbeAccount) -> Steps:
        yield self._ms(10, 500)
        self._service.call(needs_key=action.asks_me)
        return AccountProbed(action)

    # -- delivering -----------------------------------------------------------------------------------

    def _deliver(self, action: Deliver) -> Steps:
        job, root = action.job, self._roots[action.job.root]
        names = list(itertools.islice(naming.versions(action.output), 9))
        yield self._ms(1, 100)
        root.require_space()
        for copy in action.copies:
            if self._roots[copy.root].outputs.get(copy.path) == copy.sha256:
                return Delivered(action, root.publish(names, copy.sha256), copy.sha256, copy.size, is_copy=True)
        request = self._service.find(job.request_id or job.reference_id)
        if not request.output_url:
            raise Transient("completed, but no output", code="no_output")
        temp = naming.temp_path(action.output)
        root.temps.add(temp)
        try:
            yield self._ms(10, 5_000)
            if self._is_stopping:
                raise InputProblem("the daemon is stopping", code=WITHDRAWN)
            root.require_space()
            content = self._service.fetch(request)
            yield self._ms(1, 100)
            if temp not in root.temps:
                raise Broken(f"the temp of a running delivery was removed: {temp}")
            output = root.publish(names, content)
        finally:
            if self._is_alive:
                root.temps.discard(temp)
        yield self._ms(1, 100)
        return Delivered(action, output, content, 1_000)
