"""The API of the stand-in service over HTTP: endpoints, the order of their checks, ordered faults, `/_sandbox`.

Decides nothing that `core` decides; media is on another origin, in `outputs`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Awaitable, Callable, Container, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chamelaion_watch.sandbox.answers import HangUp, instead, tampered
from chamelaion_watch.sandbox.core import PAGE, Fate, Refused, Service, Submission, Ticket
from chamelaion_watch.sandbox.core import Request as Job
from chamelaion_watch.sandbox.exchange import Recorded, exchange_of
from chamelaion_watch.sandbox.faults import Fault, Faults
from chamelaion_watch.sandbox.journal import LOG_MAX, Journal
from chamelaion_watch.sandbox.limits import retry_after_headers
from chamelaion_watch.sandbox.studio import Clock, Studio
from chamelaion_watch.sandbox.upload import receive_json, receive_upload

CONTROL_MAX_BYTES = 4 << 20
TOKEN_NAME = "My API Token"  # noqa: S105 -- a name, as in the documentation
REQUESTS = "/api/v1/lipsync/requests"
GENERATE = "/api/v1/lipsync/generate"
GENERATE_WITH_MEDIA = "/api/v1/lipsync/generate-with-media"
ENDPOINTS = {
    "/api/health": "health",
    "/api/v1/users/me": "me",
    GENERATE: "submit",
    GENERATE_WITH_MEDIA: "submit",
    REQUESTS: "list",
    "/_sandbox": "control",
    "/api/_sandbox": "control",
}

Receiver = Callable[[Request, Path], Awaitable[Submission]]
Usual = Callable[[Request], Response]


@dataclass(slots=True)
class World:
    """All that the two servers share."""

    service: Service
    clock: Clock
    studio: Studio
    media_origin: str
    faults: Faults = field(default_factory=Faults)
    journal: Journal = field(default_factory=Journal)


class Api:
    def __init__(self, world: World) -> None:
        self._world = world
        self._service = world.service
        self._faults = world.faults

    def application(self) -> Recorded:
        app = Starlette(
            routes=[
                Route("/api/health", self._health),
                Route("/api/v1/users/me", self._me),
                Route(GENERATE, self._generate, methods=["POST"]),
                Route(GENERATE_WITH_MEDIA, self._generate_with_media, methods=["POST"]),
                Route(REQUESTS, self._list),
                Route(REQUESTS + "/{handle:path}", self._get),
                Route("/_sandbox", self._sandbox, methods=["GET", "POST"]),
                Route("/api/_sandbox", self._sandbox, methods=["GET", "POST"]),
            ],
            exception_handlers={Refused: self._refused, 404: _plain_error, 405: _plain_error, 500: _bug},
        )
        return Recorded(app, self._world.journal, _endpoint)

    def control(self, changes: Mapping[str, Any]) -> None:
        """Apply `changes` to limits, key and faults: all of them or none. Raises ValueError."""
        limits = {name: value for name, value in changes.items() if name not in {"key", "faults"}}
        changed = self._service.limits.changed(limits)
        key = changes.get("key", self._service.key)
        if not isinstance(key, str) or not key:
            raise ValueError("key must be a text that is not empty")
        if "faults" in changes:
            self._order(changes["faults"])
        self._service.limits = changed
        self._service.rotate(key)

    def facts(self, newest: int = LOG_MAX) -> dict[str, Any]:
        """Return what tests judge by; of the log only the `newest` entries."""
        now = self._world.clock.now()
        return {
            "now": self._service.wall(now),
            "seed": self._service.seed,
            "limits": asdict(self._service.limits),
            "faults": self._faults.facts(),
            "submissions": [self._submission_facts(job, now) for job in self._service.requests()],
            **self._world.journal.facts(newest),
        }

    # -- endpoints ------------------------------------------------------------------------------------

    async def _health(self, request: Request) -> Response:
        return await self._asked(request, "health", set(), lambda _: JSONResponse({"status": "ok"}))

    async def _me(self, request: Request) -> Response:
        def usual(request: Request) -> Response:
            self._authorize(request)
            return JSONResponse({"name": TOKEN_NAME})

        return await self._asked(request, "me", set(), usual)

    async def _get(self, request: Request) -> Response:
        handle = request.path_params["handle"]

        def usual(request: Request) -> Response:
            self._authorize(request)
            now = self._world.clock.now()
            return JSONResponse(self._service.view(self._service.find(handle, now), now, self._world.media_origin))

        return await self._asked(request, "get", {handle, self._reference_of(handle)}, usual)

    async def _list(self, request: Request) -> Response:
        known, asked = self._service.references(), request.query_params.get("reference_id")
        references = known if asked is None or asked in known else {asked}
        return await self._asked(request, "list", references, self._page)

    def _page(self, request: Request, without: frozenset[str] = frozenset()) -> Response:
        self._authorize(request)
        now, asked = self._world.clock.now(), request.query_params
        limit, offset = _number(asked.get("limit"), PAGE, least=1), _number(asked.get("offset"), 0, least=0)
        jobs, pagination = self._service.page(
            now, limit=limit, offset=offset, reference_id=asked.get("reference_id"), without=without
        )
        views = [self._service.view(job, now, self._world.media_origin) for job in jobs]
        return JSONResponse({"data": views, "pagination": pagination})

    async def _asked(self, request: Request, on: str, references: Container[str | None], usual: Usual) -> Response:
        """Answer a question: as usual, or as a fault has it."""
        fault = self._faults.take(on, references=references)
        match fault:
            case None:
                return usual(request)
            case Fault(kind="delay"):
                await asyncio.sleep(fault.number("seconds", 1))
                return usual(request)
            case Fault(kind="forget"):
                self._authorize(request)
                return self._refusal(Refused(404)) if on == "get" else self._page(request, self._named(fault))
            case Fault(kind="patch" | "drip"):
                return tampered(usual(request), fault)
            case _:
                return instead(fault)

    def _named(self, fault: Fault) -> frozenset[str]:
        """Return the ids of the requests that `fault` is about."""
        jobs = self._service.requests()
        return frozenset(job.id for job in jobs if fault.reference_id in {None, job.submission.reference_id})

    def _reference_of(self, handle: str) -> str | None:
        try:
            return self._service.find(handle, self._world.clock.now()).submission.reference_id
        except Refused:
            return None

    # -- submitting -----------------------------------------------------------------------------------

    async def _generate(self, request: Request) -> Response:
        async def receiver(request: Request, _desk: Path) -> Submission:
            return await receive_json(request)

        return await self._submitted(request, receiver)

    async def _generate_with_media(self, request: Request) -> Response:
        return await self._submitted(request, receive_upload)

    async def _submitted(self, request: Request, receiver: Receiver) -> Response:
        fault = self._faults.take("submit")
        if fault is not None and fault.kind == "delay":
            await asyncio.sleep(fault.number("seconds", 1))
        elif fault is not None:
            return await self._front(request, fault)
        self._authorize(request)
        ticket = self._service.admit(self._world.clock.now())
        desk = self._world.studio.desk(str(ticket.number))
        try:
            submission = await receiver(request, desk)
        except BaseException as error:
            self._drop(ticket, desk)
            if isinstance(error, ClientDisconnect):
                return HangUp()
            raise
        return await self._received(ticket, desk, submission)

    async def _front(self, request: Request, fault: Fault) -> Response:
        """Answer a submission before any check of the service, by default with its body unread."""
        exchange = exchange_of(request.scope)
        exchange.then, exchange.stop_s = fault.params.get("then", "drain"), fault.number("seconds", 60)
        if fault.params.get("read_body"):
            try:
                async with aclosing(request.stream()) as stream:
                    async for _ in stream:
                        pass
            except ClientDisconnect:
                return HangUp()
        return instead(fault)

    async def _received(self, ticket: Ticket, desk: Path, submission: Submission) -> Response:
        """Create the request, or do what a fault has ordered in its place."""
        reference = submission.reference_id
        references = {reference} if reference else set()
        fault = self._faults.take("submit", "answer", references)
        if fault is not None and fault.kind == "delay":
            await asyncio.sleep(fault.number("seconds", 1))
            fault = None
        if fault is not None and not fault.creates:
            self._drop(ticket, desk)
            return instead(fault)
        fate = _fate(self._faults.take_fates(references))
        if fault is not None and fault.kind == "late":
            self._world.studio.spawn(self._created_later(ticket, desk, submission, fate, fault.number("delay_s", 1)))
            return instead(fault)
        job = self._created(ticket, desk, submission, fate)
        return tampered(JSONResponse({"status": "success", "request_id": job.id}), fault)

    def _created(self, ticket: Ticket, desk: Path, submission: Submission, fate: Fate) -> Job:
        job = self._service.accept(ticket, submission, self._world.clock.now(), fate)
        self._world.studio.start(job, desk)
        return job

    async def _created_later(
        self, ticket: Ticket, desk: Path, submission: Submission, fate: Fate, delay_s: float
    ) -> None:
        await asyncio.sleep(delay_s)
        self._created(ticket, desk, submission, fate)

    def _drop(self, ticket: Ticket, desk: Path) -> None:
        self._service.release(ticket)
        self._world.studio.clear(desk)

    # -- refusing -------------------------------------------------------------------------------------

    def _authorize(self, request: Request) -> None:
        self._service.authorize(request.headers.get("authorization"), request.headers.get("x-api-key"))

    def _refused(self, request: Request, error: Exception) -> Response:  # noqa: ARG002 -- Starlette's signature
        assert isinstance(error, Refused)
        return self._refusal(error)

    def _refusal(self, error: Refused) -> Response:
        headers = {}
        if error.wait_s is not None:
            now = self._world.clock.now()
            wait_s = error.wait_s / self._world.clock.speed
            headers = retry_after_headers(self._service.limits.retry_after, wait_s, self._service.wall(now))
        return JSONResponse({"error": error.text}, error.status, headers)

    # -- control --------------------------------------------------------------------------------------

    async def _sandbox(self, request: Request) -> Response:
        if request.client is None or not ipaddress.ip_address(request.client.host).is_loopback:
            return JSONResponse({"error": "only from loopback"}, 403)
        if request.method == "POST":
            try:
                self.control(await _object(request))
            except ValueError as error:
                return JSONResponse({"error": str(error)}, 400)
        newest = LOG_MAX if request.method == "GET" else 0
        return JSONResponse(self.facts(_number(request.query_params.get("log"), newest, least=0)))

    def _order(self, orders: object) -> None:
        if not orders or orders == "clear":
            self._faults.clear()
        elif isinstance(orders, list | tuple):
            self._faults.add(orders)
        else:
            raise ValueError('faults is a list to append, or "clear"')

    def _submission_facts(self, job: Job, now: float) -> dict[str, Any]:
        asked, output = job.submission, job.output
        return {
            "id": job.id,
            "reference_id": asked.reference_id,
            "accepted_at": self._service.wall(job.created_at),
            "status": job.status(now),
            "error_message": job.failure(),
            "fields": dict(asked.fields),
            "video_sha256": asked.video.sha256,
            "video_bytes": asked.video.size_bytes,
            "video_filename": asked.video.filename,
            "audio_sha256": asked.audio.sha256,
            "audio_bytes": asked.audio.size_bytes,
            "audio_filename": asked.audio.filename,
            "output_sha256": output and output.sha256,
            "output_bytes": output and output.size_bytes,
        }


def _fate(faults: list[Fault]) -> Fate:
    kinds = {fault.kind: fault for fault in faults}
    return Fate(
        failure=str(kinds["fail"].params.get("message", "lip sync failed")) if "fail" in kinds else None,
        is_endless="never" in kinds,
        is_forgotten="forget" in kinds,
        hidden_s=kinds["lag"].number("delay_s", 1) if "lag" in kinds else 0.0,
    )


def _endpoint(method: str, path: str) -> str:  # noqa: ARG001 -- the path is enough here
    return ENDPOINTS.get(path) or ("get" if path.startswith(REQUESTS + "/") else "other")


def _number(text: str | None, default: int, *, least: int) -> int:
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise Refused(400, f"limit and offset are whole numbers, and this one at least {least}")
    return int(text)


async def _object(request: Request) -> dict[str, Any]:
    body = bytearray()
    async with aclosing(request.stream()) as stream:
        async for chunk in stream:
            body += chunk
            if len(body) > CONTROL_MAX_BYTES:
                raise ValueError("too long")
    changes = json.loads(body)
    if not isinstance(changes, dict):
        raise ValueError("changes are an object")  # noqa: TRY004 -- one error for all bad changes
    return changes


def _plain_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 -- Starlette's signature
    return JSONResponse({"error": str(getattr(error, "detail", error)).lower()}, getattr(error, "status_code", 500))


def _bug(request: Request, error: Exception) -> Response:  # noqa: ARG001 -- Starlette's signature
    return JSONResponse({"error": "internal error"}, 500)
