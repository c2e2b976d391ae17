"""The stand-in service as a pure state machine: requests, rate, cap, quota, signed links.

Written from the vendor's documentation and the official SDK alone, as a second opinion on the daemon. Time is an
argument: seconds of the sandbox's own clock, which runs `speed` times as fast as the client's. A status is
not stored, it follows from the times; nothing here reads a clock, a file or a socket.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import uuid
from collections import defaultdict
from collections.abc import Collection, KeysView, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from chamelaion_watch.sandbox.limits import Limits, Span

PAGE = 20  # items, as in the documentation's examples

TEXTS = {  # the documented error texts that stand for a whole status
    400: "invalid request body",
    401: "unauthorized",
    404: "lipsync request not found",
    412: "token limit reached",
    429: "rate limit exceeded",
    500: "internal error",
}


class Refused(Exception):
    """The service says no, with `{"error": text}`; `wait_s` is the sandbox's seconds until it may say yes."""

    def __init__(self, status: int, text: str | None = None, *, wait_s: float | None = None) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text or TEXTS[status]
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Media:
    """One input or output as it was received, fetched or made."""

    sha256: str | None = None
    size_bytes: int | None = None
    filename: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client asked for; `fields` is the rest as it was sent."""

    video: Media
    audio: Media
    reference_id: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fate:
    """What a fault has in store for a request; `hidden_s` is in the client's seconds."""

    failure: str | None = None
    is_endless: bool = False
    is_forgotten: bool = False
    hidden_s: float = 0.0


@dataclass(slots=True)
class Request:
    """One accepted request; its status follows from these times and from the rendering."""

    id: str
    submission: Submission
    fate: Fate
    created_at: float
    start_at: float
    due_at: float
    hidden_until: float
    rendered_at: float | None = None
    output: Media | None = None
    error: str | None = None

    def status(self, now: float) -> str:
        if now < self.start_at:
            return "queued"
        if (finished_at := self.finished_at()) is None or now < finished_at:
            return "processing"
        return "failed" if self.failure() else "completed"

    def finished_at(self) -> float | None:
        """When it ended or will end; None while that is not known."""
        if self.fate.is_endless:
            return None
        if self.fate.failure:
            return self.due_at
        return None if self.rendered_at is None else max(self.due_at, self.rendered_at)

    def failure(self) -> str | None:
        return self.fate.failure or self.error

    def is_active(self, now: float) -> bool:
        return self.status(now) in {"queued", "processing"}

    def is_visible(self, now: float) -> bool:
        return not self.fate.is_forgotten and now >= self.hidden_until


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave to submit once: it holds a place in the rate, the cap and the quota until accepted or released."""

    number: int
    at: float


class Service:
    """The account at the service. `epoch` is the wall time, in Unix seconds, at which its clock read 0."""

    def __init__(self, *, key: str, seed: int = 0, speed: float = 1.0, epoch: float = 0.0) -> None:
        self.limits = Limits()
        self.key = key
        self.speed = speed
        self.epoch = epoch
        self.seed = seed
        self._random = random.Random(seed)  # noqa: S311 -- repeatable, and guards nothing of worth
        self._secret = self._random.randbytes(32)
        self._revoked: set[str] = set()
        self._requests: dict[str, Request] = {}
        self._by_reference: dict[str | None, list[Request]] = defaultdict(list)
        self._shy: list[Request] = []  # those that may be hidden from whoever asks
        self._active: list[Request] = []  # never misses one that is active; pruned when counted
        self._window: dict[int, float] = {}  # ticket number → when it was given; the oldest first
        self._held: set[int] = set()
        self._tickets = 0

    # -- account --------------------------------------------------------------------------------------

    def wall(self, now: float) -> float:
        """Return the client's time, Unix seconds."""
        return self.epoch + now / self.speed

    def rotate(self, key: str) -> None:
        """Change the key; the old one is unauthorized from now on."""
        if key != self.key:
            self._revoked = (self._revoked | {self.key}) - {key}
            self.key = key

    def authorize(self, authorization: str | None, api_key: str | None) -> None:
        """Raises Refused 401 with the documented text, unless one of the two headers carries the key."""
        token = api_key if authorization is None else _bearer(authorization)
        if token is None:
            raise Refused(401, "missing authorization header")
        if not token:
            raise Refused(401, "missing token")
        if token in self._revoked:
            raise Refused(401, "unauthorized")
        if token != self.key:
            raise Refused(401, "invalid token")

    # -- submitting -----------------------------------------------------------------------------------

    def admit(self, now: float) -> Ticket:
        """Give leave to submit; checks rate, cap and quota in this order. Raises Refused 429 or 412."""
        self._check_rate(now)
        self._check_cap(now)
        self._check_quota()
        self._tickets += 1
        self._window[self._tickets] = now
        self._held.add(self._tickets)
        return Ticket(self._tickets, now)

    def release(self, ticket: Ticket) -> None:
        """Give the place back: what is not accepted counts nowhere. Does nothing once it is accepted."""
        if ticket.number in self._held:
            self._held.discard(ticket.number)
            self._window.pop(ticket.number, None)

    def accept(self, ticket: Ticket, submission: Submission, now: float, fate: Fate | None = None) -> Request:
        """Create the request for which `ticket` was given."""
        self._held.remove(ticket.number)
        fate = fate or Fate()
        start_at = now + self._drawn(self.limits.queue_s)
        request = Request(
            id=str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            submission=submission,
            fate=fate,
            created_at=now,
            start_at=start_at,
            due_at=start_at + self._drawn(self.limits.processing_s),
            hidden_until=now + fate.hidden_s * self.speed,
        )
        self._requests[request.id] = request
        self._by_reference[submission.reference_id].append(request)
        self._active.append(request)
        if fate.is_forgotten or fate.hidden_s:
            self._shy.append(request)
        return request

    def rendered(self, request: Request, now: float, output: Media | None = None, *, error: str | None = None) -> None:
        """Note how the work on the request really ended; until then it is processing, however late it is."""
        request.rendered_at, request.output, request.error = now, output, error

    def _check_rate(self, now: float) -> None:
        limits = self.limits
        while self._window and (oldest := next(iter(self._window.items())))[1] + limits.window_s <= now:
            del self._window[oldest[0]]
        if limits.rpm is None or len(self._window) < limits.rpm:
            return
        if not limits.rpm:
            raise Refused(429, wait_s=limits.window_s)
        begin = now // limits.window_s * limits.window_s
        counted = sorted(at for at in self._window.values() if limits.window == "sliding" or at >= begin)
        if len(counted) < limits.rpm:
            return
        # a sliding window has room again when its rpm-th newest has left it
        first = counted[-limits.rpm] if limits.window == "sliding" else begin
        raise Refused(429, wait_s=max(0.0, first + limits.window_s - now))

    def _check_cap(self, now: float) -> None:
        self._active = [request for request in self._active if request.is_active(now)]
        if self.limits.cap is None or len(self._active) + len(self._held) < self.limits.cap:
            return
        due = min((request.due_at for request in self._active), default=now)
        raise Refused(429, wait_s=max(0.0, due - now))

    def _check_quota(self) -> None:
        if self.limits.quota is not None and len(self._requests) + len(self._held) >= self.limits.quota:
            raise Refused(412)

    def _drawn(self, span: Span) -> float:
        return self._random.uniform(*span) if isinstance(span, tuple) else span

    # -- asking ---------------------------------------------------------------------------------------

    def find(self, handle: str, now: float) -> Request:
        """Return the request of this id, or the newest with this reference. Raises Refused 404."""
        exact = self._requests.get(handle)
        if exact is not None and exact.is_visible(now):
            return exact
        for request in reversed(self._by_reference.get(handle, ())):
            if request.is_visible(now):
                return request
        raise Refused(404)

    def page(
        self, now: float, *, limit: int, offset: int, reference_id: str | None = None, without: Collection[str] = ()
    ) -> tuple[list[Request], dict[str, int]]:
        """Return one page of the requests, newest first, and its pagination; `without` leaves out ids."""
        limit = min(limit, self.limits.page_max)
        among = (
            self._requests
            if reference_id is None
            else {job.id: job for job in self._by_reference.get(reference_id, ())}
        )
        hidden = {job.id for job in self._shy if job.id in among and not job.is_visible(now)} | (among.keys() & without)
        shown = (job for job_id, job in reversed(among.items()) if job_id not in hidden)
        page = list(islice(shown, offset, offset + limit))
        return page, {"limit": limit, "offset": offset, "total": len(among) - len(hidden)}

    def view(self, request: Request, now: float, media_origin: str) -> dict[str, Any]:
        """Return the request as the API shows it, with a fresh link if there is an output."""
        status = request.status(now)
        finished_at = request.finished_at() if status in {"completed", "failed"} else None
        shown = {
            "id": request.id,
            "status": status,
            "created_at": self._stamp(request.created_at),
            "started_at": None if status == "queued" else self._stamp(request.start_at),
            "finished_at": None if finished_at is None else self._stamp(finished_at),
            "output_url": media_origin + self.link(request, now) if status == "completed" else None,
            "error_message": request.failure() if status == "failed" else None,
            "reference_id": request.submission.reference_id,
        }
        return {name: value for name, value in shown.items() if value is not None}

    def references(self) -> KeysView[str | None]:
        """Return the references of all accepted requests."""
        return self._by_reference.keys()

    def requests(self) -> list[Request]:
        """Return every accepted request, oldest first."""
        return list(self._requests.values())

    def _stamp(self, at: float) -> str:
        return datetime.fromtimestamp(self.wall(at), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    # -- links ----------------------------------------------------------------------------------------

    def link(self, request: Request, now: float) -> str:
        """Return path and query of a signed link; `expires` is in Unix milliseconds of the client."""
        expires = round(self.wall(now + self.limits.link_ttl_s) * 1000)
        return f"/outputs/{request.id}.mp4?expires={expires}&sig={self._signature(request.id, str(expires))}"

    def open_link(self, name: str, expires: str, signature: str, now: float) -> Request:
        """Return the request whose output the link shows. Raises Refused 403 for an old or forged link."""
        request_id = name.removesuffix(".mp4")
        if not hmac.compare_digest(self._signature(request_id, expires).encode(), signature.encode()):
            raise Refused(403, "SignatureDoesNotMatch")
        if self.wall(now) * 1000 >= int(expires):
            raise Refused(403, "Request has expired")
        return self._requests[request_id]

    def _signature(self, request_id: str, expires: str) -> str:
        return hmac.new(self._secret, f"{request_id}\n{expires}".encode(), hashlib.sha256).hexdigest()


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Refused(401, "invalid authorization format")
    return token
