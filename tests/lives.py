"""A life of a real daemon for a test: a rig in a hurry, pairs to drop, signals to send, and what must hold at its end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from chamelaion_watch.sandbox.media import make_audio, make_video
from chamelaion_watch.sandbox.server import Sandbox
from tests.acceptance.rig import KEY, Rig, rig, submissions, temps

FAST = {"settle": "1s", "rescan": "1s"}
STOP_S = 15.0  # by design 8 s and a bit; systemd waits for 20


@contextlib.contextmanager
def life(*, api: dict[str, Any] | None = None, folder: dict[str, Any] | None = None, **options: Any) -> Iterator[Any]:
    """A rig in a hurry, and its sandbox."""
    with rig(**{"rpm": 1000, "queue_s": 0.1, "processing_s": 0.3} | options) as (at, sandbox):
        hurry = {"requests_per_minute": 1000, "poll": {"first": "300ms", "max": "500ms"}, "lookup_grace": "2s"}
        at.configure(api=hurry | (api or {}), folder=FAST | (folder or {}))
        yield at, sandbox


def drop(folder: Path, stem: str = "scene", *, seed: int = 1, seconds: float = 1.0, padding: int = 0) -> None:
    """Put a pair there; `padding` makes the video so many bytes bigger."""
    picture, sound = media(seed, seconds)
    (folder / f"{stem}.wav").write_bytes(sound)
    staged = folder / f".{stem}"
    staged.write_bytes(picture + (struct.pack(">I4s", padding, b"free") + os.urandom(padding - 8) if padding else b""))
    staged.rename(folder / f"{stem}.mp4")


@cache
def media(seed: int, seconds: float) -> tuple[bytes, bytes]:
    """Make a video and a sound: most lives begin with the same ones."""
    with tempfile.TemporaryDirectory() as folder:
        picture, sound = Path(folder) / "made.mp4", Path(folder) / "made.wav"
        make_video(picture, seconds=seconds, seed=seed)
        make_audio(sound, seconds=seconds, seed=seed)
        return picture.read_bytes(), sound.read_bytes()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_watching(at: Rig, times: int = 1) -> Callable[[], bool]:
    return lambda: at.log().count("watching ") >= times


def all_done(at: Rig, number: int = 1) -> Callable[[], bool]:
    return lambda: at.states() == ["done"] * number


def stop(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    process.send_signal(number)
    assert process.wait(STOP_S) == 0


def settled(at: Rig, sandbox: Sandbox, *, sent: int) -> None:
    """Nothing was paid twice, nothing half lies about, nothing was complained of, and nobody's secret was told."""
    assert len(submissions(sandbox)) == sent
    assert not temps(at.drop)
    assert not list(at.drop.rglob("*.lipsync-error.*"))
    assert at.rows("PRAGMA integrity_check") == [("ok",)]
    assert "Traceback" not in at.log()
    assert KEY not in at.log()
    assert not sandbox.state()["bugs"]
