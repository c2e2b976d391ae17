"""The road to the service: one connection for each request, through the proxy if there is one, to checked addresses.

Part of the HTTP edge, which is listed in `api`. httpcore speaks HTTP on it; what goes wrong leaves here as
`Unreachable` (nothing was sent yet) or `Transient`.
Every request has a connection of its own: at 60 requests a minute a kept one saves nothing, and one that the server
closes at the wrong moment leaves a submission in doubt. It must not follow redirects, keep cookies or retry.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

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
    refused_address,
    unreachable,
    untrusted,
)
from chamelaion_watch.edges.stream import PIECE_BYTES, Deadline, Stream


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait; no time-out limits a transfer as a whole, only its standing still."""

    connect_s: float = 10.0  # per address, and again for the TLS handshake
    progress_s: float = 60.0  # without a byte moving
    answer_s: float = 300.0  # for the whole answer after an upload's last byte
    api_s: float = 30.0  # for a small call from beginning to end: an endless drip must not hold a thread


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
        return httpx.Response(answer.status, headers=answer.headers, stream=_AnswerStream(answer, backend))

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
            read_timeout_s=request.extensions.get("timeout", {}).get("read"),
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
    """The body. Only the beginning of one with a known length comes through h11, which costs more than TLS itself."""

    def __init__(self, answer: httpcore.Response, backend: Backend) -> None:
        self._answer = answer
        self._backend = backend

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._answer.stream, Iterable)
        length = _length_of(httpx.Headers(self._answer.headers))
        with self._backend.translating():
            chunks = iter(self._answer.stream)
            yield from chunks if length is None else self._counted(chunks, length)

    def _counted(self, chunks: Iterator[bytes], length: int) -> Iterator[bytes]:
        chunk = next(chunks, b"")  # all that h11 has read beyond the head; nothing for an answer without a body
        while chunk:
            yield chunk
            length -= len(chunk)
            chunk = self._backend.read(min(length, PIECE_BYTES)) if length else b""

    def close(self) -> None:
        self._answer.close()


def _length_of(headers: httpx.Headers) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if text.isdecimal() and "transfer-encoding" not in headers else None


class Backend(httpcore.NetworkBackend):
    """Opens the one connection of one request, and says in our words what went wrong with it."""

    def __init__(
        self,
        *,
        deadline: Deadline,
        read_timeout_s: float | None,
        is_allowed: AddressCheck,
        proxy: httpx.Proxy | None,
        has_tunnel: bool,
        on_open: Callable[[Stream], None],
    ) -> None:
        self.proxy = proxy
        self._deadline = deadline
        self._read_timeout_s = read_timeout_s
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

    def read(self, max_bytes: int) -> bytes:
        """More of the answer, past httpcore. Raises Transient, also when it ends too soon."""
        data = self._stream.read(max_bytes, self._read_timeout_s) if self._stream else b""
        if not data:
            raise self._broken()
        return data

    @contextlib.contextmanager
    def translating(self) -> Iterator[None]:
        try:
            yield
        except httpcore.ProxyError as error:
            raise self._proxy_failed(str(error)) from error
        except httpcore.RemoteProtocolError:
            raise self._broken() from None  # h11 quotes what it cannot read, which may hold a signed URL
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
