"""Tells systemd how the daemon is, by datagrams to `$NOTIFY_SOCKET`; see sd_notify(3).

It does nothing when nobody asked, and never raises: a supervisor that does not listen is no reason to stop.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

from chamelaion_watch.core.text import printable


class Notifier:
    """The supervisor, if there is one. Thread-safe: each message is one datagram.

    `watchdog_s` is the longest time between two calls of `watchdog` before systemd kills the daemon (ping at half
    of it), None if it does not watch.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        self._address = address
        self._socket = _datagram_socket() if address else None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Notifier:
        """Read `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` from `env`."""
        return cls(_address(env.get("NOTIFY_SOCKET", "")), _watchdog_s(env))

    def ready(self, status: str = "") -> None:
        """Say that the start, or a reload, is complete."""
        self._send("READY=1", *_status(status))

    def status(self, text: str) -> None:
        """Show `text` in `systemctl status`."""
        self._send(*_status(text))

    def watchdog(self) -> None:
        """Say that the control thread is alive."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Say that the configuration is being read again; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the stop has begun."""
        self._send("STOPPING=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _send(self, *assignments: str) -> None:
        if self._socket is None or not assignments:
            return
        with contextlib.suppress(OSError):  # nobody listens any more, or its queue is full
            self._socket.sendto("\n".join(assignments).encode("utf-8"), self._address)


def _datagram_socket() -> socket.socket | None:
    try:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    except OSError:
        return None
    made.setblocking(False)  # a full queue of the supervisor must not hold up the control thread
    return made


def _address(path: str) -> str:
    """A path, or `@name` in the abstract namespace; other forms (vsock) are for virtual machines."""
    if path.startswith("@") and len(path) > 1:
        return f"\0{path[1:]}"
    return path if path.startswith("/") else ""


def _watchdog_s(env: Mapping[str, str]) -> float | None:
    if env.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):  # meant for our parent
        return None
    microseconds = env.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) > 0 else None


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={printable(text)}",) if text else ()
