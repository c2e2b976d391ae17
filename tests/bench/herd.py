"""A herd: 2,000 tiny pairs dropped at once into a folder that the daemon watches; and what the other benches share.

Both sides find all files in place and a service that has no limit and no delay; its work on each pair (to put the new
sound under the picture) is the same for both and is told apart. The daemon is running already and knows its folder, as
it always does; of the peer, the start of Python and its imports are left out, too. The daemon settles, hashes, probes,
keeps a ledger, checks each output and fsyncs it; the peer does none of that.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from chamelaion_watch.core.completeness import LEASED_SETTLE_MS
from chamelaion_watch.sandbox.media import make_audio, make_video
from tests.acceptance.rig import KEY, ROOT, Rig, children
from tests.bench import process
from tests.bench.snippet import OUTPUT
from tests.bench.table import IS_SMALL, Bench, Row, Run, just, ratio
from tests.support import eventually

PAIRS = 40 if IS_SMALL else 2_000
AT_ONCE = 8  # threads of the peer; our uploads and our downloads
MOST_AT_ONCE = 16  # threads that get the most out of the service: with 32 it is less (profiles/herd.txt)
NO_LIMIT = 10_000  # the most that the configuration takes
SECONDS = 0.3  # of media
SETTLE_S = LEASED_SETTLE_MS / 1000
READY_WITHIN_S = 30.0
DONE_WITHIN_S = 1_800.0
LOOK_EVERY_S = 0.5  # at a folder of thousands; when an output came, its own time tells
WAV_HEADER = 44
DEFAULT_POLL = {"poll": {"first": "10s", "max": "30s"}}  # the rig's own is shorter
SOON_S = 0.1  # to the second poll: what somebody would set who knew that this service takes no time


# -- what the benches share ---------------------------------------------------------------------------


@dataclass
class Service:
    """A sandbox in a process of its own; its clock is `speed` times as fast as this one's."""

    base_url: str
    pid: int

    def control(self, changes: Mapping[str, Any]) -> None:
        httpx.post(f"{self.base_url}/_sandbox", json=changes, trust_env=False).raise_for_status()

    def state(self, *, log: int | None = None) -> dict[str, Any]:
        """What `GET /_sandbox` says, with the newest `log` entries of its log, or all."""
        return self._get("/_sandbox" if log is None else f"/_sandbox?log={log}")

    def requests(self) -> list[dict[str, Any]]:
        """All requests as the API shows them; asking is logged, so read `state` first."""
        found: list[dict[str, Any]] = []
        while page := self._get(f"/v1/lipsync/requests?limit=100&offset={len(found)}")["data"]:
            found += page
        return found

    def _get(self, path: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = httpx.get(self.base_url + path, headers=headers, timeout=60, trust_env=False)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found


@contextlib.contextmanager
def service(limits: Mapping[str, Any], *, speed: float = 1.0, seed: int = 1) -> Iterator[Service]:
    """Start a sandbox with these of `sandbox.limits`, and end it."""
    command = [sys.executable, "-m", "chamelaion_watch.sandbox", "--key", KEY]
    command += ["--speed", str(speed), "--seed", str(seed)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        try:
            word, _, base_url = started.stdout.readline().strip().partition(" ")
            assert word == "READY", "the sandbox did not start"
            made = Service(base_url, started.pid)
            made.control(limits)
            yield made
        finally:
            started.terminate()


def make_pairs(folder: Path, count: int) -> None:
    """Make so many pairs of 0.3 s; each video and each sound has bytes that no other has."""
    folder.mkdir()
    make_video(folder / "one.mp4", seconds=SECONDS, width=160, height=90)
    make_audio(folder / "one.wav", seconds=SECONDS)
    video, sound = (folder / "one.mp4").read_bytes(), (folder / "one.wav").read_bytes()
    for number in range(count):
        own = number.to_bytes(8, "big")
        (folder / f"pair{number:05d}.mp4").write_bytes(video + (8 + len(own)).to_bytes(4, "big") + b"free" + own)
        (folder / f"pair{number:05d}.wav").write_bytes(sound[:WAV_HEADER] + own + sound[WAV_HEADER + len(own) :])
    for name in ("one.mp4", "one.wav"):
        (folder / name).unlink()


def acquaint(rig: Rig) -> None:
    """Let the daemon see its folder while it is empty: only of a folder new to it are all pairs looked up first."""
    with rig.daemon():
        eventually(lambda: rig.rows("SELECT 1 FROM roots WHERE first_seen_at > 0"), READY_WITHIN_S)
    (rig.home / "daemon.log").unlink()


def await_watching(rig: Rig, daemon: subprocess.Popen[bytes]) -> None:
    """Wait until the daemon has seen its folder."""

    def is_watching() -> bool:
        assert daemon.poll() is None, rig.log()
        return "watching" in rig.log()

    eventually(is_watching, READY_WITHIN_S)


def outputs(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in os.scandir(folder) if entry.name.endswith(OUTPUT)]


def snippet(place: Path, folder: Path, base_url: str, *options: str) -> tuple[process.Cost, dict[str, float]]:
    """Run the vendor's snippet on `folder`: its cost, and what it told."""
    told = place / "told.json"
    command = [sys.executable, "-m", "tests.bench.snippet", str(folder), base_url, "--told", str(told), *options]
    cost = process.run(command, env=Rig(place, base_url).env(), cwd=ROOT)
    found: dict[str, float] = json.loads(told.read_text())
    return cost, found


def versions() -> Sequence[str]:
    sdk, client = (importlib.metadata.version(name) for name in ("chamelaion", "httpx"))
    return [f"the vendor's snippet, official SDK {sdk}", f"the same by hand, httpx {client}"]


# -- the bench ----------------------------------------------------------------------------------------


LIMITS = {"rpm": None, "cap": None, "queue_s": 0.0, "processing_s": 0.0}
API = {"requests_per_minute": 100_000, "max_in_flight": NO_LIMIT, "uploads": AT_ONCE, "downloads": AT_ONCE}


BY_HAND = ("--client", "best", "--first-poll-s", str(SOON_S))


def run(place: Path) -> Run:
    at_once = Work(PAIRS, LIMITS)
    return (
        _ours(place / "ours", at_once)
        | _peer(place / "sdk", "sdk", at_once)
        | _peer(place / "best", "best", at_once, *BY_HAND)
        | _peer(place / "most", "most", at_once, *BY_HAND, threads=MOST_AT_ONCE)
    )


@dataclass(frozen=True)
class Work:
    """So many pairs, and how the service is set."""

    pairs: int
    limits: Mapping[str, Any]


def _ours(home: Path, work: Work) -> dict[str, float]:
    home.mkdir()
    make_pairs(home / "batch", work.pairs)
    with service(work.limits) as api:
        rig = Rig(home, api.base_url)
        rig.configure(api=API | DEFAULT_POLL, folder={"backlog": "take", "settle": None})
        acquaint(rig)
        with rig.daemon() as daemon:
            await_watching(rig, daemon)
            meter = Meter(daemon.pid, api.pid)
            (home / "batch").rename(rig.drop / "batch")
            began = time.time()
            eventually(
                lambda: meter.count(outputs(rig.drop / "batch")) >= work.pairs, DONE_WITHIN_S, every=LOOK_EVERY_S
            )
            used = meter.read("ours", time.time() - began)
            seconds = max(path.stat().st_ctime for path in outputs(rig.drop / "batch")) - began
            probes = children(daemon.pid)  # they live as long as there is work
            sizes = {
                "ours_mb": process.peak_mb(daemon.pid),
                "ours_all_mb": sum(map(process.peak_mb, {daemon.pid, *probes})),  # what they share counts for each
                "ours_pss_mb": sum(map(process.pss_mb, {daemon.pid, *probes})),
            }
    shutil.rmtree(home)
    return _rates("ours", work.pairs, seconds, used) | sizes | {"ours_settled_rate": work.pairs / (seconds - SETTLE_S)}


def _peer(home: Path, name: str, work: Work, *options: str, threads: int = AT_ONCE) -> dict[str, float]:
    home.mkdir()
    make_pairs(home / "batch", work.pairs)
    with service(work.limits) as api:
        cost, told = snippet(home, home / "batch", api.base_url, "--threads", str(threads), *options)
        used = _used(name, cost.wall_s, cost.cpu_s, process.cpu_s(api.pid))
    assert told["done"] == work.pairs == len(outputs(home / "batch")), f"{name}: {told['failed']} pairs given up"
    shutil.rmtree(home)
    return _rates(name, work.pairs, told["seconds"], used) | {f"{name}_mb": cost.rss_mb}


class Meter:
    """Counts the processor time of the daemon, of all children that it has meanwhile, and of the service, from now on.

    The children that examine media live for some seconds each: who asks at the end misses all but the last. Of each
    that ends the time since it was last looked at is missing, at most half a second.
    """

    def __init__(self, pid: int, service_pid: int) -> None:
        self._pid = pid
        self._service_pid = service_pid
        self._cpu_s: dict[int, float] = {}
        self._look()
        self._before_s, self._service_before_s = sum(self._cpu_s.values()), process.cpu_s(service_pid)

    def count(self, found: Sequence[Path]) -> int:
        """Look, and say how many were found."""
        self._look()
        return len(found)

    def read(self, name: str, wall_s: float) -> dict[str, float]:
        self._look()
        service_s = process.cpu_s(self._service_pid) - self._service_before_s
        return _used(name, wall_s, sum(self._cpu_s.values()) - self._before_s, service_s)

    def _look(self) -> None:
        for pid in {self._pid, *children(self._pid)}:
            with contextlib.suppress(OSError):  # it ended just now
                self._cpu_s[pid] = process.cpu_s(pid)


def _used(name: str, wall_s: float, cpu_s: float, service_s: float) -> dict[str, float]:
    cores = (cpu_s + service_s) / wall_s
    return {f"{name}_cpu_s": cpu_s, f"{name}_service_cpu_s": service_s, f"{name}_cores": cores}


def _rates(name: str, pairs: int, seconds: float, used: dict[str, float]) -> dict[str, float]:
    per_pair = {key.replace("cpu_s", "cpu_ms"): value / pairs * 1000 for key, value in used.items() if "cpu" in key}
    return {f"{name}_s": seconds, f"{name}_rate": pairs / seconds, **used, **per_pair}


BENCH = Bench(
    title=f"A herd: {PAIRS:,} tiny pairs at once, no limit, no delay",
    run=run,
    peers=versions,
    rows=(
        Row(
            "pairs per second, against the vendor's snippet with 8 threads",
            ratio("ours_rate", "sdk_rate"),
            "×",
            at_least=3,
            ours="ours_rate",
            peer="sdk_rate",
            shown="/s",
            why="the most that any client here got out of the service, in the same runs, has a row of its own below, and the "
            "service was never seen to use more than 1.2 cores. What ours lacks to that most is what it takes of the same two "
            "cores, with all that it checks and keeps (profiles/herd.txt).",
        ),
        Row("memory of the daemon", just("ours_mb"), "MB", at_most=150, ours="ours_mb", peer="sdk_mb", shown="MB"),
        Row(
            "the same with its probing children, shared pages counted once",
            just("ours_pss_mb"),
            "MB",
            at_most=150,
            ours="ours_pss_mb",
            peer="sdk_mb",
            shown="MB",
        ),
        Row(
            f"the most that was got out of the service: by hand with {MOST_AT_ONCE} threads, against the snippet",
            ratio("most_rate", "sdk_rate"),
            "×",
            ours="most_rate",
            peer="sdk_rate",
            shown="/s",
        ),
        Row(
            "pairs per second, against that most",
            ratio("ours_rate", "most_rate"),
            "×",
            ours="ours_rate",
            peer="most_rate",
            shown="/s",
        ),
        Row(
            "pairs per second, our 2 s of settling left out",
            ratio("ours_settled_rate", "sdk_rate"),
            "×",
            ours="ours_settled_rate",
            peer="sdk_rate",
            shown="/s",
        ),
        Row(
            f"pairs per second, against the snippet by hand, second poll after {SOON_S} s",
            ratio("ours_rate", "best_rate"),
            "×",
            ours="ours_rate",
            peer="best_rate",
            shown="/s",
        ),
        Row(
            "processor time per pair, children that ended included, against the SDK's",
            ratio("ours_cpu_ms", "sdk_cpu_ms"),
            "×",
            ours="ours_cpu_ms",
            peer="sdk_cpu_ms",
            shown="ms",
        ),
        Row(
            "processor time of the service per pair: what the sandbox takes of the same cores",
            ratio("ours_service_cpu_ms", "sdk_service_cpu_ms"),
            "×",
            ours="ours_service_cpu_ms",
            peer="sdk_service_cpu_ms",
            shown="ms",
        ),
        Row(
            "cores at work, for the client and the service, against by hand",
            ratio("ours_cores", "best_cores"),
            "×",
            ours="ours_cores",
            peer="best_cores",
            shown="cores",
        ),
    ),
)
