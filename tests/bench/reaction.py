"""A copy into the drop folder ends: how long until the first byte of its upload arrives at the service.

A process of its own writes a sound of 1 MiB and a video in pieces over a second and a half, as copies do, and tells when
the last close returned. The service is a listener in this process that notes when a submission's first line came.
The daemon is at its defaults, has served the folder before, and has had one pair just now.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from chamelaion_watch.core.policy import LOCAL_SETTLE_MS
from chamelaion_watch.sandbox.media import make_audio, make_video
from tests.acceptance.rig import Rig
from tests.bench import trees
from tests.bench.table import IS_SMALL, Bench, Row, Run, just
from tests.support import eventually

SIZES_MIB = (1, 5, 25) if IS_SMALL else (1, 50, 500)
MEDIA_S = 12.0  # a WAV of 1 MiB
SENT_WITHIN_S = 120.0
LEASED_MAX_S = 2.5
UNLEASED_MAX_S = 0.5  # after the settle time

WRITER = """
import os, sys, threading, time
head, sound, target, size, seconds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
with open(sound, "rb") as source, open(target + ".wav", "wb") as audio:
    audio.write(source.read())
with open(head, "rb") as source:
    data = source.read()
left = size - len(data) - 16
piece, pause = os.urandom(min(1 << 20, left // 64)), threading.Event()
steps = -(-left // len(piece))
with open(target + ".mp4", "wb", buffering=0) as video:
    video.write(data + b"\\0\\0\\0\\1free" + (left + 16).to_bytes(8, "big"))
    began = time.monotonic()
    for step in range(1, steps + 1):
        pause.wait(max(0, began + seconds * step / steps - time.monotonic()))
        left -= video.write(piece[:left])
print(time.monotonic())
"""
WRITING_S = 1.5

# What a server whose owner is another, or a file system without leases, comes to: nobody knows of a writer.
NO_LEASES = """
import sys
from chamelaion_watch.edges import disk
assert hasattr(disk.Tree, "_writer"), "disk.Tree has no _writer any more"
disk.Tree._writer = lambda tree, fd: None
from chamelaion_watch.__main__ import main
sys.exit(main())
"""


class Unleased(Rig):
    """The daemon where no lease is granted."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", NO_LEASES, "--config", str(self.config), *arguments]


class Service(http.server.ThreadingHTTPServer):
    """Takes every submission, never ends one; `begun` are the times of their first lines, by the system's clock."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.begun: list[float] = []
        self.taken: list[str] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/api"

    def status(self, request_id: str) -> dict[str, str]:
        return {"id": request_id, "status": "processing", "created_at": "2026-01-01T00:00:00Z"}


class _Answering(http.server.BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def parse_request(self) -> bool:
        self.began = time.monotonic()
        return super().parse_request()

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        if name in self.server.taken:
            self._answer(200, self.server.status(name))
        elif name == "requests":
            data = [self.server.status(taken) for taken in self.server.taken]
            self._answer(200, {"data": data, "pagination": {"limit": 100, "offset": 0, "total": len(data)}})
        else:
            self._answer(404, {"error": "lipsync request not found"})

    def do_POST(self) -> None:
        self.server.begun.append(self.began)
        left, buffer = int(self.headers["Content-Length"]), memoryview(bytearray(1 << 20))
        while left > 0:
            left -= self.rfile.readinto(buffer[:left]) or left
        request_id = str(uuid.uuid4())
        self.server.taken.append(request_id)
        self._answer(200, {"status": "success", "request_id": request_id})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


def run(place: Path) -> Run:
    make_video(place / "head.mp4", seconds=MEDIA_S, width=32, height=32, fps=5, sound=False)
    make_audio(place / "sound.wav", seconds=MEDIA_S)
    leased = _reactions(place, "leased", Rig)
    unleased = _reactions(place, "unleased", Unleased)
    settle_s = LOCAL_SETTLE_MS / 1000
    for name, seconds in unleased.items():
        assert seconds >= settle_s, f"{name}: after {seconds:.3f} s, so a lease was granted after all"
    over = {name.replace("unleased", "over"): seconds - settle_s for name, seconds in unleased.items()}
    return leased | unleased | over


def _reactions(place: Path, name: str, kind: type[Rig]) -> dict[str, float]:
    """Start a daemon on a folder that it knows, and time one pair of each size after another."""
    home = place / name
    home.mkdir()
    trees.make(home, trees.Stock(pairs=1))
    with _service() as service:
        trees.configure(at := kind(home, service.base_url))
        with trees.serving(at):
            _reaction(at, service, place, "warm", SIZES_MIB[0])
            return {f"{name}_{size}_s": _reaction(at, service, place, f"clip{size}", size) for size in SIZES_MIB}


def _reaction(at: Rig, service: Service, place: Path, name: str, size_mib: int) -> float:
    """Write one pair; returns the seconds from its last close to the first byte, once all of it was sent."""
    before = len(service.taken)
    sources = [str(place / "head.mp4"), str(place / "sound.wav"), str(at.drop / name)]
    command = [sys.executable, "-c", WRITER, *sources, str(size_mib << 20), str(WRITING_S)]
    closed = float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    eventually(lambda: len(service.taken) > before, SENT_WITHIN_S)
    assert len(service.begun) == before + 1, "a pair was sent more than once"
    return service.begun[before] - closed


@contextlib.contextmanager
def _service() -> Iterator[Service]:
    with Service() as service:
        thread = threading.Thread(target=service.serve_forever, daemon=True)
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()


BENCH = Bench(
    title="From the end of a copy to the first byte sent",
    run=run,
    peers=lambda: ["nothing: the time is compared with the settle time"],
    rows=(
        *(Row(f"{size} MiB, lease granted", just(f"leased_{size}_s"), "s", at_most=LEASED_MAX_S) for size in SIZES_MIB),
        *(
            Row(
                f"{size} MiB, no lease: beyond the settle time of {LOCAL_SETTLE_MS / 1000:.0f} s",
                just(f"over_{size}_s"),
                "s",
                at_most=UNLEASED_MAX_S,
                ours=f"unleased_{size}_s",
            )
            for size in SIZES_MIB
        ),
    ),
)
