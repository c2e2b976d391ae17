"""Runs a command under the filter, counts its calls, strikes once, and reports.

`python -m tests.walk.tracer SPEC COMMAND…` exits as the command does (128 + signal if it was killed). SPEC is JSON;
what is seen is appended to its `report`, one JSON object a line: `hit` at once, the rest at the end. A process of its
own: the filter must not meet the threads of a test, and where we are not root, it needs a user namespace of its own.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from tests.walk import seccomp
from tests.walk.calls import BY_NUMBER, CALLS, Call
from tests.walk.carry_out import carry_out
from tests.walk.places import Places, Rules, Target
from tests.walk.points import NEEDS_ROOM, Kind, Mode, Point
from tests.walk.seccomp import Stopped
from tests.walk.sight import is_thread_of

ORPHANS_GO_WITHIN_S = 10.0
LOOK_EVERY_MS = 100
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Spec:
    """What to look at, and where to strike; `point` "" only counts."""

    report: str
    state: str
    drop: str
    ports: dict[str, str]  # by the port's digits: "service", "media"
    point: str = ""
    has_namespace: bool = False


@dataclass
class Report:
    """What was seen; `order` holds the calls as they came."""

    code: int = 0
    is_hit: bool = False
    refused: int = 0
    broken: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    orphans: int = 0
    order: list[str] = field(default_factory=list)


def main() -> NoReturn:
    spec = Spec(**json.loads(sys.argv[1]))
    if spec.has_namespace:
        _enter_namespace()
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    process, listener = _start(sys.argv[2:])
    _append(spec.report, {"pid": process})
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda given, _frame: _pass_on(process, given))
    try:
        report = _Tracer(spec, process, listener).run()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)  # without us its calls fail
        raise
    _append(spec.report, asdict(report))
    sys.exit(report.code if report.code >= 0 else 128 - report.code)


def _pass_on(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # killed in the meantime, as it was told to be
        os.kill(process, number)


def why_not(namespace: bool | None = None) -> str:
    """Return why this machine cannot be used for the walk, "" if it can: by a small walk with known results."""
    if namespace is None:
        return why_not(namespace=False) and why_not(namespace=True)
    with tempfile.TemporaryDirectory(prefix="lipsync-walk-") as folder:
        spec = Spec(f"{folder}/report", f"{folder}/state", f"{folder}/drop", {}, "kill-after|write|a|1", namespace)
        Path(spec.state).mkdir()
        found = subprocess.run(
            [sys.executable, "-m", "tests.walk.tracer", json.dumps(asdict(spec)), sys.executable, "-c", _TRIAL, folder],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=Path(__file__).parents[2],
        )
        written = Path(spec.state, "a")
        if found.returncode == 128 + signal.SIGKILL and written.exists() and written.read_bytes() == b"once":
            return ""
        words = found.stderr.strip().splitlines() or [f"exit code {found.returncode}"]
        return f"system calls cannot be traced here ({words[-1]})"


_TRIAL = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # as the daemon does: PR_SET_DUMPABLE
fd = os.open(f"{sys.argv[1]}/state/a", os.O_CREAT | os.O_WRONLY)
os.write(fd, b"once")
os.write(fd, b"more")
"""


class _Tracer:
    def __init__(self, spec: Spec, process: int, listener: int) -> None:
        self._process = process
        self._listener = listener
        self._report = Report()
        self._path = spec.report
        self._point = Point.parsed(spec.point) if spec.point else None
        self._places = Places(spec.state, spec.drop, {int(port): place for port, place in spec.ports.items()})
        self._rules = Rules()
        self._counts: Counter[Kind] = Counter()
        self._full = ""  # the folder that has no room any more
        self._parent = os.getppid()
        self._code: int | None = None
        self._ended_at = 0.0

    def run(self) -> Report:
        """Answer calls until the process and all its children are gone."""
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        while self._is_alive():
            for _, event in poller.poll(LOOK_EVERY_MS):
                if event & select.POLLIN:
                    self._take()
                elif event & select.POLLHUP:  # nobody is left who could be stopped
                    poller.unregister(self._listener)
        report = self._report
        report.code = self._code or 0
        if self._code == 0 and not report.is_hit:
            self._rules.at_end()
        report.broken = self._rules.broken
        report.elsewhere = sorted(self._places.elsewhere)
        return report

    def _is_alive(self) -> bool:
        """Reap who has ended; children that outlive the daemon for long are orphans, and ended here."""
        if os.getppid() != self._parent and self._code is None:  # nobody wants to know any more
            os.kill(self._process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == self._process:
                    self._code, self._ended_at = os.waitstatus_to_exitcode(status), time.monotonic()
            if self._code is not None and time.monotonic() > self._ended_at + ORPHANS_GO_WITHIN_S:
                self._end_orphans()
            return True
        return False

    def _end_orphans(self) -> None:
        for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            self._report.orphans += 1
            os.kill(int(child), signal.SIGKILL)

    def _take(self) -> None:
        stopped = seccomp.receive(self._listener)
        if stopped is None:
            return
        call = BY_NUMBER[stopped.number]
        try:
            is_ours = is_thread_of(stopped.task, self._process)
            target = self._places.target(stopped, call) if is_ours else None
        except PermissionError:
            raise
        except OSError:  # gone in the meantime, or no such descriptor
            target = None
        if target is None:
            seccomp.go_on(self._listener, stopped)
        else:
            self._decide(stopped, call, target)

    def _decide(self, stopped: Stopped, call: Call, target: Target) -> None:
        kind = Kind(call.word, target.place)
        self._counts[kind] += 1
        self._report.order.append(f"{kind.call}|{kind.place}")
        point = self._point
        if point is not None and point.kind == kind and point.nth == self._counts[kind]:
            self._strike(point.mode, stopped, call, target)
        elif self._is_without_room(call, target):
            self._fail(stopped, errno.ENOSPC)
        else:
            self._rules.see(call, target)
            seccomp.go_on(self._listener, stopped)

    def _strike(self, mode: Mode, stopped: Stopped, call: Call, target: Target) -> None:
        self._report.is_hit = True
        _append(self._path, {"hit": str(self._point), "path": target.path})
        match mode:
            case Mode.KILL:
                os.kill(self._process, signal.SIGKILL)
            case Mode.KILL_AFTER:
                self._rules.see(call, target)
                with contextlib.suppress(OSError):  # as it would have failed there
                    carry_out(self._process, stopped, call, target)
                os.kill(self._process, signal.SIGKILL)
            case Mode.EIO:
                self._fail(stopped, errno.EIO)
            case Mode.ENOSPC:
                self._fail(stopped, errno.ENOSPC)
            case Mode.FULL:
                roots = (self._places.state, self._places.drop)
                self._full = next(root for root in roots if f"{target.path}/".startswith(f"{root}/"))
                self._fail(stopped, errno.ENOSPC)

    def _fail(self, stopped: Stopped, code: int) -> None:
        self._report.refused += 1
        seccomp.fail(self._listener, stopped, code)

    def _is_without_room(self, call: Call, target: Target) -> bool:
        """Whether it needs room where there is none; to open what is there needs none."""
        if not self._full or call.word not in NEEDS_ROOM or not target.path.startswith(self._full):
            return False
        return call.word != "create" or not os.path.lexists(target.path)


def _start(command: list[str]) -> tuple[int, int]:
    """Start the command under the filter; returns its process id and the listener."""
    ours, theirs = socket.socketpair()
    process = os.fork()
    if process == 0:
        _become(command, theirs)
    theirs.close()
    with ours:
        ancillary = ours.recvmsg(1, socket.CMSG_SPACE(4))[1]
    if not ancillary:
        os.waitpid(process, 0)
        sys.exit("the filter could not be installed")
    found = array.array("i")
    found.frombytes(ancillary[0][2][:4])
    return process, found[0]


def _become(command: list[str], link: socket.socket) -> NoReturn:
    """In the child: filter, give the listener away through descriptor 0, execute."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    try:
        os.dup2(link.fileno(), 0)
        zero = socket.socket(fileno=0)
        listener = seccomp.install(CALLS)
        socket.send_fds(zero, [b"."], [listener])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{error}\n".encode())
    finally:
        os._exit(127)


def _enter_namespace() -> None:
    """Become root of a user namespace: then we may look into a process that forbids it to its user's others."""
    uid, gid = os.getuid(), os.getgid()
    if _libc.unshare(_CLONE_NEWUSER):
        code = ctypes.get_errno()
        sys.exit(f"no user namespace: {os.strerror(code)}")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _append(path: str, what: dict[str, Any]) -> None:
    with Path(path).open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(json.dumps(what) + "\n")


if __name__ == "__main__":
    main()
