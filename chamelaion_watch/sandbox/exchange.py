"""One HTTP exchange on the wire: logged, counted, and ended the way a real server or a broken one would.

`Recorded` wraps an ASGI application; `WireProtocol` is uvicorn's, and hands itself to the application, which is what
it takes to reset a connection. Nothing here knows what the API means.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
import traceback
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from chamelaion_watch.sandbox.journal import Entry, Journal

LINGER_S = 30.0  # how long the rest of a refused upload is read and thrown away, as nginx does
LINGER_IDLE_S = 5.0
CREDENTIALS = ("authorization", "x-api-key", "cookie", "proxy-authorization")


class WireProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, quiet, and known to its application as `scope["state"]["wire"]`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        # uvicorn copies `app_state` into the scope of each request: the public way to hand something down
        self.app_state = {**self.app_state, "wire": self}
        self.logger = _silent()
        self.access_log = False
        super().connection_made(transport)


class Exchange:
    """What is known of the exchange under way; `scope["state"]["exchange"]`."""

    def __init__(self, entry: Entry, journal: Journal, *, has_body: bool) -> None:
        self.entry = entry
        self._journal = journal
        self.is_read = not has_body  # the body, to its end
        self.then = "drain"  # what happens to an unread rest of the body after the answer
        self.stop_s = 0.0

    def answered(self, status: int, retry_after: str | None = None) -> None:
        self._journal.answered(self.entry, status, retry_after)


class Recorded:
    """An application whose exchanges are written into the journal, and whose early answers linger.

    An answer given before the body was read says `Connection: close`, goes out at once, and then the rest of
    the body is read and thrown away: closing with unread data would reset the connection, and the
    client might never see the answer.
    """

    def __init__(self, app: ASGIApp, journal: Journal, endpoint: Callable[[str, str], str]) -> None:
        self._app = app
        self._journal = journal
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = self._began(scope)
        scope.setdefault("state", {})["exchange"] = exchange

        async def counted() -> Message:
            message = await receive()
            exchange.entry.received_bytes += len(message.get("body", b""))
            exchange.is_read = exchange.is_read or not message.get("more_body", False)
            return message

        async def answered(message: Message) -> None:
            await self._answered(exchange, message, scope, counted, send)

        try:
            await self._app(scope, counted, answered)
        except Exception:
            self._journal.bugs.append(traceback.format_exc())
            raise
        finally:
            self._journal.ended(exchange.entry)

    def _began(self, scope: Scope) -> Exchange:
        headers = Headers(scope=scope)
        entry = Entry(
            at=time.time(),
            endpoint=self._endpoint(scope["method"], scope["path"]),
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            has_credentials=any(name in headers for name in CREDENTIALS),
            user_agent=headers.get("user-agent", ""),
        )
        self._journal.began(entry)
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        return Exchange(entry, self._journal, has_body=has_body)

    async def _answered(self, exchange: Exchange, message: Message, scope: Scope, receive: Receive, send: Send) -> None:
        if message["type"] == "http.response.start":
            exchange.answered(message["status"], _retry_after(message.get("headers", [])))
            await send({**message, "headers": _with_own(message.get("headers", []), is_last=not exchange.is_read)})
        elif exchange.is_read or message.get("more_body", False):
            await send(message)
        else:
            await send({**message, "more_body": True})
            await _linger(exchange, scope, receive)
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def hang_up(scope: Scope, receive: Receive, *, reset: bool = False) -> None:
    """End the connection without a further byte: with FIN, or with RST if `reset`."""
    transport = wire(scope).transport
    if reset:
        connection: socket.socket = transport.get_extra_info("socket")
        # linger on, for 0 s: close() drops what is unsent and sends RST
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await disconnected(receive)


async def disconnected(receive: Receive) -> None:
    """Wait until the connection is gone; uvicorn would answer 500 for an application that returns earlier."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def flushed(scope: Scope) -> None:
    """Wait until what was sent has left the process: an abort would throw it away."""
    wire(scope).transport.set_write_buffer_limits(high=0)  # "may write" now means "all is written"
    await wire(scope).flow.drain()


def wire(scope: Scope) -> WireProtocol:
    found = scope["state"]["wire"]
    assert isinstance(found, WireProtocol)
    return found


def exchange_of(scope: Scope) -> Exchange:
    found = scope["state"]["exchange"]
    assert isinstance(found, Exchange)
    return found


async def _linger(exchange: Exchange, scope: Scope, receive: Receive) -> None:
    if exchange.then == "stop":
        wire(scope).flow.pause_reading()
        await asyncio.sleep(exchange.stop_s)
    if exchange.then != "drain":
        await flushed(scope)
        await hang_up(scope, receive, reset=True)
        return
    give_up_at = time.monotonic() + LINGER_S
    while not exchange.is_read and time.monotonic() < give_up_at:
        try:
            message = await asyncio.wait_for(receive(), LINGER_IDLE_S)
        except TimeoutError:
            return
        if message["type"] == "http.disconnect":
            return


def _with_own(headers: Any, *, is_last: bool) -> list[tuple[bytes, bytes]]:
    own = [(b"server", b"chamelaion-sandbox"), (b"date", formatdate(usegmt=True).encode())]
    return [*headers, *own, *([(b"connection", b"close")] if is_last else [])]


def _silent() -> logging.Logger:
    """A logger that says nothing: what goes wrong is in the journal, and faults go wrong on purpose."""
    logger = logging.getLogger("chamelaion_watch.sandbox")
    logger.disabled = True
    return logger


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    named = {name.lower(): value.decode("latin-1") for name, value in headers}
    if b"retry-after-ms" in named:
        return f"{named[b'retry-after-ms']} ms"
    return named.get(b"retry-after")
