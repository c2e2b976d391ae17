"""A download over TLS 1.3 from a server on this machine, to a file that is safe on disk: ours beside `curl -o` + `sync`.

The result is a short real video with 1 GiB of random bytes behind it, in a box that players skip: it is whole, and it
plays. Ours is the daemon's whole delivery (see `downloading.py`): it also asks where the result is, checks that it is
whole and plays, hashes it, and fsyncs file and folder. curl's is its `time_total` and what `sync FILE` takes then,
which flushes just that file. Before each turn everything is flushed, so that none pays for another's pages.
The server competes with the client on both sides alike; how busy it was is reported.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chamelaion_watch.sandbox.media import make_video
from tests.bench import process
from tests.bench.downloading import OUTPUT
from tests.bench.table import Bench, Row, Run, just, ratio
from tests.bench.tls_server import RESULT_PATH, Server, serving
from tests.bench.upload import GIB, SCALE, curl, curl_version, folder_in, medians, read_all, told, write_random

RESULT_BYTES = GIB // SCALE
BOX_HEAD_BYTES = 8


@dataclass(frozen=True)
class Result:
    path: Path
    sha256: str


@functools.cache
def kept(parent: Path) -> Result:
    """Return the result, made in `parent` at the first call and removed when the benchmarks end."""
    path = folder_in(parent) / "result.mp4"
    make_video(path, seconds=2)
    rest_bytes = RESULT_BYTES - path.stat().st_size
    with path.open("ab") as file:
        file.write(rest_bytes.to_bytes(4, "big") + b"free")
        write_random(file.write, rest_bytes - BOX_HEAD_BYTES)
    with path.open("rb") as file:
        return Result(path, hashlib.file_digest(file, "sha256").hexdigest())


@dataclass(frozen=True)
class Lane:
    """The server, what it gives, and a place to bring it to."""

    server: Server
    result: Result
    place: Path

    def ours(self) -> Run:
        home = self._fresh("ours")
        command = [sys.executable, "-m", "tests.bench.downloading"]
        busy_before_s = self.server.cpu_s()
        given = [self.server.base_url, str(home), str(self.server.ca_file)]
        cost, said = told([*command, *given], self.place / "ours.report")
        busy_s = self.server.cpu_s() - busy_before_s
        figures: dict[str, Any] = json.loads(said)
        assert figures["sha256"] == self.result.sha256, "another result was delivered than was served"
        self._end(home, home / OUTPUT)
        return {
            "ours_s": figures["transfer_s"],
            "ours_fetch_s": figures["fetch_s"],
            "ours_rest_s": figures["transfer_s"] - figures["fetch_s"],
            "ours_cpu_s": figures["cpu_s"],
            "ours_rss_mb": figures["rss_mb"],
            "ours_process_s": cost.wall_s,
            "ours_server_cores": busy_s / figures["fetch_s"],
        }

    def curl(self) -> Run:
        home = self._fresh("curl")
        target = home / "result.mp4"
        command = curl(self.server, "--output", str(target), self.server.origin + RESULT_PATH)
        busy_before_s = self.server.cpu_s()
        cost, said = told(command, self.place / "curl.report")
        busy_s = self.server.cpu_s() - busy_before_s
        synced = process.run(["sync", str(target)])
        self._end(home, target)
        return {
            "curl_s": float(said) + synced.wall_s,
            "curl_fetch_s": float(said),
            "curl_rest_s": synced.wall_s,
            "curl_cpu_s": cost.cpu_s + synced.cpu_s,
            "curl_process_s": cost.wall_s + synced.wall_s,
            "curl_server_cores": busy_s / float(said),
        }

    def _fresh(self, name: str) -> Path:
        home = self.place / name
        home.mkdir()
        os.sync()
        return home

    def _end(self, home: Path, target: Path) -> None:
        assert target.stat().st_size == RESULT_BYTES, "what came is not as long as what was served"
        shutil.rmtree(home)


def run(place: Path) -> Run:
    result = kept(place.parent)
    read_all(result.path)
    with serving(place, result.path) as server:
        lane = Lane(server, result, place)
        return medians([lane.ours, lane.curl])


def peers() -> list[str]:
    return [f"{curl_version()}, sync of coreutils"]


ROWS = (
    Row("1 GiB, checked and fsynced: wall", ratio("ours_s", "curl_s"), "×", 1.2, ours="ours_s", peer="curl_s"),
    Row(
        "of it: until the last byte was written",
        ratio("ours_fetch_s", "curl_fetch_s"),
        "×",
        ours="ours_fetch_s",
        peer="curl_fetch_s",
    ),
    Row(
        "of it: checks, hash and fsync; `sync`",
        ratio("ours_rest_s", "curl_rest_s"),
        "×",
        ours="ours_rest_s",
        peer="curl_rest_s",
    ),
    Row(
        "its whole process, with our imports",
        ratio("ours_process_s", "curl_process_s"),
        "×",
        ours="ours_process_s",
        peer="curl_process_s",
    ),
    Row("its CPU", ratio("ours_cpu_s", "curl_cpu_s"), "×", ours="ours_cpu_s", peer="curl_cpu_s"),
    Row("memory of the downloading process", just("ours_rss_mb"), "MB"),
    Row("the server during the transfer, with us", just("ours_server_cores"), "cores"),
    Row("the server during the transfer, with curl", just("curl_server_cores"), "cores"),
)

BENCH = Bench("A download over TLS, onto the disk", run, ROWS, peers)
