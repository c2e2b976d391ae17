"""Drop folders full of known files, and the daemon on them: what several benchmarks begin with.

A tree is as a daemon leaves it when all is done: sources in folders, a sentinel, and a ledger with a job for each pair,
its history, and the identity of every file. Sources are 1,100 bytes, distinct, and never opened as media. The results
are in the ledger only: `find` would have half as many names again to list.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chamelaion_watch import restore, service
from chamelaion_watch import settings as configuration
from chamelaion_watch.core.messages import Scanned
from chamelaion_watch.core.model import Attempt, Job, JobState, Millis, Options, Signature, Source
from chamelaion_watch.core.naming import reference_id
from chamelaion_watch.edges import mounts
from chamelaion_watch.edges.clock import SystemClock
from chamelaion_watch.edges.ledger.protocol import EventRow, RootRow
from chamelaion_watch.edges.ledger.sqlite import SqliteLedger
from chamelaion_watch.rootwork import RootWork
from tests.acceptance.rig import Rig, children
from tests.bench import process
from tests.support import eventually

ROOT_NAME = "drop"
NOBODY = "http://127.0.0.1:9/api"  # nothing is queued, so nothing is asked
FILE_BYTES = 1_100  # more than `min_bytes`
AGE_MS = 7 * 86_400_000  # of the jobs: none counts for today
LISTED_S = 600.0
SETTLED_S = 3_600.0
QUIET_S = 3.0  # of rest; a look at 500 files each 250 ms takes a hundred times as much as QUIET_CPU_S
QUIET_CPU_S = 0.03
ALIVE_S = 5.0  # so often a daemon that is not ready yet is looked after

_made: dict[Stock, Rig] = {}


@dataclass(frozen=True)
class Stock:
    """How much is in a tree: pairs whose jobs are done, audio files that wait for a video, spread over folders."""

    pairs: int
    waiting: int = 0
    folders: int = 1

    @property
    def files(self) -> int:
        return 2 * self.pairs + self.waiting


@dataclass(frozen=True)
class Serving:
    """A daemon that has said READY=1, and how long after the start of its process."""

    process: subprocess.Popen[bytes]
    ready_s: float
    began: float  # time.perf_counter()

    @property
    def pids(self) -> set[int]:
        """Return the daemon and its children: what starts probes, and probes."""
        return {self.process.pid, *children(self.process.pid)}

    def cpu_s(self) -> float:
        return sum(self._each(process.cpu_s))

    def rss_mb(self) -> float:
        return sum(self._each(process.rss_mb))

    def _each(self, read: Callable[[int], float]) -> Iterator[float]:
        for pid in self.pids:
            with contextlib.suppress(OSError):  # a probe that has ended: what it cost is its parent's now
                yield read(pid)


def kept(stock: Stock, place: Path) -> Rig:
    """Return a tree beside `place`, made at the first call and removed when the benchmarks end."""
    if stock not in _made:
        home = Path(tempfile.mkdtemp(prefix="lipsync-bench-tree-", dir=place.parent))
        atexit.register(shutil.rmtree, home, ignore_errors=True)
        _made[stock] = make(home, stock)
    return _made[stock]


def make(home: Path, stock: Stock) -> Rig:
    """Fill a new tree and its ledger below an empty folder."""
    configure(at := Rig(home, NOBODY))
    with contextlib.closing(SqliteLedger(home / "state")) as ledger, ledger.transaction():
        _remember_root(ledger, at.drop)
        for sources in _filled(at.drop, stock):
            for source in sources:
                ledger.remember_file(ROOT_NAME, source.path, source.signature, source.sha256)
            if len(sources) == 2:
                _remember_job(ledger, *sources)
    return at


def configure(at: Rig, **api: Any) -> None:
    """Write a config that has every default, but for what is given of `api`."""
    at.configure(api={"poll": {"first": "10s", "max": "30s"}} | api, folder={"settle": None, "name": ROOT_NAME})


def seen(at: Rig) -> dict[str, Any]:
    """Return what the daemon last told of itself, {} before its first word."""
    rows = at.rows("SELECT body FROM snapshots")
    return dict(json.loads(rows[0][0])) if rows else {}


def is_listed(at: Rig, stock: Stock, daemon: Serving) -> bool:
    """Say whether this daemon has told of every file: its first complete sweep is in."""
    told = seen(at)
    return bool(told) and told["daemon"]["pid"] == daemon.process.pid and told["roots"][0]["files"] == stock.files


@contextlib.contextmanager
def serving(at: Rig, **env: str) -> Iterator[Serving]:
    """Run the real daemon on a tree; it is ready when this begins."""
    name = f"lipsync-bench-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(ALIVE_S)
        began = time.perf_counter()
        with at.daemon(NOTIFY_SOCKET=f"@{name}", **env) as daemon:
            while b"READY=1" not in _heard(listener):
                assert daemon.poll() is None, at.log()
            yield Serving(daemon, time.perf_counter() - began, began)


def _heard(listener: socket.socket) -> bytes:
    with contextlib.suppress(TimeoutError):
        return listener.recv(65_536)
    return b""


def listed_s(at: Rig, stock: Stock, daemon: Serving) -> float:
    """Wait until all is listed; returns the seconds since the start of the process."""
    eventually(lambda: is_listed(at, stock, daemon), LISTED_S, every=0.2)
    return time.perf_counter() - daemon.began


def settled_s(at: Rig, stock: Stock, daemon: Serving, limit_s: float = SETTLED_S) -> float:
    """Wait until all is listed and was looked at once: then the daemon rests; returns the seconds until it did.

    What it tells of itself may be seconds old while it is busy, so its processor time is asked.
    """
    listed_s(at, stock, daemon)
    used: deque[tuple[float, float]] = deque()

    def rests() -> bool:
        used.append((time.perf_counter(), process.cpu_s(daemon.process.pid)))
        while len(used) > 1 and used[1][0] <= used[-1][0] - QUIET_S:
            used.popleft()
        (began, before), (now, after) = used[0], used[-1]
        return now - began >= QUIET_S and after - before <= QUIET_CPU_S

    eventually(rests, limit_s, every=0.2)
    return used[0][0] - daemon.began


class Watch:
    """One root driven through its scans as the daemon drives it: in this process, and at once, without its waits.

    `known` is by what the root is known again, as the ledger says if it is not given.
    """

    def __init__(self, at: Rig, known: mounts.KnownRoot | None = None) -> None:
        settings = configuration.load(at.config, at.env())
        policy = service.folder_policy_of(settings.folders[0])
        with contextlib.closing(SqliteLedger(at.home / "state")) as ledger:
            world = restore.restore(ledger, service.policy_of(settings), [policy], now=0)
            known = known or restore.known_root(ledger, policy.name, policy.path)
            self.hands = RootWork(policy, ledger_id=ledger.ledger_id, known=known, watcher=None, clock=SystemClock())
        self.folder = world.folders[policy.name]
        self.now: Millis = 0

    @property
    def is_settled(self) -> bool:
        is_verified = self.folder.is_scanned and self.folder.asleep.is_verified
        return is_verified and all(file.source for file in self.folder.files.values())

    @property
    def complete(self) -> set[str]:
        """The files that are known as complete, asleep or not."""
        awake = {path for path, file in self.folder.files.items() if file.source is not None}
        return awake.union(*(self.folder.asleep.sources(scope) for scope in self.folder.asleep))

    def scan(self) -> Scanned:
        """Carry out the next scan that is due, and take in what it saw."""
        self.now = max(self.now, self.folder.scan_at(self.now))
        event = self.hands.scan(self.folder.scan(self.now, (), ()))
        self.folder.scanned(event, self.now)
        return event

    def sweep(self) -> Scanned:
        """Scan until a sweep was among it; returns that."""
        while not (event := self.scan()).action.is_sweep:
            pass
        return event

    def settle(self) -> None:
        while not self.is_settled:
            self.scan()


def after(seconds: float) -> None:
    """Let time pass that is part of what is measured."""
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= until, seconds + 60, every=min(seconds, 0.2) or 0.01)


# -- on disk ------------------------------------------------------------------------------------------


def _filled(drop: Path, stock: Stock) -> Iterator[tuple[Source, ...]]:
    """Write the files, one folder after the other, and yield the sources of each pair or lonely audio."""
    done, at, fd = 0, -1, -1
    for number in range(stock.pairs + stock.waiting):
        if (folder := done * stock.folders // stock.files) != at:
            fd, at = _opened(drop / f"batch{folder:05d}", fd), folder
        suffixes = (".mp4", ".wav") if number < stock.pairs else (".wav",)
        yield tuple(_written(fd, f"batch{folder:05d}", f"clip{number:06d}{suffix}") for suffix in suffixes)
        done += len(suffixes)
    os.close(fd)


def _opened(folder: Path, before: int) -> int:
    if before >= 0:
        os.close(before)
    folder.mkdir()
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


def _written(folder_fd: int, folder: str, name: str) -> Source:
    data = (name.encode() * (FILE_BYTES // len(name) + 1))[:FILE_BYTES]
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder_fd)
    os.write(fd, data)
    mtime_ns = os.fstat(fd).st_mtime_ns
    os.close(fd)
    return Source(f"{folder}/{name}", Signature(len(data), mtime_ns), hashlib.sha256(data).hexdigest())


# -- in the ledger ------------------------------------------------------------------------------------


def _remember_root(ledger: SqliteLedger, drop: Path) -> None:
    now = _now()
    mounts.claim_root(str(drop), ledger.ledger_id, socket.gethostname(), now=now)
    mount = mounts.mount_of(str(drop))
    ledger.save_root(RootRow(ROOT_NAME, str(drop), now - AGE_MS, mount.source, mount.fstype, has_sentinel=True))


def _remember_job(ledger: SqliteLedger, video: Source, audio: Source) -> None:
    """Write down what a pair leaves whose one run went well: a job, four lines of its history, five of the diary."""
    job = ledger.add_job(_done(video, audio, _now() - AGE_MS))
    request = f"request {job.request_id}"
    ledger.add_attempt(Attempt(job.id, job.created_at, "queue", "queued", f"{video.path} + {audio.path}"))
    ledger.add_attempt(Attempt(job.id, job.created_at, "accept", "accepted", request))
    ledger.add_attempt(Attempt(job.id, job.changed_at, "render", "completed", f"{request} is completed"))
    told = f"fetched and checked: {job.output}, {job.output_bytes} bytes"
    ledger.add_attempt(Attempt(job.id, job.changed_at, "deliver", "delivered", told))
    for state in ("queued", "submitting", "rendering", "rendered", "done"):
        ledger.add_event(EventRow(job.created_at, "job", f"{job.root}/{job.key}: {state}", job.id, job.root))


def _done(video: Source, audio: Source, at: Millis) -> Job:
    key = video.path.removesuffix(".mp4")
    folder, _, stem = key.rpartition("/")
    return Job(
        id=0,
        root=ROOT_NAME,
        key=key,
        name=stem,
        folder=folder,
        stem=stem,
        lang=None,
        video=video,
        audio=audio,
        options=Options(),
        run_no=1,
        reference_id=reference_id(video.sha256, audio.sha256, Options(), 1),
        state=JobState.DONE,
        created_at=at,
        changed_at=at + 90_000,
        sent_at=at,
        request_id=str(uuid.uuid5(uuid.NAMESPACE_URL, key)),
        request_status="completed",
        accepted_at=at,
        rendered_at=at + 90_000,
        output=f"{key}.lipsync.mp4",
        output_sha256=hashlib.sha256(key.encode()).hexdigest(),
        output_bytes=FILE_BYTES,
    )


def _now() -> Millis:
    return time.time_ns() // 1_000_000
