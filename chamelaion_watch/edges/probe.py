"""Asks what a media file is, in child processes: a hostile file may crash one of them, never the daemon.

Children are launched when they are needed, take the media as an opened descriptor (never a name) and answer in JSON
over one Unix socket. They are replaced after a crash and after 1,000 files, and ended when nobody asked for a minute.
What they say is checked like anything from outside. How a file is opened stands in `probe_child.py`, how a child comes
to be in `launcher.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

from chamelaion_watch.core.errors import Transient
from chamelaion_watch.core.model import MediaInfo
from chamelaion_watch.core.text import printable
from chamelaion_watch.edges.launcher import Launched, Launcher

FILES_PER_CHILD = 1_000  # starting one takes as long as 60 files: at 200 that was a quarter of all their work
START_S = 30.0  # importing av takes 0.1 s; this is for a machine that is busy or swaps
ANSWER_BYTES = 64 << 10
CRASHES = 2  # one may be the system's doing (out of memory, a stop); two in a row are the file's
WAITING_SHARE = 0.1  # a child that computed for less of its time than this was waiting for the storage
LONGEST_S = 1e9  # 30 years: no file is that long

CRASHED = "the check of the file crashed twice: the file is damaged in a way that players may not survive either"
NO_SENSE = "the check of the file gave no sensible answer: the file is damaged"


class Prober:
    """At most `children` files are examined at once; further callers wait. Thread-safe.

    `deadline_s` is for one file, by the wall clock; after `idle_s` without a file the children end. To be made before
    any share is touched.
    """

    def __init__(self, *, children: int = 2, deadline_s: float = 20.0, idle_s: float = 60.0) -> None:
        self._deadline_s = deadline_s
        self._idle_s = idle_s
        self._launcher = Launcher()
        self._slots = threading.BoundedSemaphore(children)
        self._lock = threading.Lock()  # of all below
        self._all: set[_Child] = set()
        self._idle: list[_Child] = []
        self._timer: threading.Timer | None = None
        self._is_closed = False

    def probe(self, fd: int) -> MediaInfo:
        """Return what the file behind `fd` is; `error` says in plain words why it is not media that can be used.

        The descriptor stays open and its position is not moved. Raises Transient when it was not the file's fault:
        no child could be started, the storage failed or did not answer, the prober was closed.
        """
        os.fstat(fd)  # a descriptor that is not open is our own bug, not a child that died
        with self._slots:
            for _ in range(CRASHES):
                with self._child() as child:
                    try:
                        return child.ask(fd, self._deadline_s)
                    except _TimedOut as late:
                        return self._late(late.cpu_s)
                    except (ValueError, TypeError, RecursionError):
                        return MediaInfo(error=NO_SENSE)
                    except (OSError, EOFError):
                        continue
        return MediaInfo(error=CRASHED)

    def close(self) -> None:
        """End all children, also those at work; their callers get Transient."""
        with self._lock:
            self._is_closed = True
            children = list(self._all)
            self._all.clear()
            self._idle.clear()
            if self._timer:
                self._timer.cancel()
        for child in children:
            child.end()
        self._launcher.close()

    def _late(self, cpu_s: float) -> MediaInfo:
        if cpu_s < WAITING_SHARE * self._deadline_s:
            raise Transient(f"the storage did not deliver the file within {self._deadline_s:g} s", code="stalled")
        return MediaInfo(error=f"it could not be examined within {self._deadline_s:g} s: it is damaged")

    @contextlib.contextmanager
    def _child(self) -> Iterator[_Child]:
        """Lend a child, and keep it for the next file if it is still fit."""
        child = self._take()
        try:
            yield child
        finally:
            self._give_back(child)
        self._raise_if_closed()

    def _take(self) -> _Child:
        with self._lock:
            self._raise_if_closed()
            if self._idle:
                return self._idle.pop()
        child = _Child(self._launcher)
        with self._lock:
            if not self._is_closed:
                self._all.add(child)
                return child
        child.end()
        raise _stopping()

    def _give_back(self, child: _Child) -> None:
        with self._lock:
            is_kept = child.is_fit and not self._is_closed
            if is_kept:
                child.idle_at = time.monotonic()
                self._idle.append(child)
                self._watch_idle(self._idle_s)
            else:
                self._all.discard(child)
        if not is_kept:
            child.end()

    def _raise_if_closed(self) -> None:
        if self._is_closed:
            raise _stopping()

    def _watch_idle(self, after_s: float) -> None:
        if self._timer is None:
            timer = threading.Timer(after_s, self._end_idle)
            timer.daemon = True
            with contextlib.suppress(RuntimeError):  # out of threads: the next file tries again
                timer.start()
                self._timer = timer

    def _end_idle(self) -> None:
        with self._lock:
            self._timer = None
            idle_since = time.monotonic() - self._idle_s
            over = [child for child in self._idle if child.idle_at <= idle_since]
            self._idle = [child for child in self._idle if child.idle_at > idle_since]
            self._all.difference_update(over)
            if self._idle and not self._is_closed:
                self._watch_idle(min(child.idle_at for child in self._idle) - idle_since)
        for child in over:
            child.end()


def _stopping() -> Transient:
    return Transient("the check of the file was interrupted: the service is stopping")


class _TimedOut(Exception):
    """The deadline passed; `cpu_s` is how long the child computed until then."""

    def __init__(self, cpu_s: float) -> None:
        super().__init__(cpu_s)
        self.cpu_s = cpu_s


class _Child:
    """One child process and the socket to it. Raises Transient if it does not come up."""

    def __init__(self, launcher: Launcher) -> None:
        self.is_fit = True  # for another file
        self.idle_at = 0.0
        self._files = 0
        try:
            self._link, self.process = _linked_process(launcher)
        except OSError as error:
            raise Transient(f"the check of media files could not be started: {error}") from error
        self._expect_ready()

    def ask(self, fd: int, deadline_s: float) -> MediaInfo:
        """Raises _TimedOut, Transient, OSError or EOFError if the child died, ValueError or TypeError for nonsense."""
        self.is_fit = False  # until it has answered
        cpu_at_start_s = self._cpu_s()
        try:
            socket.send_fds(self._link, [b"?"], [fd])
            info = _media_info(self._answer(deadline_s))
        except TimeoutError:
            raise _TimedOut(self._cpu_s() - cpu_at_start_s) from None
        self._files += 1
        self.is_fit = self._files < FILES_PER_CHILD
        return info

    def end(self) -> None:
        """Kill it. May be called more than once and from any thread."""
        self.process.end()
        self._link.close()

    def _expect_ready(self) -> None:
        try:
            self._answer(START_S)
        except (OSError, EOFError, ValueError) as error:
            self.end()
            raise Transient(f"the check of media files could not be started ({type(error).__name__})") from error

    def _answer(self, deadline_s: float) -> Any:
        until = time.monotonic() + deadline_s
        (length,) = struct.unpack(">I", self._receive(4, until))
        if length > ANSWER_BYTES:
            raise ValueError(length)
        return json.loads(self._receive(length, until))

    def _receive(self, length: int, until: float) -> bytes:
        data = b""
        while len(data) < length:
            self._link.settimeout(max(0.001, until - time.monotonic()))
            piece = self._link.recv(length - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def _cpu_s(self) -> float:
        """Computing time of the child so far, by its CPU clock: clock_getcpuclockid(3) makes the id like this.

        /proc would not do: hardened, it hides processes that cannot be traced, as ours.
        """
        try:
            return time.clock_gettime((~self.process.pid << 3) | 2)
        except OSError:
            return 0.0


def _linked_process(launcher: Launcher) -> tuple[socket.socket, Launched]:
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            return ours, launcher.launch(theirs)
    except OSError:
        ours.close()
        raise


def _media_info(answer: Any) -> MediaInfo:
    """Check and convert what a child said; it may speak for a hostile file. Raises ValueError, TypeError, Transient."""
    if not isinstance(answer, dict):
        raise TypeError("not an object")
    if answer.get("read_error"):
        raise Transient(f"the file could not be read: {printable(str(answer['read_error']), 100)}")
    error = answer.get("error")
    return MediaInfo(
        duration_s=_duration_s(answer.get("duration_s")),
        has_picture=answer.get("has_picture") is True,
        has_sound=answer.get("has_sound") is True,
        detail=printable(str(answer.get("detail", "")), 200),
        error=None if error is None else printable(str(error), 200),
    )


def _duration_s(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value <= LONGEST_S:  # an integer may be too large for a float
        raise ValueError("not a duration")
    return float(value)
