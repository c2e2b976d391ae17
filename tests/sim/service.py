"""The API in process: the sandbox's pure core under simulated time, with faults drawn from the seed.

Errors are raised as the HTTP edge would raise them. What a service does after it has a whole request (creating it,
late or at once) happens on the world's schedule, whether or not the daemon still lives.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass

from chamelaion_watch.core.errors import (
    NotFound,
    QuotaExhausted,
    Throttled,
    Transient,
    Unauthorized,
    Unreachable,
)
from chamelaion_watch.core.model import Job, Millis, Request
from chamelaion_watch.sandbox.core import Fate, Media, Refused, Service, Submission, Ticket
from chamelaion_watch.sandbox.limits import Limits
from tests.sim.clock import START, Schedule, SimClock
from tests.sim.disk import sha

# Together less than the grace of two minutes: what a proxy keeps back for longer can be paid for twice (api.md).
LATEST_MS = 60_000
LONGEST_LAG_S = 50


@dataclass
class Odds:
    """How likely each fault is, per call; all zero once the faults stop."""

    refused: float = 0.0  # 429 out of the blue
    named: float = 0.5  # a refusal names its time
    server_error: float = 0.0
    unreachable: float = 0.0
    reset: float = 0.0  # in mid-upload
    lost: float = 0.0  # the answer to a whole upload, whatever became of it
    lag: float = 0.0  # the request is hidden from the index at first
    failing: float = 0.0  # the request ends failed
    forgotten: float = 0.0  # for one answer to a poll only: 404
    broken: float = 0.0  # a download
    slow_upload: float = 0.0
    crash: float = 0.0  # per tick


class SimService:
    """The account."""

    def __init__(self, rng: random.Random, clock: SimClock, schedule: Schedule, odds: Odds, limits: Limits) -> None:
        self._rng = rng
        self._clock = clock
        self._schedule = schedule
        self.odds = odds
        self.service = Service(key="k", seed=rng.getrandbits(32), epoch=START / 1000)
        self.service.limits = limits
        self.is_key_good = True
        self.is_down = False
        self.refusals = 0
        self.by_run: dict[str, list[tuple[str, str]]] = defaultdict(list)  # reference → contents accepted under it
        self.arrivals: list[Millis] = []  # heads of submissions

    @property
    def now_s(self) -> float:
        return (self._clock.at - START) / 1000

    # -- faults that any call may meet ----------------------------------------------------------------

    def call(self, *, needs_key: bool = True) -> None:
        """Arrive at the service; raises what a call may meet before it is read."""
        odds, rng = self.odds, self._rng
        if self.is_down or rng.random() < odds.unreachable:
            raise Unreachable("simulated: connection refused")
        if needs_key and not self.is_key_good:
            raise Unauthorized("simulated: 401", http_status=401)
        if rng.random() < odds.server_error:
            wait = rng.choice([None, None, 20.0]) if rng.random() < odds.named else None
            raise Transient("simulated: 500", code="server_error", http_status=500, retry_after_s=wait)
        if rng.random() < odds.refused:
            raise self._throttled(rng.choice([5.0, 40.0, 300.0]))

    # -- submitting -----------------------------------------------------------------------------------

    def admit(self) -> Ticket:
        """The head of a submission arrives."""
        self.arrivals.append(self._clock.at)
        self.call()
        try:
            return self.service.admit(self.now_s)
        except Refused as refused:
            if refused.status == 412:
                raise QuotaExhausted("simulated: 412", http_status=412) from refused
            raise self._throttled(refused.wait_s or 1.0) from refused

    def release(self, ticket: Ticket) -> None:
        self.service.release(ticket)

    def take(self, ticket: Ticket, job: Job, video: str, audio: str) -> str:
        """The whole of a submission is there, and its answer arrives; raises Transient where it is lost."""
        rng = self._rng
        if rng.random() >= self.odds.lost:
            return self._create(ticket, job, video, audio)
        error = rng.choice(
            [
                Transient("simulated: no answer", code="timed_out"),
                Transient("simulated: reset", code="connection_reset"),
                Transient("simulated: 500", code="server_error", http_status=500),
                Unreachable("simulated: the answer was a proxy's page"),
            ]
        )
        fate = rng.choice(["created", "late", "never"])
        if fate == "created":
            self._create(ticket, job, video, audio)
        elif fate == "late":
            self._schedule.after(
                rng.randrange(1_000, LATEST_MS), lambda: _ignore(self._create(ticket, job, video, audio))
            )
        else:
            self.release(ticket)
        raise error

    def _create(self, ticket: Ticket, job: Job, video: str, audio: str) -> str:
        rng = self._rng
        fate = Fate(
            failure="simulated: no face" if rng.random() < self.odds.failing else None,
            hidden_s=rng.uniform(1, LONGEST_LAG_S) if rng.random() < self.odds.lag else 0.0,
        )
        submission = Submission(Media(video), Media(audio), job.reference_id)
        request = self.service.accept(ticket, submission, self.now_s, fate)
        self.service.rendered(request, self.now_s, Media(sha(video + audio)))
        self.by_run[job.reference_id].append((video, audio))
        return request.id

    # -- asking ---------------------------------------------------------------------------------------

    def find(self, handle: str) -> Request:
        """Raises NotFound and whatever a call may meet."""
        self.call()
        if not handle.startswith("cw-") and self._rng.random() < self.odds.forgotten:
            raise NotFound("simulated: 404", http_status=404)
        try:
            found = self.service.find(handle, self.now_s)
        except Refused as refused:
            raise NotFound("simulated: 404", http_status=404) from refused
        status = found.status(self.now_s)
        url = f"https://sim/{found.id}" if status == "completed" else None
        return Request(found.id, status, found.submission.reference_id, url, found.failure())

    def fetch(self, request: Request) -> str:
        """Download: returns the content's SHA-256."""
        if self._rng.random() < self.odds.broken:
            raise Transient("simulated: cut download", code="cut")
        found = self.service.find(request.id, self.now_s)
        assert found.output is not None
        assert found.output.sha256 is not None
        return found.output.sha256

    def _throttled(self, wait_s: float) -> Throttled:
        self.refusals += 1
        named = wait_s if self._rng.random() < self.odds.named else None
        return Throttled("simulated: 429", http_status=429, retry_after_s=named)


def _ignore(_: object) -> None:
    return
