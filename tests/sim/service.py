"""The API in process: the sandbox's pure core under simulated time, with faults drawn from the seed.

What it answers goes through the real `edges.answers` (see `wire`). What a service does after it has a whole request
(creating it, late or at once) happens on the world's schedule, whether or not the daemon still lives.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

from chamelaion_watch.core.errors import Transient, Unreachable, WatchError
from chamelaion_watch.core.model import Job, Millis, Request
from chamelaion_watch.edges.answers import JsonObject, Page, page_of, request_of, submitted_id
from chamelaion_watch.sandbox import core
from chamelaion_watch.sandbox.core import Fate, Media, Refused, Service, Submission, Ticket
from chamelaion_watch.sandbox.limits import Limits
from tests.sim import wire
from tests.sim.clock import START, Schedule, SimClock
from tests.sim.counts import Counts
from tests.sim.disk import sha
from tests.sim.odds import Odds

# Together less than the grace of two minutes: what a proxy keeps back for longer can be paid for twice (api.md).
LATEST_MS = 60_000
LONGEST_LAG_S = 50
LONGEST_HIDING_MS, FOR_EVER_MS = 600_000, 10**12
SECRET = "sig=5ecre7"


class SimService:
    """The account."""

    def __init__(
        self,
        seed: int,
        rng: random.Random,
        clock: SimClock,
        schedule: Schedule,
        odds: Odds,
        limits: Limits,
        counts: Counts,
    ) -> None:
        self._rng = rng
        self._more = random.Random(f"service {seed}")  # for the faults that came later
        self._seed = seed
        self._clock = clock
        self._schedule = schedule
        self.odds = odds
        self._counts = counts
        self.service = Service(key="k", seed=rng.getrandbits(32), epoch=START / 1000)
        self.service.limits = limits
        self.is_key_good = True
        self.is_down = False
        self.by_run: dict[str, list[tuple[str, str]]] = defaultdict(list)  # reference → contents accepted under it
        self.unknown: set[str] = set()  # references that were hidden for longer than any grace
        self._to_hide: set[str] = set()  # request ids
        self._hidden: dict[str, tuple[Millis, Millis]] = {}  # request id → from when until when it is not found
        self._lies: dict[str, str] = {}  # request id → the wrong end that it is shown with, from its end on

    @property
    def refusals(self) -> int:
        """429s."""
        return self._counts.r429

    @property
    def now_s(self) -> float:
        return (self._clock.at - START) / 1000

    def _is(self, chance: float) -> bool:
        """Draw one of the later faults."""
        return chance > 0 and self._more.random() < chance

    # -- faults that any call may meet ----------------------------------------------------------------

    def call(self, *, needs_key: bool = True) -> None:
        """Arrive at the service; raises what a call may meet before it is read."""
        odds, rng = self.odds, self._rng
        if self.is_down or rng.random() < odds.unreachable:
            raise Unreachable("simulated: connection refused")
        if needs_key and not self.is_key_good:
            raise self._refused(401)
        if rng.random() < odds.server_error:
            wait = rng.choice([None, None, 20.0]) if rng.random() < odds.named else None
            raise self._refused(503 if wait else 500, wait)
        if rng.random() < odds.refused:
            raise self._throttled(rng.choice([5.0, 40.0, 300.0]))

    def _throttled(self, wait_s: float) -> WatchError:
        return self._refused(429, wait_s if self._rng.random() < self.odds.named else None)

    def _refused(self, status: int, wait_s: float | None = None, *, text: str | None = None) -> WatchError:
        """An answer that says no, as the edge reads it; a time that it names may be absurd."""
        wait = None if wait_s is None else wire.plainly(wait_s)
        if wait is not None and self._is(self.odds.absurd):
            wait = wire.absurdly(self._more, self._clock.wall() / 1000)
        self._count(status)
        return wire.refused(status, self._clock.wall() / 1000, wait=wait, text=text, is_submission=True)

    def _count(self, status: int) -> None:
        counts = self._counts
        match status:
            case 429:
                counts.r429 += 1
            case 412:
                counts.r412 += 1
            case 401 | 403:
                counts.r401 += 1
            case _ if status >= 500:
                counts.r5xx += 1
            case _:
                counts.odd_answers += 1

    # -- submitting -----------------------------------------------------------------------------------

    def admit(self, job: Job) -> Ticket:
        """The head of a submission arrives."""
        self._counts.submissions += 1
        self.call()
        if self._is_bad(job):
            self._counts.r4xx += 1
            raise wire.refused(self._more.choice(wire.BAD_PAIR), self.now_s, is_submission=True)
        if self._is(self.odds.odd_head):
            text = self._more.choice(["", None])
            status = self._more.choice(wire.ODD_HEADS)
            raise self._refused(status, self._more.choice([None, 7.0]), text="" if status == 404 else text)
        try:
            return self.service.admit(self.now_s)
        except Refused as refused:
            if refused.status == 412:
                raise self._refused(412) from refused
            raise self._throttled(refused.wait_s or 1.0) from refused

    def _is_bad(self, job: Job) -> bool:
        """Whether the service will never take this content."""
        if not self.odds.bad_pair:
            return False
        return random.Random(f"{self._seed} {job.video.sha256}{job.audio.sha256}").random() < self.odds.bad_pair

    def release(self, ticket: Ticket) -> None:
        self.service.release(ticket)

    def take(self, ticket: Ticket, job: Job, video: str, audio: str) -> str:
        """The whole of a submission is there, and its answer arrives; raises what the edge makes of it."""
        if self._rng.random() < self.odds.lost:
            error = self._lost()
            raise self._ambiguous(error, ticket, job, video, audio)
        if self._is(self.odds.odd_end):
            raise self._odd_end(ticket, job, video, audio)
        request_id = self._create(ticket, job, video, audio)
        if self._is(self.odds.swapped):
            self._counts.odd_answers += 1
            return self._more.choice(self.service.requests()).id
        return request_id

    def _lost(self) -> WatchError:
        return self._rng.choice(
            [
                Transient("simulated: no answer", code="timed_out"),
                Transient("simulated: reset", code="connection_reset"),
                wire.refused(500, self.now_s, is_submission=True),
                Unreachable("simulated: the answer was a proxy's page"),
            ]
        )

    def _odd_end(self, ticket: Ticket, job: Job, video: str, audio: str) -> WatchError:
        """A refusal after the last piece, or an answer that says nothing."""
        kind = self._more.choice(["clear", "unclear", "page"])
        if kind == "clear":
            self.release(ticket)
            return self._refused(self._more.choice(wire.CLEAR_ENDS), self._more.choice([None, 30.0]))
        self._counts.odd_answers += 1
        try:
            if kind == "page":
                submitted_id(wire.page(self._more).object())
            raise self._refused(self._more.choice(wire.UNCLEAR_ENDS), self._more.choice([None, 30.0]))
        except WatchError as error:
            return self._ambiguous(error, ticket, job, video, audio, self._more)

    def _ambiguous(
        self, error: WatchError, ticket: Ticket, job: Job, video: str, audio: str, rng: random.Random | None = None
    ) -> WatchError:
        """Nobody can tell from the answer what became of the submission."""
        rng = rng or self._rng
        fate = rng.choice(["created", "late", "never"])
        self._counts.ambiguous += 1
        setattr(self._counts, fate, getattr(self._counts, fate) + 1)
        if fate == "created":
            self._create(ticket, job, video, audio)
        elif fate == "late":
            self._schedule.after(
                rng.randrange(1_000, LATEST_MS), lambda: _ignore(self._create(ticket, job, video, audio))
            )
        else:
            self.release(ticket)
        return error

    def _create(self, ticket: Ticket, job: Job, video: str, audio: str) -> str:
        rng, odds = self._rng, self.odds
        failure = "simulated: no face" if rng.random() < odds.failing else None
        hidden_s = rng.uniform(1, LONGEST_LAG_S) if rng.random() < odds.lag else 0.0
        fate = Fate(failure, is_endless=self._is(odds.endless), hidden_s=hidden_s)
        submission = Submission(Media(video), Media(audio), job.reference_id)
        request = self.service.accept(ticket, submission, self.now_s, fate)
        self.service.rendered(request, self.now_s, Media(sha(video + audio)))
        self.by_run[job.reference_id].append((video, audio))
        self._counts.paid += 1
        if self._is(odds.hidden):
            self._to_hide.add(request.id)
        return request.id

    # -- asking ---------------------------------------------------------------------------------------

    def find(self, handle: str) -> Request:
        """Raises NotFound and whatever a call may meet."""
        self.call()
        if not handle.startswith("cw-") and self._rng.random() < self.odds.forgotten:
            raise self._unknown()
        try:
            found = self.service.find(handle, self.now_s)
        except Refused as refused:
            raise wire.refused(404, self.now_s, is_lookup=True) from refused
        if self._is_hidden(found):
            raise self._unknown()
        if found.id in self._to_hide and handle == found.id:
            self._hide(found)
        return request_of(self._body(self._or_a_stranger(found)), handle)

    def page(self, *, limit: int, offset: int) -> Page:
        """One page of all requests, newest first."""
        self.call()
        found, pagination = self.service.page(self.now_s, limit=limit, offset=offset)
        body: JsonObject = {
            "data": [self._body(request) for request in found if not self._is_hidden(request)],
            "pagination": pagination,
        }
        if self._is(self.odds.odd_page):
            self._counts.odd_answers += 1
            wire.oddly_listed(body, self._more)
        return page_of(body, limit=limit, offset=offset)

    def _unknown(self) -> WatchError:
        self._counts.not_found += 1
        return wire.refused(404, self.now_s, is_lookup=True)

    def _hide(self, request: core.Request) -> None:
        """The service forgets for minutes, or for ever, what the daemon is known to know: it has asked for it by id.

        Before that, it would be a lag beyond any grace, which no client can tell from a submission that never came.
        """
        self._to_hide.discard(request.id)
        begin = self._clock.at + self._more.randrange(1_000, 60_000)
        lasts_ms = self._more.choice([self._more.randrange(10_000, LONGEST_HIDING_MS), FOR_EVER_MS])
        self._hidden[request.id] = begin, begin + lasts_ms
        self.unknown.add(request.submission.reference_id or "")

    def _is_hidden(self, request: core.Request) -> bool:
        begin, end = self._hidden.get(request.id, (0, 0))
        return begin <= self._clock.at < end

    def _or_a_stranger(self, request: core.Request) -> core.Request:
        others = [other for other in self.service.requests() if other is not request]
        if not (others and self._is(self.odds.stranger)):
            return request
        self._counts.odd_answers += 1
        return self._more.choice(others)

    def _body(self, request: core.Request) -> JsonObject:
        status = self._told_status(request)
        body: JsonObject = {
            "id": request.id,
            "status": status,
            "reference_id": request.submission.reference_id,
            "error_message": request.failure() or ("simulated: a lie" if status == "failed" else None),
        }
        if status == "completed":
            body["output_url"] = f"https://sim/outputs/{request.id}.mp4?{SECRET}"
            if self._is(self.odds.no_url):
                self._counts.odd_answers += 1
                wire.without_url(body, self._more)
        if self._is(self.odds.odd_status):
            self._counts.odd_answers += 1
            wire.oddly_put(body, self._more)
        return body

    def _told_status(self, request: core.Request) -> str:
        """The status, or an earlier one, or first one end and then the other."""
        status = request.status(self.now_s)
        if status in wire.EARLIER:
            return "queued" if self._is(self.odds.backwards) else status
        if self._is(self.odds.backwards):
            self._counts.odd_answers += 1
            return self._more.choice(wire.EARLIER)
        if request.id in self._lies:
            return self._lies[request.id]
        if self._is(self.odds.flipped):
            self._counts.odd_answers += 1
            self._lies[request.id] = "failed" if status == "completed" else "completed"
        return status

    def fetch(self, request: Request) -> str:
        """Download: returns the content's SHA-256."""
        if self._rng.random() < self.odds.broken:
            raise Transient("simulated: cut download", code="cut")
        if self._is(self.odds.expired):
            raise wire.expired()
        if self._is(self.odds.odd_output):
            self._counts.odd_answers += 1
            raise wire.output_trouble(self._more)
        found = next(one for one in self.service.requests() if one.id == request.id)
        assert found.output is not None
        assert found.output.sha256 is not None
        return found.output.sha256

    # -- peace ----------------------------------------------------------------------------------------

    def make_peace(self) -> None:
        """No more faults, and what never ends comes to its end."""
        self.is_key_good, self.is_down = True, False
        self.service.limits = self.service.limits.changed({"quota": None})
        self._lies.clear()
        for request in self.service.requests():
            request.fate = replace(request.fate, is_endless=False)


def _ignore(_: object) -> None:
    return
