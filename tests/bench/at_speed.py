"""The daemon with its clock sped up: the real one on a config, in its own process, an hour of it in a few minutes.

    python -m tests.bench.at_speed CONFIG SPEED EPOCH

Its time is EPOCH (Unix seconds) and SPEED times what has passed since. Its waits end as much sooner, and what the
service asks it to wait (in real seconds, for the sandbox's clock is as fast) counts as much longer. Disk, network and
processor stay as slow as they are: a millisecond of theirs is SPEED milliseconds here, to our disadvantage.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from chamelaion_watch import daemon, effects, service
from chamelaion_watch import settings as configuration
from chamelaion_watch.cli.running import run_daemon
from chamelaion_watch.edges import answers, download
from chamelaion_watch.edges.clock import SystemClock
from tests.acceptance.rig import ROOT, Rig

NS = 1_000_000_000
STOPPED_WITHIN_S = 15


def real_s(daemon_ms: float, speed: float, epoch_s: float) -> float:
    """Return the Unix seconds at which the daemon's clock said so."""
    return epoch_s + (daemon_ms / 1000 - epoch_s) / speed


@contextlib.contextmanager
def hurried(rig: Rig, speed: float, epoch_s: float) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon at speed as a process, ended by SIGTERM; its log is in `daemon.log`."""
    command = [sys.executable, "-m", "tests.bench.at_speed", str(rig.config), str(speed), str(epoch_s)]
    with (rig.home / "daemon.log").open("ab") as stream:
        started = subprocess.Popen(command, env=rig.env(), cwd=ROOT, stdout=stream, stderr=stream)
    try:
        yield started
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
        started.wait(STOPPED_WITHIN_S)


# -- in that process ----------------------------------------------------------------------------------


def main() -> None:
    config, speed, epoch_s = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    hurry(speed, epoch_s)
    settings = configuration.load(config, os.environ)
    sys.exit(run_daemon(config, settings, None, 0, os.environ))


def hurry(speed: float, epoch_s: float) -> None:
    """Replace, before anything starts, what tells the daemon the time, what waits, and what was asked to wait."""
    now_ns = _source(speed, epoch_s)
    queues = SimpleNamespace(SimpleQueue=_queue(speed), Empty=queue.Empty)
    for module, name, value in (
        (service, "SystemClock", lambda: SystemClock(wall_ns=now_ns, steady_ns=now_ns)),
        (daemon, "queue", queues),  # `Daemon._wait` and the leave to finish an upload wait by a queue's timeout
        (effects, "queue", queues),
        (answers, "asked_wait_s", _asked(speed)),
        (download, "asked_wait_s", _asked(speed)),
    ):
        assert hasattr(module, name), f"{module.__name__} has no {name} any more"
        setattr(module, name, value)


def _source(speed: float, epoch_s: float) -> Callable[[], int]:
    began_ns = time.monotonic_ns()
    since_epoch_ns = time.time_ns() - round(epoch_s * NS)

    def now_ns() -> int:
        return round(epoch_s * NS) + round((since_epoch_ns + time.monotonic_ns() - began_ns) * speed)

    return now_ns


def _queue(speed: float) -> type[queue.SimpleQueue[Any]]:
    class Hurried(queue.SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            return super().get(block, None if timeout is None else timeout / speed)

    return Hurried


def _asked(speed: float) -> Callable[[Mapping[str, str], float], float | None]:
    asked_wait_s = answers.asked_wait_s  # as it is before it is replaced

    def asked(headers: Mapping[str, str], now: float) -> float | None:
        wait_s = asked_wait_s(headers, now)
        return None if wait_s is None else wait_s * speed

    return asked


if __name__ == "__main__":
    main()
