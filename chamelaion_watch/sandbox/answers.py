"""Faults carried out on the wire: each kind that answers, or fails to answer, as a response.

What a kind means stands in `faults`; whether a request is created, and what a usual answer is, decides the caller.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import Callable
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES

from chamelaion_watch.sandbox.core import TEXTS
from chamelaion_watch.sandbox.exchange import disconnected, hang_up
from chamelaion_watch.sandbox.faults import Fault

MIB = 1 << 20
LOGIN = "<!DOCTYPE html>\n<html><head><title>Log in</title></head><body><form>Please log in.</form></body></html>\n"


class HangUp(Response):
    """No answer: the connection ends."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- ASGI's signature
        await hang_up(scope, receive, reset=self._reset)


class Stall(Response):
    """No answer for a time, then the connection ends; it ends at once when the client goes."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- ASGI's signature
        try:
            await asyncio.wait_for(self._idle(scope, receive), self._seconds)
        except TimeoutError:
            await hang_up(scope, receive)

    async def _idle(self, scope: Scope, receive: Receive) -> None:
        if scope["state"]["exchange"].is_read:
            await disconnected(receive)
        else:  # to watch for the client's end would mean to read
            await asyncio.sleep(self._seconds)


class Drip(Response):
    """Another response, one byte at a time."""

    def __init__(self, usual: Response, every_s: float) -> None:
        super().__init__(bytes(usual.body), usual.status_code, dict(usual.headers))
        self._every_s = every_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = bytes(self.body)
        for at in range(len(body)):
            await send({"type": "http.response.body", "body": body[at : at + 1], "more_body": True})
            await asyncio.sleep(self._every_s)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Huge(Response):
    """A JSON text of many MiB, made while it is sent."""

    def __init__(self, megabytes: int) -> None:
        super().__init__(media_type="application/json")
        del self.headers["content-length"]
        self._megabytes = megabytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": b'{"padding":"', "more_body": True})
        for _ in range(self._megabytes):
            await send({"type": "http.response.body", "body": b"0" * MIB, "more_body": True})
        await send({"type": "http.response.body", "body": b'"}', "more_body": False})


class GzipBomb(Response):
    """The same text, compressed a thousandfold."""

    def __init__(self, megabytes: int) -> None:
        super().__init__(media_type="application/json", headers={"content-encoding": "gzip"})
        self._megabytes = megabytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await asyncio.to_thread(_zipped, self._megabytes)
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        await Response(body, headers=headers)(scope, receive, send)


def instead(fault: Fault) -> Response:
    """Return what `fault` answers in place of the usual answer."""
    return _INSTEAD[fault.kind](fault)


def tampered(usual: Response, fault: Fault | None) -> Response:
    """Return the usual answer as `fault` leaves it."""
    if fault is None:
        return usual
    if fault.kind == "drip":
        return Drip(usual, fault.number("every_s", 1))
    if fault.kind == "patch":
        return _patched(usual, fault)
    return instead(fault)


def _status(fault: Fault) -> Response:
    status, headers = int(fault.number("status", 500)), dict(fault.params.get("headers", {}))
    if "body" not in fault.params:
        return JSONResponse({"error": TEXTS.get(status) or STATUS_PHRASES[status].decode().lower()}, status, headers)
    body = fault.params["body"]
    text = body if isinstance(body, str) else json.dumps(body)
    return Response(text, status, headers, fault.params.get("content_type", "text/plain"))


def _json(value: Any, status: int) -> Response:
    # not JSONResponse: it refuses NaN, which a broken service may send
    return Response(json.dumps(value), status, media_type="application/json")


def _patched(usual: Response, fault: Fault) -> Response:
    answer = json.loads(bytes(usual.body))
    own = {"data", "pagination"} & answer.keys()  # of a list: all other keys are its items'
    items = [item for item in answer.get("data", []) if fault.reference_id in {None, item.get("reference_id")}]
    for name, value in fault.params.get("set", {}).items():
        for target in [answer] if name in own or not own else items:
            target[name] = value
    for name in fault.params.get("remove", ()):
        for target in [answer] if name in own or not own else items:
            target.pop(name, None)
    return _json(answer, usual.status_code)


def _zipped(megabytes: int) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as out:
        out.write(b'{"padding":"')
        for _ in range(megabytes):
            out.write(b"0" * MIB)
        out.write(b'"}')
    return packed.getvalue()


def _deep(fault: Fault) -> Response:
    depth = int(fault.number("depth", 200_000))
    return Response("[" * depth + "]" * depth, media_type="application/json")


def _redirect(fault: Fault) -> Response:
    return Response(status_code=int(fault.number("status", 307)), headers={"location": fault.params["location"]})


_INSTEAD: dict[str, Callable[[Fault], Response]] = {
    "status": _status,
    "created_500": _status,
    "html": lambda fault: HTMLResponse(LOGIN, int(fault.number("status", 200))),
    "json": lambda fault: _json(fault.params.get("body"), int(fault.number("status", 200))),
    "broken_json": lambda _: Response('{"status": "success", "request_', media_type="application/json"),
    "deep_json": _deep,
    "huge": lambda fault: Huge(int(fault.number("megabytes", 300))),
    "gzip_bomb": lambda fault: GzipBomb(int(fault.number("megabytes", 300))),
    "redirect": _redirect,
    "stall": lambda fault: Stall(fault.number("seconds", 3600)),
    "reset_early": lambda _: HangUp(reset=True),
    "reset_late": lambda _: HangUp(reset=True),
    "lost": lambda _: HangUp(),
    "lost_before": lambda _: HangUp(),
    "late": lambda _: HangUp(),
}
