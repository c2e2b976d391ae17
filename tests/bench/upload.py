"""Uploads over TLS 1.3 to a server on this machine that throws them away: ours beside `curl -F` and the official SDK.

Wall times compare the transfer alone: ours by the uploading program's own clock, curl's by its `time_total`; those of
the whole processes are reported beside them, for the daemon pays its imports once. CPU is ours during the transfer
against all of curl's. Sources are whole media, for the daemon looks into them, and filled with random bytes; those
that are timed are in the page cache. The SDK gets paths, as its guide has it; given open files it streams: "at its best".
The server has a core of its own as long as there are two and one upload; it competes with the clients on all sides
alike. Where it is busy for a whole core it is what is measured, and the clients cannot differ: so that is reported.
"""

from __future__ import annotations

import atexit
import functools
import importlib.metadata
import itertools
import json
import os
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from chamelaion_watch.sandbox.media import make_video
from tests.bench import process, uploading_daemon
from tests.bench.table import IS_SMALL, ROOT, Bench, Row, Run, just, ratio
from tests.bench.tls_server import Server, serving
from tests.bench.uploading import KEY

SCALE = 20 if IS_SMALL else 1  # a trial: everything a twentieth of its size
MIB = 1 << 20
GIB = 1 << 30
ONE_BYTES, THREE_BYTES, TEN_BYTES = (size * GIB // SCALE for size in (1, 3, 10))
AUDIO_BYTES = 50 * MIB // SCALE
WAV_HEADER_BYTES = 44
BOX_HEAD_BYTES = 16
SOUND_RATE = 48_000
AT_ONCE = 4
TIMES = 5  # in each run: on a shared machine two transfers of a second, one after the other, differ by a third
Turn: TypeAlias = Callable[[], Run]
UPLOAD_PATH = "/v1/lipsync/generate-with-media"

_turn = itertools.count()


# -- sources ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sources:
    """The files that are sent, all in one folder."""

    one: Path
    three: Path
    ten: Path
    audio: Path

    def warm(self) -> None:
        """Have in the page cache what is compared."""
        for path in (self.one, self.three, self.audio):
            read_all(path)


@functools.cache
def kept(parent: Path) -> Sources:
    """Return the sources, made in `parent` at the first call and removed when the benchmarks end."""
    folder = folder_in(parent)
    made = Sources(folder / "one.mp4", folder / "three.mp4", folder / "ten.mp4", folder / "pair.wav")
    for path, size in ((made.one, ONE_BYTES), (made.three, THREE_BYTES), (made.ten, TEN_BYTES)):
        _make_video(path, size)
    with wave.open(str(made.audio), "wb") as file:
        file.setparams((1, 2, SOUND_RATE, 0, "NONE", "not compressed"))
        write_random(file.writeframes, AUDIO_BYTES - WAV_HEADER_BYTES)
    return made


def _make_video(path: Path, size: int) -> None:
    """Make a short video that is `size` bytes long: the rest is random, in a box that players skip."""
    make_video(path, seconds=2)
    rest_bytes = size - path.stat().st_size
    with path.open("ab") as file:
        file.write(b"\0\0\0\1free" + rest_bytes.to_bytes(8, "big"))  # a length of 1: the true one follows
        write_random(file.write, rest_bytes - BOX_HEAD_BYTES)


def folder_in(parent: Path) -> Path:
    """Return a new folder that is removed when the benchmarks end."""
    folder = Path(tempfile.mkdtemp(prefix="lipsync-bench-sources-", dir=parent))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def write_random(write: Callable[[bytes], object], size: int) -> None:
    while size > 0:
        write(os.urandom(min(size, MIB)))
        size -= MIB


def read_all(path: Path) -> None:
    buffer = bytearray(MIB)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


# -- running ------------------------------------------------------------------------------------------


def told(command: Sequence[str], report: Path, **env: str) -> tuple[process.Cost, str]:
    """Run a command in a bare environment; returns its cost and what it printed, which goes through `report`."""
    kept_env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    redirected = ["sh", "-c", 'exec "$@" >"$0"', str(report), *command]  # exec: sh itself is no part of the cost
    cost = process.run(redirected, env=kept_env | env, cwd=ROOT)
    return cost, report.read_text()


def curl(server: Server, *arguments: str) -> list[str]:
    """Return a curl as it comes, without the user's own settings, that prints its `time_total`."""
    quiet = ["--silent", "--show-error", "--fail", "--write-out", "%{time_total}"]
    return ["curl", "--disable", "--cacert", str(server.ca_file), *quiet, *arguments]


def in_turn(turns: Sequence[Turn], number: int) -> dict[str, float]:
    """Run all of them one after the other, every second time in the other order."""
    figures: dict[str, float] = {}
    for turn in turns if number % 2 == 0 else reversed(turns):
        figures |= turn()
    return figures


def medians(turns: Sequence[Turn]) -> dict[str, float]:
    """Run all of them in turn, TIMES times; returns the median of each figure."""
    runs = [in_turn(turns, number) for number in range(TIMES)]
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


@dataclass(frozen=True)
class Lane:
    """The server, the sources, and a place for reports; each way of uploading gives its figures, named after it."""

    server: Server
    sources: Sources
    place: Path

    def curls(self, name: str, video: Path, count: int = 1) -> Run:
        """Upload with so many curls at once: the slowest one's time, the CPU of all."""
        forms = ["--form", f"video=@{video}", "--form", f"audio=@{self.sources.audio}"]
        where = ["--header", f"Authorization: Bearer {KEY}", "--output", os.devnull, self.server.base_url + UPLOAD_PATH]
        command = curl(self.server, *forms, *where)

        def upload(number: int) -> tuple[process.Cost, str]:
            return told(command, self.place / f"{name}-{number}")

        busy_before_s = self.server.cpu_s()
        with ThreadPoolExecutor(count) as pool:
            ended = list(pool.map(upload, range(count)))
        self._assert_arrived(video, count)
        seconds = max(float(said) for _, said in ended)
        return {
            f"{name}_s": seconds,
            f"{name}_cpu_s": sum(cost.cpu_s for cost, _ in ended),
            f"{name}_process_s": max(cost.wall_s for cost, _ in ended),
            f"{name}_server_cores": (self.server.cpu_s() - busy_before_s) / seconds,
        }

    def program(self, way: str, name: str, video: Path, count: int = 1) -> Run:
        """Upload with `uploading.py`."""
        command = [sys.executable, "-m", "tests.bench.uploading", way, self.server.base_url, str(video)]
        options = [str(self.sources.audio), "--ca-file", str(self.server.ca_file), "--times", str(count)]
        busy_before_s = self.server.cpu_s()
        trusted = {} if way == "ours" else {"SSL_CERT_FILE": str(self.server.ca_file)}
        cost, said = told([*command, *options], self.place / name, **trusted)
        self._assert_arrived(video, 0 if way == "hash" else count)
        figures: Mapping[str, float] = json.loads(said)
        return {
            f"{name}_s": figures["transfer_s"],
            f"{name}_cpu_s": figures["cpu_s"],
            f"{name}_rss_mb": figures["rss_mb"],
            f"{name}_process_s": cost.wall_s,
            f"{name}_server_cores": (self.server.cpu_s() - busy_before_s) / figures["transfer_s"],
        }

    def _assert_arrived(self, video: Path, count: int) -> None:
        """Raise AssertionError unless each of the last uploads was as long as its two files, and read to its end."""
        least = video.stat().st_size + self.sources.audio.stat().st_size
        for took in [self.server.took() for _ in range(count)]:
            assert took >= least, f"{took} bytes came of {least}"

    def beside_curl(self) -> dict[str, float]:
        """Upload one and four at once, as often as it takes to tell us from curl: the median of each figure."""
        one = self.sources.one
        return medians(
            [
                lambda: self.program("ours", "ours", one),
                lambda: self.curls("curl", one),
                lambda: self.program("ours", "ours_four", one, AT_ONCE),
                lambda: self.curls("curl_four", one, AT_ONCE),
            ]
        )

    def turns(self) -> list[Turn]:
        """The SDK's, each with one of ours directly before it, which is what it is compared with."""
        one, three = self.sources.one, self.sources.three
        return [
            lambda: {**self.program("ours", "ours_by_sdk", one), **self.program("sdk", "sdk", one)},
            lambda: {**self.program("ours", "ours_by_open", one), **self.program("sdk-open", "sdk_open", one)},
            lambda: {**self.program("ours", "ours_3g", three), **self.program("sdk", "sdk_3g", three)},
            lambda: {
                **self.program("ours", "ours_3g_by_open", three),
                **self.program("sdk-open", "sdk_open_3g", three),
            },
        ]

    def daemon(self, name: str, video: Path) -> float:
        """Upload with the whole daemon; returns its peak memory."""
        peak_mb = uploading_daemon.peak_mb(self.server, self.place / name, video, self.sources.audio)
        self._assert_arrived(video, 1)
        return peak_mb


def run(place: Path) -> Run:
    sources = kept(place.parent)
    sources.warm()
    with serving(place) as server:
        lane = Lane(server, sources, place)
        figures = lane.beside_curl() | in_turn(lane.turns(), next(_turn))
        figures |= lane.program("ours", "ours_10g", sources.ten)
        figures |= _hashed(lane)
        figures["daemon_mb"] = lane.daemon("daemon", sources.one)
        figures["daemon_10g_mb"] = lane.daemon("daemon-10g", sources.ten)
    return figures


def _hashed(lane: Lane) -> Run:
    """Read the sources as the daemon does before it makes a pair of them."""
    found = lane.program("hash", "sha256", lane.sources.one)
    return {name: found[name] for name in ("sha256_s", "sha256_cpu_s")}


def peers() -> list[str]:
    return [
        curl_version(),
        f"chamelaion {_version('chamelaion')} over httpx {_version('httpx')}, {ssl.OPENSSL_VERSION}",
    ]


def curl_version() -> str:
    said = subprocess.run(["curl", "--disable", "--version"], check=True, capture_output=True, text=True).stdout.split()
    return f"curl {said[1]} with {next((word for word in said if word.lower().startswith('openssl/')), 'another TLS')}"


def _version(package: str) -> str:
    return importlib.metadata.version(package)


ROWS = (
    Row("1 GiB + 50 MiB: wall of the transfer", ratio("ours_s", "curl_s"), "×", 1.05, ours="ours_s", peer="curl_s"),
    Row(
        "its whole process, with our imports",
        ratio("ours_process_s", "curl_process_s"),
        "×",
        ours="ours_process_s",
        peer="curl_process_s",
    ),
    Row("its CPU", ratio("ours_cpu_s", "curl_cpu_s"), "×", 1.1, ours="ours_cpu_s", peer="curl_cpu_s", at_first=1.3),
    Row("SHA-256 of both files, before: wall", just("sha256_s"), "s"),
    Row("SHA-256 of both files, before: CPU", just("sha256_cpu_s"), "s"),
    Row("the server meanwhile, with us", just("ours_server_cores"), "cores"),
    Row("the server meanwhile, with curl", just("curl_server_cores"), "cores"),
    Row("memory of the uploading process", just("ours_rss_mb"), "MB", 50, at_first=60),
    Row(
        "10 GiB + 50 MiB: memory, unlike that at 1 GiB by",
        lambda run: abs(run["ours_10g_rss_mb"] - run["ours_rss_mb"]),
        "MB",
        5,
        ours="ours_10g_rss_mb",
        shown="MB",
    ),
    Row("memory of the whole daemon, 1 GiB + 50 MiB", just("daemon_mb"), "MB", 60, ours="daemon_mb", shown="MB"),
    Row(
        "memory of the whole daemon, 10 GiB + 50 MiB: unlike that by",
        lambda run: abs(run["daemon_10g_mb"] - run["daemon_mb"]),
        "MB",
        5,
        ours="daemon_10g_mb",
        shown="MB",
    ),
    Row(
        "1 GiB + 50 MiB: faster than the SDK", ratio("sdk_s", "ours_by_sdk_s"), "×", None, 1.4, "ours_by_sdk_s", "sdk_s"
    ),
    Row(
        "the same, the SDK at its best (open files)",
        ratio("sdk_open_s", "ours_by_open_s"),
        "×",
        ours="ours_by_open_s",
        peer="sdk_open_s",
    ),
    Row(
        "3 GiB + 50 MiB: faster than the SDK",
        ratio("sdk_3g_s", "ours_3g_s"),
        "×",
        at_least=2.5,
        ours="ours_3g_s",
        peer="sdk_3g_s",
        why="both send in the same time, and ours in curl's: the rest of the SDK's is reading 3.2 GB into new memory, and "
        "how long that takes is the machine's: 1.6 to 3.0 times ours in all (profiles/upload.txt).",
    ),
    Row(
        "the same, the SDK at its best (open files)",
        ratio("sdk_open_3g_s", "ours_3g_by_open_s"),
        "×",
        ours="ours_3g_by_open_s",
        peer="sdk_open_3g_s",
    ),
    Row(
        "3 GiB + 50 MiB: memory, less than the SDK's",
        ratio("sdk_3g_rss_mb", "ours_3g_rss_mb"),
        "×",
        at_least=60,
        at_first=40,
        ours="ours_3g_rss_mb",
        peer="sdk_3g_rss_mb",
        shown="MB",
    ),
    Row(
        "the same, the SDK at its best (open files)",
        ratio("sdk_open_3g_rss_mb", "ours_3g_by_open_rss_mb"),
        "×",
        ours="ours_3g_by_open_rss_mb",
        peer="sdk_open_3g_rss_mb",
        shown="MB",
    ),
    Row("four at once: wall", ratio("ours_four_s", "curl_four_s"), "×", 1.1, ours="ours_four_s", peer="curl_four_s"),
    Row("their CPU", ratio("ours_four_cpu_s", "curl_four_cpu_s"), "×", ours="ours_four_cpu_s", peer="curl_four_cpu_s"),
    Row(
        "four at once: the server meanwhile, with us",
        just("ours_four_server_cores"),
        "cores",
        why="four at once saturate the two cores together with the server, which takes about one of them: what is compared "
        "is the CPU time of both ends.",
    ),
    Row("the server meanwhile, with curls", just("curl_four_server_cores"), "cores"),
)

BENCH = Bench("Uploads over TLS", run, ROWS, peers)
