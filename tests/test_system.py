"""The daemon as a real process: one pair, signals, reload, other daemons, the supervisor, the key.

Each test is a life of its own with a sandbox, a state folder and a drop folder; see `side_by_side` and `lives`.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import yaml

from chamelaion_watch.sandbox.media import describe
from tests.acceptance.rig import KEY, Rig, fingerprints, outputs, slow_line, submissions, temps
from tests.lives import FAST, all_done, drop, is_watching, life, settled, stop
from tests.side_by_side import side_by_side
from tests.support import eventually

# -- signals ------------------------------------------------------------------------------------------


@side_by_side
def test_one_pair_end_to_end() -> None:
    with life() as (at, sandbox):
        drop(at.drop)
        before = fingerprints(at.drop)
        with at.daemon("-v") as process:
            eventually(all_done(at), 30)
            stop(process)
        for said in ("POST /api/v1/lipsync/generate-with-media: 200 after ", "Deliver drop/scene: done after "):
            assert [f"DEBUG    {said}" in line for line in at.log().splitlines()].count(True) == 1
        (output,) = outputs(at.drop)
        facts = describe(output)
        assert (output.name, facts.has_video, facts.has_audio) == ("scene.lipsync.mp4", True, True)
        assert abs(facts.duration_s - 1.0) < 0.2
        assert fingerprints(at.drop) == before
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_03_a_pair_stopped_in_upload_poll_and_download_is_paid_for_once() -> None:
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
def test_threat_04_a_second_sigterm_leaves_at_once_and_the_open_answer_is_looked_up() -> None:
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
def test_threat_03_a_stop_does_not_wait_for_an_answer_for_ever() -> None:
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
def test_threat_04_sigint_stops_cleanly() -> None:
    with life() as (at, sandbox), at.daemon() as process:
        eventually(is_watching(at), 20)
        stop(process, signal.SIGINT)
        settled(at, sandbox, sent=0)


@side_by_side
def test_threat_04_a_signal_while_starting_is_no_traceback() -> None:
    with life() as (at, _), at.daemon() as process:
        eventually((at.home / "state").exists, 20, every=0.001)
        stop(process)
        assert "Traceback" not in at.log()


@side_by_side
def test_threat_04_79_sighup_reads_the_configuration_again_unless_it_is_wrong() -> None:
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
def test_threat_06_a_second_daemon_on_one_state_folder_is_refused_with_73() -> None:
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
def test_threat_07_a_daemon_with_another_ledger_refuses_the_folder_and_touches_nothing() -> None:
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
def test_threat_83_systemd_is_told_ready_after_the_first_scan_status_watchdog_and_stopping() -> None:
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
def test_threat_81_without_a_key_the_exit_code_is_78_and_nothing_is_created() -> None:
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
def test_threat_58_a_wrong_key_is_one_loud_line_and_a_rotated_one_resumes() -> None:
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
