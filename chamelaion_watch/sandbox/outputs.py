"""The media origin of the stand-in service: signed links, ranges, ETags, and the ways a download can break.

A second origin on purpose: whoever sends the API key here is caught by the journal.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from chamelaion_watch.sandbox.answers import Stall, instead
from chamelaion_watch.sandbox.api import World
from chamelaion_watch.sandbox.core import Refused
from chamelaion_watch.sandbox.exchange import Recorded, disconnected, exchange_of, flushed, hang_up, wire
from chamelaion_watch.sandbox.faults import Fault

PIECE_BYTES = 1 << 20
DENIED = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>{}</Message></Error>'
OWN = {"truncate", "short", "cut_chunked", "cut_close", "empty", "ignore_range", "wrong_range", "etag_change", "slow"}
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True, slots=True)
class Slice:
    """What of the file is sent: `length` bytes from `start`; `is_part` makes it a 206."""

    start: int
    length: int
    is_part: bool = False


class Outputs:
    def __init__(self, world: World) -> None:
        self._world = world
        self._tags = itertools.count(1)

    def application(self) -> Recorded:
        app = Starlette(
            routes=[Route("/outputs/{name}", self._output)],
            exception_handlers={404: _unknown, 500: _unknown},
        )
        return Recorded(app, self._world.journal, lambda _method, _path: "media")

    async def _output(self, request: Request) -> Response:
        name, asked, now = request.path_params["name"], request.query_params, self._world.clock.now()
        try:
            job = self._world.service.open_link(name, asked.get("expires", ""), asked.get("sig", ""), now)
        except Refused as refused:
            return _denied(refused.text)
        path = self._world.studio.output(job)
        fault = self._world.faults.take("media", references={job.id, job.submission.reference_id or job.id})
        if fault is not None and fault.kind == "delay":
            await asyncio.sleep(fault.number("seconds", 1))
            fault = None
        if fault is not None and fault.kind == "expired":
            return _denied("Request has expired")
        if fault is not None and fault.kind == "stall" and not fault.number("after_bytes", 0):
            return Stall(fault.number("seconds", 3600))
        if fault is not None and fault.kind not in OWN | {"stall", "drip"}:
            return instead(fault)
        tag = str(job.output.sha256) if job.output else ""
        return self._file(request, path, tag, fault)

    def _file(self, request: Request, path: Path, tag: str, fault: Fault | None) -> Response:
        kind = fault.kind if fault else ""
        size = path.stat().st_size
        if kind == "etag_change":
            tag = f"{tag[:16]}-{next(self._tags)}"
        etag = f'"{tag}"'
        asked = None if kind == "ignore_range" else request.headers.get("range")
        if request.headers.get("if-range", etag) != etag:
            asked = None
        part = _slice(asked, size)
        if part is None:
            return Response(status_code=416, headers={"content-range": f"bytes */{size}"})
        if kind == "wrong_range" and part.is_part:
            part = Slice(0, part.length, is_part=True)
        return File(path, part, size, etag, fault)


class File(Response):
    """A part of a file, or what `fault` leaves of it."""

    def __init__(self, path: Path, part: Slice, size: int, etag: str, fault: Fault | None) -> None:
        headers = {"accept-ranges": "bytes", "etag": etag, "content-length": str(part.length)}
        if part.is_part:
            headers["content-range"] = f"bytes {part.start}-{part.start + part.length - 1}/{size}"
        super().__init__(None, 206 if part.is_part else 200, headers, "video/mp4")
        self._path = path
        self._part = part
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind, length = (self._fault.kind if self._fault else ""), self._part.length
        if kind in {"truncate", "short", "cut_chunked", "cut_close"}:
            length //= 2
        elif kind == "empty":
            length = 0
        elif kind == "stall" and self._fault:
            length = min(length, int(self._fault.number("after_bytes", 0)))
        if kind in {"short", "empty"}:
            self.headers["content-length"] = str(length)
        elif kind == "cut_chunked":
            del self.headers["content-length"]
        if scope["method"] == "HEAD":
            length = 0
        if kind == "cut_close":
            await self._send_raw(scope, receive, length)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._pieces(length)) as pieces:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._end(kind, scope, receive, send)

    async def _end(self, kind: str, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD" or kind not in {"truncate", "cut_chunked", "stall"}:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        if kind == "stall" and self._fault:
            await Stall(self._fault.number("seconds", 3600))(scope, receive, send)
            return
        await flushed(scope)
        await hang_up(scope, receive, reset=kind == "truncate")

    async def _send_raw(self, scope: Scope, receive: Receive, length: int) -> None:
        """An answer that ends with its connection, as of HTTP/1.0: h11 cannot cut it short unnoticed."""
        transport = wire(scope).transport
        exchange_of(scope).answered(self.status_code)
        head = f"HTTP/1.1 {self.status_code} OK\r\ncontent-type: video/mp4\r\nconnection: close\r\n\r\n"
        transport.write(head.encode())
        async with aclosing(self._pieces(length)) as pieces:
            async for piece in pieces:
                if not transport.is_closing():
                    transport.write(piece)
                    await flushed(scope)
        transport.close()
        await disconnected(receive)

    async def _pieces(self, length: int) -> AsyncGenerator[bytes, None]:
        step, pause_s = self._pace()
        with self._path.open("rb") as file:
            file.seek(self._part.start)
            while length > 0:
                piece = await asyncio.to_thread(file.read, min(step, length))
                if not piece:
                    return
                length -= len(piece)
                yield piece
                await asyncio.sleep(pause_s)

    def _pace(self) -> tuple[int, float]:
        """Return the bytes of a piece and the pause after it."""
        if self._fault and self._fault.kind == "drip":
            return 1, self._fault.number("every_s", 1)
        if self._fault and self._fault.kind == "slow":
            rate = max(1, int(self._fault.number("bytes_per_s", 65_536)))
            return max(1, rate // 10), max(1, rate // 10) / rate
        return PIECE_BYTES, 0.0


def _slice(asked: str | None, size: int) -> Slice | None:
    """Return what a Range header asks for; None if it cannot be had, everything if it is not understood."""
    match = RANGE.fullmatch(asked.strip()) if asked else None
    if match is None or match.group(0) == "bytes=-":
        return Slice(0, size)
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    return Slice(start, end - start, is_part=True) if start < end else None


def _denied(message: str) -> Response:
    return Response(DENIED.format(message), 403, media_type="application/xml")


def _unknown(request: Request, error: Exception) -> Response:  # noqa: ARG001 -- Starlette's signature
    return JSONResponse({"error": "no such object"}, getattr(error, "status_code", 500))
