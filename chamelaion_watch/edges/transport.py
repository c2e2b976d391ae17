"""The road to the service: sockets that hear an early refusal, deadlines, proxies, checked addresses.

Part of the HTTP edge (`api`, `answers`, `multipart`, `download`, `transport`, `addresses`), the only HTTP client.
httpcore speaks HTTP on them; what goes wrong leaves here as `Unreachable` (nothing was sent yet) or `Transient`.
Every request has a connection of its own: at 60 requests a minute a kept one saves nothing, and one that the server
closes at the wrong moment leaves a submission in doubt. It must not follow redirects, keep cookies or retry.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import select
import socket
import ssl
import struct
import termios
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpcore
import httpx

from chamelaion_watch.core.errors import Transient, Unreachable
from chamelaion_watch.edges.addresses import (
    Address,
    AddressCheck,
    addresses_of,
    anywhere,
    check_literal,
    proxy_for,
    reason_of,
    refused_address,
    unreachable,
    untrusted,
)
from chamelaion_watch.edges.answers import has_final_answer

PIECE_BYTES = 256 * 1024  # 0.98 of curl over TLS; larger gains 5 %, smaller hears no sooner
_READ_BYTES = 64 * 1024
_EARLY_ANSWER_S = 10.0  # for the rest of an answer whose first bytes came while we were sending
_LOOK_S = 1.0  # how often a full send queue is measured
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux
_Secure: TypeAlias = "Callable[[socket.socket, ssl.SSLContext, str | None, float | None], Stream]"
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait; no time-out limits a transfer as a whole, only its standing still."""

    connect_s: float = 10.0  # per address, and again for the TLS handshake
    progress_s: float = 60.0  # without a byte moving
    answer_s: float = 300.0  # for the whole answer after an upload's last byte
    api_s: float = 30.0  # for a small call from beginning to end: an endless drip must not hold a thread


class Deadline:
    """The instant by which an exchange must be over; it only ever comes closer."""

    def __init__(self, seconds: float = math.inf) -> None:
        self._until = time.monotonic() + seconds

    def within(self, seconds: float) -> None:
        """No later than `seconds` from now."""
        self._until = min(self._until, time.monotonic() + seconds)

    def left_s(self, timeout: float | None = None) -> float:
        """Seconds that may still be waited, `timeout` at most, never negative."""
        return max(0.0, min(self._until - time.monotonic(), math.inf if timeout is None else timeout))


class Transport(httpx.BaseTransport):
    """Sends one request over a connection of its own; `extensions["deadline"]` may carry a `Deadline`.

    Raises Unreachable, Transient, and Rejected `output_url_refused` where `is_allowed` says no to an address.
    With a proxy only literal addresses are checked: it resolves the names. `context` is asked for only for TLS.
    """

    def __init__(
        self, context: Callable[[], ssl.SSLContext], *, proxies: Mapping[str, str], is_allowed: AddressCheck = anywhere
    ) -> None:
        self._context = context
        self._proxies = proxies
        self._is_allowed = is_allowed
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._is_closed = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self._is_closed:
            raise Transient("nothing is sent any more: we are stopping", code="connection_reset")
        backend = self._backend(request)
        inner = httpcore.Request(
            method=request.method,
            url=_core_url(request.url),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with backend.translating():
            answer = self._pool(backend, request.url.scheme == "https").handle_request(inner)
        assert isinstance(answer.stream, Iterable)
        return httpx.Response(answer.status, headers=answer.headers, stream=_AnswerStream(answer.stream, backend))

    def close(self) -> None:
        """Ends every open connection, now and later; threads that wait on one get `connection_reset`."""
        with self._lock:
            self._is_closed = True
            for stream in self._streams:
                stream.shut_down()

    def _backend(self, request: httpx.Request) -> Backend:
        proxy = proxy_for(request.url, self._proxies)
        if proxy:
            check_literal(request.url.host, self._is_allowed)
        return Backend(
            deadline=request.extensions.get("deadline") or Deadline(),
            is_allowed=anywhere if proxy else self._is_allowed,
            proxy=proxy,
            has_tunnel=proxy is not None and request.url.scheme == "https",
            on_open=self._remember,
        )

    def _remember(self, stream: Stream) -> None:
        with self._lock:
            self._streams.add(stream)
            if self._is_closed:
                stream.shut_down()

    def _pool(self, backend: Backend, is_secure: bool) -> httpcore.ConnectionPool:
        context = self._context() if is_secure else None
        if backend.proxy is None:
            return httpcore.ConnectionPool(context, max_keepalive_connections=0, network_backend=backend)
        return httpcore.HTTPProxy(
            _core_url(backend.proxy.url),
            proxy_auth=backend.proxy.raw_auth,
            ssl_context=context,
            max_keepalive_connections=0,
            network_backend=backend,
        )


def _core_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


class _AnswerStream(httpx.SyncByteStream):
    def __init__(self, stream: Iterable[bytes], backend: Backend) -> None:
        self._stream = stream
        self._backend = backend

    def __iter__(self) -> Iterator[bytes]:
        with self._backend.translating():
            yield from self._stream

    def close(self) -> None:
        if hasattr(self._stream, "close"):
            self._stream.close()


class Backend(httpcore.NetworkBackend):
    """Opens the one connection of one request, and says in our words what went wrong with it."""

    def __init__(
        self,
        *,
        deadline: Deadline,
        is_allowed: AddressCheck,
        proxy: httpx.Proxy | None,
        has_tunnel: bool,
        on_open: Callable[[Stream], None],
    ) -> None:
        self.proxy = proxy
        self._deadline = deadline
        self._is_allowed = is_allowed
        self._has_tunnel = has_tunnel
        self._on_open = on_open
        self._stream: Stream | None = None
        self._where = "the server"

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 — httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        self._where = f"the proxy {host}:{port}" if self.proxy else f"{host}:{port}"
        try:
            sock = self._connect(self._checked(host, addresses_of(host, port)), timeout)
        except OSError as error:
            raise unreachable(self._where, error) from error
        return self._opened(sock)

    @contextlib.contextmanager
    def translating(self) -> Iterator[None]:
        try:
            yield
        except httpcore.ProxyError as error:
            raise self._proxy_failed(str(error)) from error
        except httpcore.RemoteProtocolError as error:
            raise self._broken() from error
        except Transient as error:
            if self._is_tunnelling:
                raise self._proxy_failed(error.message) from error
            raise

    @property
    def _is_tunnelling(self) -> bool:
        """Still talking to the proxy: the service has not seen a byte."""
        return self._has_tunnel and not (self._stream and self._stream.is_secure)

    def _broken(self) -> Unreachable | Transient:
        if self._is_tunnelling:
            return self._proxy_failed("no usable answer")
        if self._stream and self._stream.has_ended:
            return Transient(f"{self._where} hung up before its answer was whole", code="connection_reset")
        return Transient(f"{self._where} does not answer in HTTP as the service does", code="not_the_service")

    def _proxy_failed(self, reason: str) -> Unreachable:
        return Unreachable(
            f"{self._where} gives no way to the service ({reason[:100]}): check HTTPS_PROXY and NO_PROXY", code="proxy"
        )

    def _checked(self, host: str, addresses: list[Address]) -> list[Address]:
        """The addresses that may be used; we connect to what was checked, so a second DNS answer changes nothing."""
        allowed = [address for address in addresses if self._is_allowed(address.literal)]
        if not allowed:
            raise refused_address(host)
        return allowed

    def _connect(self, addresses: list[Address], timeout: float | None) -> socket.socket:
        failure = OSError("it has no address")
        for address in addresses:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
            try:
                sock.settimeout(self._patience_s(timeout))
                sock.connect(address.sockaddr)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure

    def _patience_s(self, timeout: float | None) -> float:
        """For `settimeout`, which takes 0 for not blocking and no infinity."""
        return max(0.001, min(self._deadline.left_s(timeout), 3600.0))

    def _secure(self, sock: socket.socket, context: ssl.SSLContext, host: str | None, timeout: float | None) -> Stream:
        sock.settimeout(self._patience_s(timeout))
        try:
            secured = context.wrap_socket(sock, server_hostname=host)
        except (OSError, ValueError) as error:
            sock.close()
            raise untrusted(host or self._where, error) from error
        return self._opened(secured)

    def _opened(self, sock: socket.socket) -> Stream:
        self._stream = Stream(sock, self._deadline, self._secure)
        self._on_open(self._stream)
        return self._stream


class Stream(httpcore.NetworkStream):
    """A socket that listens while it sends.

    Stock clients hear a 429 only after the whole file was sent, or never when the server stops reading. So the socket
    does not block, and between pieces it is read into a stash (TLS 1.3 session tickets make a socket readable without
    an answer, so looking is not enough). A final status, the end or a reset raises `httpcore.WriteError`, upon which
    httpcore itself reads the answer. The write time-out means: nothing moved for that long.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline, secure: _Secure) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._deadline = deadline
        self._secure = secure
        self._stash = b""
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self.has_ended = False

    @property
    def is_secure(self) -> bool:
        return isinstance(self._sock, ssl.SSLSocket)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._stash or self.has_ended:
            data, self._stash = self._stash[:max_bytes], self._stash[max_bytes:]
            return data
        patience_s = self._deadline.left_s(timeout)
        until = Deadline(patience_s)
        try:
            while (received := self._receive(max_bytes)) is None:
                if not self._wait(select.POLLIN, until.left_s()):
                    raise Transient(f"the server kept silent for {patience_s:.0f} s: too long", code="timed_out")
        except OSError as error:
            self.has_ended = True
            raise Transient(f"the connection broke: {reason_of(error)}", code="connection_reset") from error
        return received

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        while rest:
            self._heed()
            rest = rest[self._send(rest[:PIECE_BYTES], timeout) :]

    def close(self) -> None:
        """Closes; what the kernel still holds is thrown away, so that a withdrawn upload does not go on by itself."""
        if self._sock.fileno() < 0:
            return
        if self._queued_bytes():
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def shut_down(self) -> None:
        """End the connection from another thread, without giving its descriptor away."""
        with contextlib.suppress(OSError):
            # not SSLSocket's own: it drops the TLS layer first, and a thread in mid-send would go on in plain text
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return self._secure(self._sock, ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:
        return self._sock if info == "ssl_object" and self.is_secure else None

    def _receive(self, max_bytes: int) -> bytes | None:
        """What has arrived, None for nothing yet, b"" for the end."""
        try:
            data = self._sock.recv(max_bytes)
        except _WOULD_BLOCK:
            return None
        self.has_ended = not data
        return data

    def _heed(self) -> None:
        """Hear what the server says while we send, having asked the kernel to acknowledge at once (it forgets soon).

        A server without TCP_NODELAY holds its answer back until its TLS session tickets are acknowledged, and if it
        then resets the answer is lost: 42 of 100 with a small receive buffer there, 2 of 100 with this.
        """
        try:
            if _QUICKACK is not None:
                self._sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            while (data := self._receive(_READ_BYTES)) is not None:
                self._stash += data
                if not data or has_final_answer(self._stash):
                    self._deadline.within(_EARLY_ANSWER_S)
                    raise httpcore.WriteError("the server answered or left before it had everything")
        except OSError as error:
            raise httpcore.WriteError(reason_of(error)) from error

    def _send(self, piece: memoryview, timeout: float | None) -> int:
        while True:
            try:
                return self._sock.send(piece)
            except ssl.SSLWantReadError:
                self._await_movement(select.POLLIN, timeout)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._await_movement(select.POLLIN | select.POLLOUT, timeout)
            except OSError as error:
                raise httpcore.WriteError(reason_of(error)) from error
            self._heed()

    def _await_movement(self, events: int, timeout: float | None) -> None:
        """Until the socket is ready; the queue is measured as well, for a big one on a slow line is ready rarely."""
        patience_s = self._deadline.left_s(timeout)
        queued, quiet = self._queued_bytes(), Deadline(patience_s)
        while not self._wait(events, quiet.left_s(_LOOK_S)):
            if (now_queued := self._queued_bytes()) != queued:
                queued, quiet = now_queued, Deadline(self._deadline.left_s(timeout))
            elif not quiet.left_s():
                raise Transient(f"sending stood still for {patience_s:.0f} s", code="stalled")

    def _wait(self, events: int, wait_s: float) -> bool:
        self._poll.modify(self._sock, events)
        return bool(self._poll.poll(None if wait_s == math.inf else math.ceil(wait_s * 1000)))

    def _queued_bytes(self) -> int:
        """Bytes that the peer has not acknowledged; 0 where the system does not tell."""
        try:
            return int(struct.unpack("i", fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(4)))[0])
        except OSError:
            return 0
