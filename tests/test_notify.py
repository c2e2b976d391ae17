from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chamelaion_watch.notify import Notifier


class Supervisor:
    """What systemd does: a datagram socket, and everything that arrived."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(5)

    def heard(self) -> list[str]:
        return self._socket.recv(4096).decode("utf-8").split("\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(str(tmp_path / "notify"))
    yield made
    made.close()


@pytest.fixture
def notifier(tmp_path: Path) -> Iterator[Notifier]:
    made = Notifier.from_env({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    yield made
    made.close()


def test_each_word_is_one_datagram(supervisor: Supervisor, notifier: Notifier) -> None:
    notifier.ready("2 folders, 5 pairs")
    notifier.status("idle")
    notifier.watchdog()
    notifier.stopping()
    assert supervisor.heard() == ["READY=1", "STATUS=2 folders, 5 pairs"]
    assert supervisor.heard() == ["STATUS=idle"]
    assert supervisor.heard() == ["WATCHDOG=1"]
    assert supervisor.heard() == ["STOPPING=1"]


def test_a_reload_carries_the_monotonic_time(supervisor: Supervisor, notifier: Notifier) -> None:
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    first, second = supervisor.heard()
    assert first == "RELOADING=1"
    name, _, value = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= time.monotonic_ns() // 1000


def test_an_abstract_socket_is_reached() -> None:
    name = f"chamelaion-watch-test-{os.getpid()}"
    supervisor, notifier = Supervisor(f"\0{name}"), Notifier.from_env({"NOTIFY_SOCKET": f"@{name}"})
    notifier.ready()
    assert supervisor.heard() == ["READY=1"]
    notifier.close()
    supervisor.close()


def test_threat_38_a_file_name_cannot_forge_a_word(supervisor: Supervisor, notifier: Notifier) -> None:
    notifier.status("taking a\nSTOPPING=1\x1b" + os.fsdecode(b"\xff"))
    assert supervisor.heard() == ["STATUS=taking a\\nSTOPPING=1\\e\\xff"]


@pytest.mark.parametrize("env", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "@"}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_nothing_happens_when_nobody_asked(env: dict[str, str]) -> None:
    notifier = Notifier.from_env(env)
    notifier.ready("x")
    notifier.watchdog()
    assert notifier.watchdog_s is None


def test_a_supervisor_that_is_gone_is_no_error(supervisor: Supervisor, notifier: Notifier, tmp_path: Path) -> None:
    supervisor.close()
    notifier.ready()
    (tmp_path / "notify").unlink()
    notifier.stopping()


def test_a_supervisor_that_does_not_read_holds_nothing_up(supervisor: Supervisor, notifier: Notifier) -> None:
    began_at = time.monotonic()
    for _ in range(2000):
        notifier.status("x" * 300)
    assert time.monotonic() - began_at < 5


def test_a_path_that_is_too_long_is_no_error(tmp_path: Path) -> None:
    notifier = Notifier.from_env({"NOTIFY_SOCKET": "/" + "x" * 300})
    notifier.ready()
    notifier.close()


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({}, None),
    ],
)
def test_the_watchdogs_time_is_in_seconds(env: dict[str, str], seconds: float | None) -> None:
    assert Notifier.from_env(env).watchdog_s == seconds
