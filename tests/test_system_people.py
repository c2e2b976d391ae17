"""The daemon as a real process: folders, sources and notes that people change, probe children, the display.

Each test is a life of its own with a sandbox, a state folder and a drop folder; see `side_by_side` and `lives`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator

import yaml

from chamelaion_watch.sandbox.media import make_audio, make_video
from tests.acceptance.rig import ROOT, Rig, children, outputs, slow_line, submissions
from tests.lives import all_done, drop, is_watching, life, settled, sha256, stop
from tests.side_by_side import side_by_side
from tests.support import eventually

# -- folders and sources ------------------------------------------------------------------------------


@side_by_side
def test_threat_29_a_folder_that_is_absent_at_start_is_waited_for_and_a_growing_file_in_it_too() -> None:
    with life() as (at, sandbox):
        config = yaml.safe_load(at.config.read_text())
        late = at.home / "late"
        config["folders"][0]["path"] = str(late)
        at.config.write_text(yaml.safe_dump(config))
        drop(at.home, "scene", seconds=3)
        video = (at.home / "scene.mp4").read_bytes()
        with at.daemon():
            eventually(lambda: "missing" in at.log(), 20)
            assert not late.exists()
            late.mkdir()
            shutil.copy(at.home / "scene.wav", late)
            with (late / "scene.mp4").open("wb") as file:
                file.truncate(len(video))  # reserved at once, as Explorer does
            for start in range(0, len(video), len(video) // 7):
                with (late / "scene.mp4").open("r+b") as file:
                    file.seek(start)
                    file.write(video[start : start + len(video) // 7])
                waits_for_a_scan(at)
            assert at.states() == []
            eventually(all_done(at), 40)
        (sent,) = submissions(sandbox)
        assert sent["video_sha256"] == hashlib.sha256(video).hexdigest()
        settled(at, sandbox, sent=1)


def waits_for_a_scan(at: Rig) -> None:
    """The daemon has looked once more, or half a second has passed."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: False, 0.5)


@side_by_side
def test_deleting_the_error_note_tries_again_once() -> None:
    with life() as (at, sandbox):
        sandbox.control(faults=[{"on": "submit", "kind": "fail", "message": "No face detected in the video"}])
        drop(at.drop)
        note = at.drop / "scene.lipsync-error.txt"
        with at.daemon():
            eventually(note.exists, 30)
            text = note.read_text(encoding="utf-8-sig")
            assert "No face detected" in text
            assert "Delete this note to try again." in text
            assert len(submissions(sandbox)) == 1
            note.unlink()
            eventually(lambda: outputs(at.drop), 30)
            eventually(lambda: not list(at.drop.glob("*.lipsync-error.*")), 10)
        first, second = submissions(sandbox)
        assert first["reference_id"] != second["reference_id"]
        settled(at, sandbox, sent=2)


@side_by_side
def test_threat_31_sources_that_change_while_queued_and_rendering_and_one_that_goes() -> None:
    with life(api={"max_in_flight": 1}, processing_s=15.0) as (at, sandbox):
        drop(at.drop, "rendering", seed=1)
        old = sha256(at.drop / "rendering.wav")
        with at.daemon():
            eventually(lambda: at.states() == ["rendering"], 30)
            sandbox.control(processing_s=0.3)
            drop(at.drop, "replaced", seed=2)
            drop(at.drop, "removed", seed=3)
            eventually(lambda: at.states() == ["rendering", "queued", "queued"], 30)
            for stem, seed in (("rendering", 4), ("replaced", 5)):
                make_audio(at.drop / f"{stem}.wav", seconds=1.5, seed=seed)
            (at.drop / "removed.mp4").unlink()
            eventually(lambda: sorted(at.states()) == ["cancelled", "done", "done", "superseded"], 50)
        names = ["rendering.lipsync.mp4", "rendering_superseded.lipsync.mp4", "replaced.lipsync.mp4"]
        assert [path.name for path in outputs(at.drop)] == names
        sent = {one["audio_sha256"] for one in submissions(sandbox)}
        assert sent == {old, sha256(at.drop / "rendering.wav"), sha256(at.drop / "replaced.wav")}
        settled(at, sandbox, sent=3)


@side_by_side
def test_threat_31_a_source_that_is_replaced_in_mid_upload_is_sent_as_it_is_now() -> None:
    with life() as (at, sandbox), slow_line(sandbox.base_url, 2_000_000) as slow:
        drop(at.drop, padding=10_000_000)
        with at.daemon(CHAMELAION_BASE_URL=slow):
            eventually(lambda: any(entry["received_bytes"] > 1_000_000 for entry in sandbox.state()["log"]), 30)
            make_audio(at.drop / "scene.wav", seconds=1.5, seed=7)
            eventually(all_done(at), 50)
        (sent,) = submissions(sandbox)
        assert sent["audio_sha256"] == sha256(at.drop / "scene.wav")
        settled(at, sandbox, sent=1)


@side_by_side
def test_what_people_do_while_the_daemon_is_down_counts() -> None:
    with life() as (at, sandbox):
        sandbox.control(faults=[{"on": "submit", "kind": "fail", "message": "No face detected in the video"}])
        drop(at.drop, "failed", seed=1)
        with at.daemon():
            eventually((at.drop / "failed.lipsync-error.txt").exists, 30)
            drop(at.drop, "taken", seed=2)
            drop(at.drop, "renewed", seed=3)
            eventually(lambda: at.states() == ["failed", "done", "done"], 30)
        (at.drop / "failed.lipsync-error.txt").unlink()
        (at.drop / "taken.lipsync.mp4").unlink()  # dragged away, which is no order
        make_audio(at.drop / "renewed.wav", seconds=1.5, seed=4)
        with at.daemon():
            eventually(lambda: len(outputs(at.drop)) == 3, 40)
        names = ["failed.lipsync.mp4", "renewed.lipsync.mp4", "renewed_v2.lipsync.mp4"]
        assert [path.name for path in outputs(at.drop)] == names
        settled(at, sandbox, sent=5)


# -- children and the display -------------------------------------------------------------------------


@side_by_side
def test_a_killed_probe_child_is_replaced() -> None:
    with life() as (at, sandbox), at.daemon() as process:
        drop(at.drop, "one", seed=1)
        eventually(all_done(at), 30)
        killed = children(process.pid)
        assert killed
        for child in killed:
            os.kill(child, signal.SIGKILL)
        drop(at.drop, "two", seed=2)
        eventually(all_done(at, 2), 30)
        assert not killed & children(process.pid)
        settled(at, sandbox, sent=2)


@side_by_side
def test_a_terminal_shows_a_state_per_pair_and_how_far_the_upload_is() -> None:
    with life(processing_s=1.5) as (at, sandbox), slow_line(sandbox.base_url, 3_000_000) as slow:
        drop(at.drop, "big", padding=12_000_000)
        make_video(at.drop / "lonely.mp4", seconds=1, seed=9)
        with terminal(at, CHAMELAION_BASE_URL=slow) as (process, shown):
            eventually(lambda: b" 1 done" in b"".join(shown), 40)
            stop(process)
        screen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(shown).decode(errors="replace"))
        percents = {int(found) for found in re.findall(r"drop/big\s+submitting\s+(\d+) %", screen)}
        assert percents & set(range(5, 95)), screen[-3000:]
        assert re.search(r"drop/big\s+rendering", screen)
        assert re.search(r"drop/lonely\.mp4\s+waiting", screen)
        assert len(submissions(sandbox)) == 1


@contextlib.contextmanager
def terminal(at: Rig, **env: str) -> Iterator[tuple[subprocess.Popen[bytes], list[bytes]]]:
    """The daemon on a terminal of 120 x 40, and what it shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    shown: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while data := os.read(ours, 65_536):
                shown.append(data)

    reader = threading.Thread(target=read, daemon=True)
    process = subprocess.Popen(
        at.command("run"), env=at.env(TERM="xterm", **env), cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    reader.start()
    try:
        yield process, shown
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join(5)
        os.close(ours)


@side_by_side
def test_a_pipe_gets_plain_lines_and_json_when_asked() -> None:
    with life() as (at, sandbox):
        config = yaml.safe_load(at.config.read_text())
        drop(at.drop, "one")
        with at.daemon():
            eventually(all_done(at), 30)
        text = at.log()
        assert "\x1b" not in text
        assert all(
            re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S* +(INFO|WARNING) ", line) for line in text.splitlines()
        )
        at.config.write_text(yaml.safe_dump(config | {"log": {"format": "json"}}))
        with at.daemon():
            eventually(is_watching(at, 2), 20)
        for line in at.log()[len(text) :].splitlines():
            assert {"level", "message"} <= json.loads(line).keys()
        settled(at, sandbox, sent=1)
