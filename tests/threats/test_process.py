"""Rows of threats.md about the daemon's process: killed, stopped, short of everything, with a ledger that is no good.

Each test is a life of its own; see `lives`. Every system call is killed in `tests/walk`.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from chamelaion_watch.edges.ledger.sqlite import FILE
from chamelaion_watch.sandbox.server import Sandbox
from tests.acceptance.rig import fingerprints, outputs, slow_line, submissions, temps
from tests.lives import all_done, drop, is_watching, life, settled, stop
from tests.side_by_side import side_by_side
from tests.support import eventually


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def is_over(seconds: float) -> bool:
    """Let so much time pass."""
    with suppress(AssertionError):
        eventually(lambda: False, seconds)
    return True


# -- killed -----------------------------------------------------------------------------------------------


@side_by_side
def test_threat_01_killed_in_each_phase_it_goes_on_where_it_was_and_pays_once() -> None:
    with life(processing_s=1.5) as (at, sandbox), slow_line(sandbox.base_url, 2_000_000) as slow:
        drop(at.drop, seconds=4, padding=4_000_000)
        before = fingerprints(at.drop)
        sandbox.control(faults=[{"on": "media", "kind": "slow", "bytes_per_s": 40_000}])
        phases: list[Callable[[], object]] = [
            lambda: "served by this ledger" in at.log(),  # it has just seen the files
            lambda: at.states() == ["queued"],
            lambda: any(entry["received_bytes"] > 1_000_000 for entry in sandbox.state()["log"]),
            lambda: at.states() == ["rendering"],
            lambda: any(path.stat().st_size > 10_000 for path in temps(at.drop)),
            lambda: outputs(at.drop),
        ]
        for phase in phases:
            process = at.start(CHAMELAION_BASE_URL=slow)
            eventually(phase, 40, every=0.005)
            kill(process)
            assert len(outputs(at.drop)) == (phase is phases[-1])
        with at.daemon():
            eventually(all_done(at), 30)
        assert fingerprints(at.drop) == before
        assert len(outputs(at.drop)) == 1
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_02_killed_before_the_id_is_stored_the_job_is_found_by_its_reference() -> None:
    with life() as (at, sandbox):
        sandbox.control(faults=[{"on": "submit", "kind": "stall", "create": True, "seconds": 60}])
        drop(at.drop)
        process = at.start()
        eventually(lambda: submissions(sandbox), 30, every=0.005)
        kill(process)
        ((reference, request),) = at.rows("SELECT reference_id, request_id FROM jobs")
        assert request is None
        with at.daemon():
            eventually(all_done(at), 30)
        asked = [entry["path"] for entry in sandbox.state()["log"] if entry["method"] == "GET"]
        assert asked[0].endswith(reference)
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_10_a_pair_that_kills_the_daemon_again_and_again_is_set_aside_and_others_go_on() -> None:
    with life() as (at, sandbox), slow_line(sandbox.base_url, 2_000_000) as slow:
        drop(at.drop, "poison", padding=6_000_000)
        crashes = 0
        while at.states() != ["failed"]:
            process = at.start(CHAMELAION_BASE_URL=slow)
            eventually(lambda: at.states() == ["failed"] or uploads(sandbox) > crashes, 30)  # noqa: B023 - waited for here
            kill(process)
            crashes = uploads(sandbox)
            assert crashes < 12
        with at.daemon():
            eventually((at.drop / "poison.lipsync-error.txt").exists, 20)
            drop(at.drop, "healthy", seed=2)
            eventually(lambda: at.states() == ["failed", "done"], 30)
        assert len(submissions(sandbox)) == 1
        assert "Traceback" not in at.log()


def uploads(sandbox: Sandbox) -> int:
    """How many uploads had arrived in part."""
    return sum(entry["received_bytes"] > 500_000 for entry in sandbox.state()["log"])


# -- stopped ----------------------------------------------------------------------------------------------


@side_by_side
def test_threat_05_after_standing_still_it_finds_what_came_and_neither_bursts_nor_calls_anything_stuck() -> None:
    with life(processing_s=2.0) as (at, sandbox):
        drop(at.drop, "first", seed=1)
        with at.daemon() as process:
            eventually(lambda: at.states() == ["rendering"], 30)
            process.send_signal(signal.SIGSTOP)
            (at.drop / "more").mkdir()
            for number in range(20_000):  # more than the kernel's queue of events holds
                (at.drop / "more" / f"{number}.txt").touch()
            drop(at.drop / "more", "second", seed=2)
            is_over(12)
            asked = len(sandbox.state()["log"])
            process.send_signal(signal.SIGCONT)
            is_over(1)
            assert len(sandbox.state()["log"]) - asked <= 4
            eventually(all_done(at, 2), 30)
            stop(process)
        assert not [line for line in at.log().splitlines() if "hung" in line or "progress" in line]
        assert "stood still" in at.log()
        settled(at, sandbox, sent=2)


# -- short of everything ----------------------------------------------------------------------------------


@side_by_side
def test_threat_08_without_file_descriptors_pairs_wait_and_go_on_when_there_are_some() -> None:
    with life() as (at, sandbox), at.daemon() as process:
        eventually(is_watching(at), 20)
        drop(at.drop, "before", seed=1)
        eventually(all_done(at), 30)
        pid = process.pid
        _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, most))
        drop(at.drop, "one", seed=2)
        drop(at.drop, "two", seed=3)
        used_s = cpu_s(pid)
        is_over(6)
        assert process.poll() is None
        assert cpu_s(pid) - used_s < 3  # no busy loop
        assert "failed" not in at.states()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
        eventually(all_done(at, 3), 60)
        stop(process)
        settled(at, sandbox, sent=3)


@side_by_side
def test_threat_08_without_room_for_threads_pairs_wait_and_go_on_when_there_is_some() -> None:
    with life() as (at, sandbox), at.daemon() as process:
        eventually(is_watching(at), 20)
        pid = process.pid
        used_bytes = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        infinite = resource.RLIM_INFINITY
        resource.prlimit(pid, resource.RLIMIT_AS, (used_bytes + 6 * 2**20, infinite))  # a thread's stack takes 8
        drop(at.drop)
        used_s = cpu_s(pid)
        is_over(6)
        assert process.poll() is None
        assert cpu_s(pid) - used_s < 3
        resource.prlimit(pid, resource.RLIMIT_AS, (infinite, infinite))
        eventually(all_done(at), 60)
        stop(process)
        assert len(submissions(sandbox)) == 1
        assert len(outputs(at.drop)) == 1


def cpu_s(pid: int) -> float:
    """The computing time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@side_by_side
def test_threat_09_the_watchdog_is_fed_only_while_the_main_loop_turns() -> None:
    with life() as (at, _), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(at.home / "notify"))
        listener.settimeout(20)
        with at.daemon(NOTIFY_SOCKET=str(at.home / "notify"), WATCHDOG_USEC="300000") as process:
            while b"WATCHDOG=1" not in listener.recv(4096):
                pass
            with closing(sqlite3.connect(at.home / "state" / FILE, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")  # the main loop waits for it, up to 10 s
                drop(at.drop)
                eventually(lambda: is_silent(listener, 2), 6)
                other.execute("ROLLBACK")
            while b"WATCHDOG=1" not in listener.recv(4096):
                pass
            stop(process)


def is_silent(listener: socket.socket, seconds: float) -> bool:
    """Say whether nothing is heard for so long."""
    until = time.monotonic() + seconds
    with suppress(TimeoutError):
        listener.settimeout(seconds)
        while time.monotonic() < until:
            if b"WATCHDOG=1" in listener.recv(4096):
                return False
    listener.settimeout(20)
    return True


# -- a ledger that is no good -----------------------------------------------------------------------------


@pytest.mark.parametrize("fate", ["rubbish", "cut", "empty", "newer", "another's", "locked"])
def test_threat_11_without_a_sound_ledger_nothing_starts_and_it_stays_as_it_is(fate: str) -> None:
    with life() as (at, sandbox):
        assert at.run("run", "--once", timeout=30).returncode == 0
        path = at.home / "state" / FILE
        sound = path.read_bytes()
        other = spoil(path, fate)
        before = sound if fate == "locked" else path.read_bytes()  # closing the file would end our lock on it
        drop(at.drop)
        done = at.run("run", timeout=40)
        other.close()
        assert done.returncode == 69, done.stderr
        assert str(path.parent) in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert path.read_bytes() == before
        assert not sandbox.state()["log"]


def spoil(path: Path, fate: str) -> sqlite3.Connection:
    """Make a ledger unusable; returns a connection that must stay open meanwhile."""
    other = sqlite3.connect(":memory:")
    match fate:
        case "rubbish":
            path.write_bytes(os.urandom(path.stat().st_size))
        case "cut":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "empty":
            path.write_bytes(b"")
        case "newer":
            with closing(sqlite3.connect(path)) as db:
                db.execute("PRAGMA user_version = 999")
                db.commit()
        case "another's":
            path.unlink()
            with closing(sqlite3.connect(path)) as db:
                db.execute("CREATE TABLE jobs (mine)")
                db.commit()
        case "locked":
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
    return other


def test_threat_11_a_state_folder_that_cannot_be_written_is_said() -> None:
    with life() as (at, sandbox):
        state = at.home / "state"
        assert at.run("run", "--once", timeout=30).returncode == 0
        if os.geteuid() == 0:  # whom modes do not stop
            if subprocess.run(
                ["mount", "--bind", "-o", "ro", state, state], capture_output=True, check=False
            ).returncode:
                pytest.skip("root here, and may not mount")
            subprocess.run(["mount", "-o", "remount,bind,ro", state], check=True)
        else:
            state.chmod(0o500)
        try:
            drop(at.drop)
            done = at.run("run", timeout=40)
        finally:
            if os.geteuid() == 0:
                subprocess.run(["umount", state], check=True)
            else:
                state.chmod(0o700)
        assert done.returncode == 69
        assert "Traceback" not in done.stderr
        assert not sandbox.state()["log"]


@side_by_side
def test_threat_12_a_lost_ledger_is_never_made_anew_while_it_is_known_where_it_was() -> None:
    """Only the ledger is lost, not the state folder: the folder on the share still names it."""
    with life() as (at, sandbox):
        drop(at.drop)
        with at.daemon():
            eventually(all_done(at), 30)
        for path in (at.home / "state").glob(f"{FILE}*"):
            path.unlink()
        shutil.rmtree(at.home / "state" / "spool", ignore_errors=True)
        with at.daemon():
            eventually(lambda: "drop: foreign: " in at.log(), 20)
            is_over(2)
            assert at.states() == []
        settled(at, sandbox, sent=1)
