"""The uploads of one simulated session: what `effects.Effects` does between a claim and the service's answer.

The rules are the real ones: a decision holds for 5 s, a denied or stopped upload ends before its last piece, and that
piece needs a leave that is still good.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from chamelaion_watch.core.errors import InputProblem, Transient, WatchError
from chamelaion_watch.core.messages import Event, LeaveAsked, Progress, Submit, SubmitFailed, Submitted
from chamelaion_watch.core.model import Millis
from chamelaion_watch.core.submission import WITHDRAWN
from chamelaion_watch.sandbox.core import Ticket
from tests.sim.disk import SimRoot

if TYPE_CHECKING:
    from tests.sim.effects import SimEffects

DECISION_LASTS_MS = 5_000
LEAVE_WITHIN_MS = 60_000
SLEPT_MS = 120_000  # no step of an upload takes as long by itself


class Uploads:
    """What is being sent; `sending` leaves out what a hung share holds up."""

    def __init__(self, hands: SimEffects) -> None:
        self._hands = hands
        self._leaves: dict[int, list[Millis | str]] = {}
        self._tickets: set[Ticket] = set()
        self._unanswered: set[int] = set()  # jobs that the service has taken, and the daemon does not know it yet
        self.sending: set[int] = set()

    def expect(self, job_id: int) -> None:
        """An upload is about to begin."""
        self._leaves[job_id] = []

    def answer(self, job_id: int, answer: Millis | str) -> None:
        """Give leave until then, or say why not."""
        if job_id in self._leaves:
            self._leaves[job_id].append(answer)

    def stop(self) -> None:
        for answers in self._leaves.values():
            answers.append("the daemon is stopping")

    def die(self) -> None:
        self.forget_answers()
        for ticket in self._tickets:
            self._hands.account.release(ticket)

    def forget_answers(self) -> None:
        """Nobody will hear them: whether the service has taken what was sent is open."""
        counts = self._hands.counts
        counts.ambiguous += len(self._unanswered)
        counts.created += len(self._unanswered)
        self._unanswered.clear()

    def submit(self, action: Submit) -> Generator[int, None, Event]:
        job, is_finished, ticket = action.job, False, None
        self.sending.add(job.id)
        try:
            yield self._hands.ms(1, 300)
            if self._hands.clock.now() - action.decided_at > DECISION_LASTS_MS:
                raise InputProblem("too old", code=WITHDRAWN)
            root = self._hands.roots[job.root]
            if root.is_hung:
                self.sending.discard(job.id)
                yield from self._hands.reach(root)
            video, audio = root.open(job.video), root.open(job.audio)
            ticket = self._hands.service.admit(job)
            self._tickets.add(ticket)
            yield from self._upload(job.id, root)
            for file, source in ((video, job.video), (audio, job.audio)):
                root.require_readable()
                if file.signature != source.signature:
                    raise InputProblem(f"{source.path}: changed while it was sent")
            yield from self._wait_for_leave(job.id)
            is_finished = True
            self._tickets.discard(ticket)
            sent, ticket = ticket, None
            request_id = self._hands.account.take(sent, job, video.sha256, audio.sha256)
            self._unanswered.add(job.id)
            yield self._hands.ms(1, 2_000)
            self._unanswered.discard(job.id)
            return Submitted(action, request_id)
        except WatchError as error:
            yield self._hands.ms(1, 15_000) if is_finished else 0
            return SubmitFailed(action, error, may_be_taken=is_finished)
        finally:
            if self._hands.is_alive:
                self.sending.discard(job.id)
                self._leaves.pop(job.id, None)
                if ticket is not None:
                    self._tickets.discard(ticket)
                    self._hands.account.release(ticket)

    def _upload(self, job_id: int, root: SimRoot) -> Generator[int, None, None]:
        odds = self._hands.account.odds
        is_slow = self._hands.rng.random() < odds.slow_upload
        for piece in range(4):
            began = self._hands.world_clock.at
            yield self._hands.ms(5_000, 60_000) if is_slow else self._hands.ms(10, 1_500)
            if self._hands.world_clock.at - began > SLEPT_MS and self._hands.happens(odds.stopped_clock):
                raise Transient("simulated: the service gave up waiting", code="connection_reset")
            if root.is_hung:
                self.sending.discard(job_id)
                yield from self._hands.reach(root)
            if self._leaves[job_id]:
                raise InputProblem(f"stopped: {self._leaves[job_id][0]}", code=WITHDRAWN)
            if self._hands.service.is_down or self._hands.rng.random() < odds.reset / 4:
                raise Transient("simulated: reset in mid-upload", code="connection_reset")
            self._hands.post(Progress(job_id, piece, 5))

    def _wait_for_leave(self, job_id: int) -> Generator[int, None, None]:
        self._hands.post(LeaveAsked(job_id))
        began = self._hands.clock.now()
        while not self._leaves[job_id]:
            if self._hands.clock.now() - began > LEAVE_WITHIN_MS:
                raise InputProblem("no leave", code=WITHDRAWN)
            yield 20
        answer = self._leaves[job_id][0]
        if isinstance(answer, str) or self._hands.is_stopping:
            raise InputProblem(f"stopped before the last piece: {answer}", code=WITHDRAWN)
        yield self._hands.ms(0, 5)
        if self._hands.clock.now() >= answer:
            raise InputProblem("slept", code=WITHDRAWN)
