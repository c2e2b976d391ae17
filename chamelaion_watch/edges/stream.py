"""A socket that listens while it sends, and the deadline that it keeps.

Part of the HTTP edge, below httpcore. It knows of HTTP only how a final answer begins; what breaks under it leaves
as `httpcore.WriteError` while sending (httpcore then reads the answer) and as `Transient` otherwise.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import re
import select
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import httpcore

from chamelaion_watch.core.errors import Transient
from chamelaion_watch.edges.addresses import reason_of

PIECE_BYTES = 512 * 1024  # four uploads at once take 0.94 of four curls, 1.10 with 256 KiB, 1.03 with 1 MiB
_READ_BYTES = 64 * 1024
_RECORD_BYTES = 16 * 1024  # of TLS, at most
_EARLY_ANSWER_S = 10.0  # for an answer, or its rest, once nothing more can be sent
_LOOK_S = 1.0  # how often a full send queue is measured
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux
_Secure: TypeAlias = "Callable[[socket.socket, ssl.SSLContext, str | None, float | None], Stream]"
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_MAX_INTERIM_BYTES = 64 * 1024  # of 1xx answers during one upload: more is no server that we know how to talk to
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n")


class Deadline:
    """The instant by which an exchange must be over; it only ever comes closer, or is lifted."""

    def __init__(self, seconds: float = math.inf) -> None:
        self._until = time.monotonic() + seconds

    def within(self, seconds: float) -> None:
        """No later than `seconds` from now."""
        self._until = min(self._until, time.monotonic() + seconds)

    def lift(self) -> None:
        """No longer; what each step of the exchange may take is another matter."""
        self._until = math.inf

    def left_s(self, timeout: float | None = None) -> float:
        """Seconds that may still be waited, `timeout` at most, never negative."""
        return max(0.0, min(self._until - time.monotonic(), math.inf if timeout is None else timeout))


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
        # For each TLS record room is made for all that was asked for: 256 KiB at a time doubled a download's time.
        self._most_bytes = _RECORD_BYTES if self.is_secure else PIECE_BYTES
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
        return self._filled(received, max_bytes) if self.is_secure else received

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

    def _filled(self, data: bytes, max_bytes: int) -> bytes:
        """TLS hands out 16 KiB at a time: take what else has arrived. What breaks meanwhile shows in the next read."""
        parts, room = [data], max_bytes - len(data)
        with contextlib.suppress(OSError):
            while room and (more := self._receive(room)):
                parts.append(more)
                room -= len(more)
        return b"".join(parts)

    def _receive(self, max_bytes: int) -> bytes | None:
        """What has arrived, None for nothing yet, b"" for the end."""
        try:
            data = self._sock.recv(min(max_bytes, self._most_bytes))
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
                    raise self._cannot_send("the server answered or left before it had everything")
        except OSError as error:
            raise self._cannot_send(reason_of(error)) from error

    def _send(self, piece: memoryview, timeout: float | None) -> int:
        while True:
            try:
                return self._sock.send(piece)
            except ssl.SSLWantReadError:
                self._await_movement(select.POLLIN, timeout)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._await_movement(select.POLLIN | select.POLLOUT, timeout)
            except OSError as error:
                raise self._cannot_send(reason_of(error)) from error
            self._heed()

    def _cannot_send(self, why: str) -> httpcore.WriteError:
        """Nothing more can be sent: an answer comes soon or never, for the server may still wait for the rest."""
        self._deadline.within(_EARLY_ANSWER_S)
        return httpcore.WriteError(why)

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


def has_final_answer(heard: bytes) -> bool:
    """Whether more than interim (1xx) answers lies in `heard`: a status that counts, or something that is not HTTP."""
    if len(heard) > _MAX_INTERIM_BYTES:
        return True
    while interim := _INTERIM.match(heard):
        heard = heard[interim.end() :]
    if len(heard) < len(b"HTTP/1.1 100"):
        return False
    return not heard.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")) or heard[9:12] == b"101"
