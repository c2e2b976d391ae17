"""Starts probe children by a small process that was started before any share was touched.

Whoever starts a program has its files closed first, and to close one of a dead FUSE share takes until the share answers
(fuse: a flush at each close): the daemon itself could start no child as long as one folder hangs.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

LAUNCH_S = 30.0  # a fork takes a millisecond; this is for a machine that is busy or swaps
END_S = 1.0
TRIES = 2  # the launcher may have been ended by the system (out of memory)


class Launched:
    """A process that is nobody's child here: known by a handle that no later process can take over (pidfd)."""

    def __init__(self, pid: int, handle: int) -> None:
        self.pid = pid
        self._handle = handle
        self._lock = threading.Lock()

    def end(self) -> None:
        """Kill it, and wait a second: one that hangs in a dead share ends when the share answers."""
        with self._lock:
            handle, self._handle = self._handle, -1
        if handle < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        ended.poll(END_S * 1000)
        os.close(handle)


class Launcher:
    """One launching process, started at once and again when it died. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        with contextlib.suppress(OSError):  # said when a child is asked for
            self._start()

    def launch(self, link: socket.socket) -> Launched:
        """Start a child that serves the other end of `link`; raises OSError."""
        with self._lock:
            for _ in range(TRIES - 1):
                with contextlib.suppress(OSError):
                    return self._launch(link)
                self._end()
            return self._launch(link)

    def close(self) -> None:
        """End the launching process; its children end with their links."""
        with self._lock:
            self._end()

    def _launch(self, link: socket.socket) -> Launched:
        requests = self._link or self._start()
        socket.send_fds(requests, [b"+"], [link.fileno()])
        answer, descriptors, _, _ = socket.recv_fds(requests, 4, 1)
        if not descriptors:
            raise ChildProcessError("the process that starts it ended")
        return Launched(struct.unpack(">I", answer)[0], descriptors[0])

    def _start(self) -> socket.socket:
        """No environment but our own import path, no arguments that name a file, its own group."""
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
        ours, theirs = socket.socketpair()
        ours.settimeout(LAUNCH_S)
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-B", "-m", "chamelaion_watch.edges.launcher_child"],
                    env={"PYTHONPATH": path},
                    cwd="/",  # keeps no share busy
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    process_group=0,  # Ctrl-C is for the daemon
                )
        except OSError:
            ours.close()
            raise
        self._link = ours
        return ours

    def _end(self) -> None:
        if self._link:
            self._link.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        self._process = self._link = None
