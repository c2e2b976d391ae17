"""The daemon as a real process: signals, reload, other daemons, the supervisor, keys, folders, sources, the display.

Each test is a life of its own with a sandbox, a state folder and a drop folder; see `side_by_side`.
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
import socket
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chamelaion_watch.sandbox.media import describe, make_audio, make_video
from chamelaion_watch.sandbox.server import Sandbox
from tests.acceptance.rig import KEY, ROOT, Rig, children, fingerprints, outputs, rig, slow_line, submissions, temps
from tests.side_by_side import side_by_side
from tests.support import eventually

FAST = {"settle": "1s", "rescan": "1s"}
STOP_S = 10.0


@contextlib.contextmanager
def life(*, api: dict[str, Any] | None = None, folder: dict[str, Any] | None = None, **options: Any) -> Iterator[Any]:
    """A rig in a hurry, and its sandbox."""
    with rig(**{"rpm": 1000, "queue_s": 0.1, "processing_s": 0.3} | options) as (at, sandbox):
        hurry = {"requests_per_minute": 1000, "poll": {"first": "300ms", "max": "500ms"}, "lookup_grace": "2s"}
        at.configure(api=hurry | (api or {}), folder=FAST | (folder or {}))
        yield at, sandbox


def drop(folder: Path, stem: str = "scene", *, seed: int = 1, seconds: float = 1.0, padding: int = 0) -> None:
    """Put a pair there; `padding` makes the video so many bytes bigger."""
    make_audio(folder / f"{stem}.wav", seconds=seconds, seed=seed)
    staged = folder / f".{stem}"
    make_video(staged, seconds=seconds, seed=seed)
    if padding:
        with staged.open("ab") as file:
            file.write(struct.pack(">I4s", padding, b"free") + os.urandom(padding - 8))
    staged.rename(folder / f"{stem}.mp4")


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


# -- signals ------------------------------------------------------------------------------------------


@side_by_side
def test_one_pair_end_to_end() -> None:
    with life() as (at, sandbox):
        drop(at.drop)
        before = fingerprints(at.drop)
        with at.daemon() as process:
            eventually(all_done(at), 30)
            stop(process)
        (output,) = outputs(at.drop)
        facts = describe(output)
        assert (output.name, facts.has_video, facts.has_audio) == ("scene.lipsync.mp4", True, True)
        assert abs(facts.duration_s - 1.0) < 0.2
        assert fingerprints(at.drop) == before
        settled(at, sandbox, sent=1)


@side_by_side
def test_a_pair_stopped_in_upload_poll_and_download_is_paid_for_once() -> None:
    with life(processing_s=3.0) as (at, sandbox), slow_line(sandbox.base_url, 2_000_000) as slow:
        drop(at.drop, seconds=6, padding=12_000_000)
        with at.daemon(CHAMELAION_BASE_URL=slow) as process:
            eventually(lambda: any(entry["received_bytes"] > 100_000 for entry in sandbox.state()["log"]), 30)
            stop(process)
        assert at.states() == ["queued"]
        assert not submissions(sandbox)
        with at.daemon() as process:
            eventually(lambda: at.states() == ["rendering"], 30)
            stop(process)
        sandbox.control(faults=[{"on": "media", "kind": "slow", "bytes_per_s": 10_000}])
        with at.daemon() as process:
            eventually(lambda: any(path.stat().st_size > 20_000 for path in temps(at.drop)), 30)
            stop(process)
        assert not temps(at.drop)
        assert not outputs(at.drop)
        with at.daemon() as process:
            eventually(all_done(at), 30)
            stop(process)
        assert len(outputs(at.drop)) == 1
        assert sandbox.state()["counters"]["media"]["206"] == 1  # what was there is not fetched again
        settled(at, sandbox, sent=1)


@side_by_side
def test_a_second_sigterm_leaves_at_once_and_the_open_answer_is_looked_up() -> None:
    with life() as (at, sandbox):
        sandbox.control(faults=[{"on": "submit", "kind": "stall", "create": True, "seconds": 60}])
        drop(at.drop)
        with at.daemon() as process:
            eventually(lambda: submissions(sandbox), 30)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):  # it hopes for the answer
                process.wait(1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(1.5) == 0
        assert at.states() == ["submitting"]
        with at.daemon():
            eventually(all_done(at), 30)
        settled(at, sandbox, sent=1)


@side_by_side
def test_a_stop_does_not_wait_for_an_answer_for_ever() -> None:
    with life() as (at, sandbox):
        sandbox.control(faults=[{"on": "submit", "kind": "stall", "create": True, "seconds": 60}])
        drop(at.drop)
        with at.daemon() as process:
            eventually(lambda: submissions(sandbox), 30)
            stop(process)
        with at.daemon():
            eventually(all_done(at), 30)
        settled(at, sandbox, sent=1)


@side_by_side
def test_sigint_stops_cleanly() -> None:
    with life() as (at, sandbox), at.daemon() as process:
        eventually(is_watching(at), 20)
        stop(process, signal.SIGINT)
        settled(at, sandbox, sent=0)


@side_by_side
def test_a_signal_while_starting_is_no_traceback() -> None:
    with life() as (at, _), at.daemon() as process:
        eventually((at.home / "state").exists, 20, every=0.001)
        stop(process)
        assert "Traceback" not in at.log()


@side_by_side
def test_sighup_reads_the_configuration_again_unless_it_is_wrong() -> None:
    with life() as (at, sandbox):
        good = yaml.safe_load(at.config.read_text())
        more = at.home / "more"
        more.mkdir()
        with at.daemon() as process:
            eventually(is_watching(at), 20)
            good["folders"].append({"path": str(more), **FAST})
            at.config.write_text(yaml.safe_dump(good))
            process.send_signal(signal.SIGHUP)
            eventually(is_watching(at, 2), 20)
            drop(more, "added", seed=2)
            at.config.write_text(yaml.safe_dump(good | {"foldres": []}))
            process.send_signal(signal.SIGHUP)
            eventually(lambda: "the old configuration stays in force" in at.log(), 20)
            drop(at.drop, "old", seed=3)
            eventually(all_done(at, 2), 40)
            stop(process)
        lines = [line for line in at.log().splitlines() if "foldres" in line]
        assert len(lines) == 1
        assert "ERROR" in lines[0]
        assert "config.yaml:" in lines[0]
        assert outputs(more)
        settled(at, sandbox, sent=2)


# -- other daemons, the supervisor --------------------------------------------------------------------


@side_by_side
def test_a_second_daemon_on_one_state_folder_is_refused_with_73() -> None:
    with life() as (at, sandbox), at.daemon() as first:
        eventually(is_watching(at), 20)
        for flags in ((), ("--once",)):
            second = at.run("run", *flags, timeout=20)
            assert second.returncode == 73
            assert f"pid {first.pid}" in second.stderr
            assert len(second.stderr.strip().splitlines()) == 1
        drop(at.drop)
        eventually(all_done(at), 30)
        settled(at, sandbox, sent=1)


@side_by_side
def test_a_daemon_with_another_ledger_refuses_the_folder_and_touches_nothing() -> None:
    with life() as (at, sandbox):
        other = Rig(at.home / "other", at.base_url)
        other.home.mkdir()
        config = yaml.safe_load(at.config.read_text()) | {"state": str(other.home / "state")}
        other.config.write_text(yaml.safe_dump(config))
        with at.daemon():
            eventually(is_watching(at), 20)
        drop(at.drop)
        before = everything(at.drop)
        once = other.run("run", "--once", timeout=30)
        assert once.returncode == 73
        assert "adopt" in once.stderr
        with other.daemon():
            eventually(lambda: "foreign" in other.log(), 20)
            eventually(lambda: other.status()["roots"][0]["state"] == "foreign", 10)
            assert socket.gethostname() in other.status()["roots"][0]["reason"]
        assert everything(at.drop) == before
        assert other.states() == []
        with at.daemon(), other.daemon():
            eventually(all_done(at), 30)
        settled(at, sandbox, sent=1)


def everything(folder: Path) -> dict[str, tuple[object, ...]]:
    return {
        path.name: (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes())
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


@side_by_side
def test_systemd_is_told_ready_after_the_first_scan_status_watchdog_and_stopping() -> None:
    with life() as (at, sandbox), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(at.home / "notify"))
        listener.settimeout(20)
        heard: list[str] = []
        drop(at.drop)
        with at.daemon(NOTIFY_SOCKET=str(at.home / "notify"), WATCHDOG_USEC="900000") as process:
            while not any("READY=1" in message for message in heard):
                heard.append(listener.recv(4096).decode())
            assert at.rows("SELECT name FROM roots") == [("drop",)]  # what only a scan can have written
            while not (any("in flight" in message for message in heard) and heard.count("WATCHDOG=1") >= 5):
                heard.append(listener.recv(4096).decode())
            stop(process)
        listener.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while True:
                heard.append(listener.recv(4096).decode())
        assert sum("READY=1" in message for message in heard) == 1
        assert "STOPPING=1" in heard
        assert any(message.startswith("STATUS=") for message in heard)
        assert not sandbox.state()["bugs"]


# -- the key ------------------------------------------------------------------------------------------


@side_by_side
def test_without_a_key_the_exit_code_is_78_and_nothing_is_created() -> None:
    with life() as (at, sandbox):
        drop(at.drop)
        before = sorted(path.name for path in at.home.rglob("*"))
        found = at.run("run", env={"CHAMELAION_API_KEY": None}, timeout=20)
        assert found.returncode == 78
        assert "CHAMELAION_API_KEY" in found.stderr
        assert "Traceback" not in found.stderr
        assert sorted(path.name for path in at.home.rglob("*")) == before
        assert not sandbox.state()["log"]


@side_by_side
def test_a_wrong_key_is_one_loud_line_and_a_rotated_one_resumes() -> None:
    pause = {"unauthorized": {"first": "500ms", "max": "1s"}}
    with life() as (at, sandbox):
        key_file = at.home / "key"
        config = yaml.safe_load(at.config.read_text())
        config["api"] |= {"key_file": str(key_file), "pause": pause}
        at.config.write_text(yaml.safe_dump(config))
        key_file.touch(0o600)
        key_file.write_text("revoked-key-77aa\n")
        drop(at.drop, "one", seed=1)
        drop(at.drop, "two", seed=2)
        with at.daemon("-v", CHAMELAION_API_KEY=None):
            eventually(lambda: sandbox.state()["counters"].get("me", {}).get("401", 0) >= 3, 30)
            assert at.status()["account"]["state"] == "unauthorized"
            assert not list(at.drop.rglob("*.lipsync-*.txt"))
            key_file.write_text(f"{KEY}\n")
            eventually(all_done(at, 2), 30)
        loud = [line for line in at.log().splitlines() if "the account is unauthorized" in line]
        assert len(loud) == 1
        assert "WARNING" in loud[0]
        assert "revoked-key-77aa" not in at.log()
        settled(at, sandbox, sent=2)


# -- folders and sources ------------------------------------------------------------------------------


@side_by_side
def test_a_folder_that_is_absent_at_start_is_waited_for_and_a_growing_file_in_it_too() -> None:
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
def test_sources_that_change_while_queued_and_rendering_and_one_that_goes() -> None:
    with life(api={"max_in_flight": 1}, processing_s=7.0) as (at, sandbox):
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
def test_a_source_that_is_replaced_in_mid_upload_is_sent_as_it_is_now() -> None:
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
