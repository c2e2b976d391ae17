"""Rows of threats.md about local disks: the real daemon on real file systems that fail or fill up.

Each test is a life of its own; see `share` for the file system that fails, and `test_power_cut` for disks that lose
their power.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chamelaion_watch.core.ignore import partial_copies
from chamelaion_watch.edges.clock import monotonic_s
from chamelaion_watch.edges.disk import ScanRules, Tree
from chamelaion_watch.sandbox.media import describe
from tests.acceptance.rig import ROOT, Rig, outputs, submissions, temps
from tests.lives import all_done, drop, is_watching, life, settled, sha256
from tests.side_by_side import side_by_side
from tests.support import eventually
from tests.threats.share import LOCAL, PART, share

AT_ONCE = 6  # lives, side by side: most of each is the wait until a disk that failed is tried again
OUT = {"output": "../out/{dir}/{name}.lipsync.mp4"}


@contextlib.contextmanager
def faulty(which: str, *, folder: dict[str, Any] | None = None, **options: Any) -> Iterator[Any]:
    """A life in which the `drop`, `out` or `state` folder lies on a disk that fails on order."""
    with life(folder=folder, **options) as (at, sandbox):
        point = at.home / which
        point.mkdir(exist_ok=True)
        with share(point, fstype=LOCAL) as there:
            yield at, sandbox, there


def is_said(at: Rig, words: str) -> Callable[[], bool]:
    return lambda: words in at.log()


# -- disks that fail ------------------------------------------------------------------------------------


@side_by_side
def test_threat_16_an_output_whose_fsync_fails_is_not_announced_and_is_fetched_anew() -> None:
    with faulty("out", folder=OUT) as (at, sandbox, there):
        there.order(faults=[{"op": "fsync", "name": PART, "errno": errno.EIO, "count": 1}])
        drop(at.drop)
        with at.daemon():
            eventually(lambda: "rendered" in at.states() and "Input/output error" in at.log(), 30)
            assert not outputs(there.backing)
            assert not temps(there.backing)
            eventually(all_done(at), 60)
        assert describe(outputs(there.backing)[0]).has_audio
        assert sandbox.state()["counters"]["media"]["200"] == 2  # nobody believes what a second fsync says
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_16_a_ledger_whose_fsync_fails_submits_nothing_and_recovers() -> None:
    with faulty("state") as (at, sandbox, there):
        with at.daemon():
            eventually(is_watching(at), 20)
            there.order(faults=[{"op": "fsync", "name": "ledger.sqlite3*", "errno": errno.EIO}])
            drop(at.drop)
            eventually(is_said(at, "nothing is submitted"), 30)
            assert not submissions(sandbox)
            there.order(faults=[])
            eventually(all_done(at), 40)
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_17_a_source_that_cannot_be_read_is_not_sent_is_said_and_holds_up_nobody() -> None:
    with faulty("drop") as (at, sandbox, there):
        there.order(faults=[{"op": "read", "name": "bad.mp4", "errno": errno.EIO}])
        drop(there.backing, "bad", seed=1)
        drop(there.backing, "good", seed=2)
        with at.daemon():
            eventually(lambda: "done" in at.states(), 30)
            (pair,) = [pair for pair in at.status()["pairs"] if pair["name"] == "bad"]
            assert (pair["state"], "Input/output error" in pair["reason"]) == ("unreadable", True)
            assert [sent["video_sha256"] for sent in submissions(sandbox)] == [sha256(there.backing / "good.mp4")]
            there.order(faults=[])
            eventually(all_done(at, 2), 90)
        settled(at, sandbox, sent=2)


@side_by_side
def test_threat_17_a_read_error_in_mid_upload_sends_nothing_and_is_tried_again() -> None:
    with faulty("drop") as (at, sandbox, there):
        with at.daemon():
            eventually(is_watching(at), 20)
            assert at.run("pause").returncode == 0
            drop(there.backing, padding=1_000_000)
            eventually(lambda: at.states() == ["queued"], 20)
            eventually(lambda: "paused" in at.status()["pairs"][0]["reason"], 40)
            there.order(faults=[{"op": "read", "name": "scene.mp4", "errno": errno.EIO}])
            assert at.run("resume").returncode == 0
            eventually(lambda: at.rows("SELECT job_id FROM attempts WHERE code = 'input_unreadable'"), 20)
            assert not submissions(sandbox)
            there.order(faults=[])
            eventually(all_done(at), 60)
        assert submissions(sandbox)[0]["video_sha256"] == sha256(there.backing / "scene.mp4")
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_17_a_short_read_is_never_taken_for_the_file() -> None:
    with faulty("drop") as (at, sandbox, there):
        drop(there.backing, padding=600_000)
        there.order(faults=[{"op": "read", "name": "scene.mp4", "bytes": 300_000}])
        with at.daemon():
            eventually(is_watching(at), 20)
            with contextlib.suppress(AssertionError):
                eventually(lambda: submissions(sandbox), 6)
            assert not submissions(sandbox)
            there.order(faults=[])
            eventually(all_done(at), 90)
        assert submissions(sandbox)[0]["video_sha256"] == sha256(there.backing / "scene.mp4")
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_18_a_quota_that_speaks_up_at_close_is_heard_and_waited_out() -> None:
    with faulty("out", folder=OUT) as (at, sandbox, there):
        there.order(faults=[{"op": "flush", "name": PART, "errno": errno.EDQUOT}])
        drop(at.drop)
        with at.daemon():
            eventually(is_said(at, "drop: full: "), 30)
            eventually(lambda: at.status()["roots"][0]["state"] == "full", 20)  # told once a second
            assert not outputs(there.backing)
            there.order(faults=[])
            eventually(all_done(at), 60)
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_18_where_the_output_folder_denies_everything_the_note_lies_beside_the_source() -> None:
    with faulty("out", folder=OUT) as (at, sandbox, there):
        there.order(faults=[{"op": "create", "errno": errno.EACCES}])
        drop(at.drop, "paid", seed=1)
        with at.daemon():
            eventually(is_said(at, "drop: denied: "), 30)
            assert at.states() == ["rendered"]
            assert not outputs(there.backing)
            there.order(faults=[])
            eventually(all_done(at), 60)
            there.order(faults=[{"op": "create", "errno": errno.EACCES}])
            sandbox.control(faults=[{"on": "submit", "kind": "fail", "message": "No face detected"}])
            drop(at.drop, "bad", seed=2)
            eventually((at.drop / "bad.lipsync-error.txt").exists, 30)
        assert not list(there.backing.glob("*error*"))
        assert len(submissions(sandbox)) == 2


@side_by_side
def test_threat_19_a_rename_that_fails_loses_neither_the_result_nor_what_is_there() -> None:
    with faulty("out", folder=OUT) as (at, sandbox, there):
        (there.backing / "scene.lipsync.mp4").write_bytes(b"a user's")
        refused = [{"op": op, "errno": errno.EACCES} for op in ("rename", "rename2", "link")]
        there.order(faults=[*refused, {"op": "create", "name": "*.lipsync.mp4", "errno": errno.EACCES}])
        drop(at.drop)
        with at.daemon():
            eventually(is_said(at, "drop: denied: "), 30)
            assert [path.read_bytes() for path in outputs(there.backing)] == [b"a user's"]
            there.order(faults=[])
            eventually(all_done(at), 60)
        assert (there.backing / "scene.lipsync.mp4").read_bytes() == b"a user's"
        assert describe(there.backing / "scene_v2.lipsync.mp4").has_video
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_20_a_users_file_that_appears_during_the_download_is_never_overwritten() -> None:
    with life() as (at, sandbox):
        sandbox.control(faults=[{"on": "media", "kind": "slow", "bytes_per_s": 15_000}])
        drop(at.drop)
        with at.daemon():
            eventually(lambda: temps(at.drop), 30)
            (at.drop / "scene.lipsync.mp4").write_bytes(b"mine")
            eventually(all_done(at), 30)
        assert (at.drop / "scene.lipsync.mp4").read_bytes() == b"mine"
        assert describe(at.drop / "scene_v2.lipsync.mp4").has_video
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_21_without_links_modes_times_flags_and_folder_syncs_it_works() -> None:
    cannot = {
        "link": errno.EPERM,
        "chmod": errno.EPERM,
        "utime": errno.EPERM,
        "rename2": errno.EINVAL,
        "fsyncdir": errno.EINVAL,
        "lseek": errno.EINVAL,
    }
    with faulty("drop") as (at, sandbox, there):
        there.order(faults=[{"op": op, "errno": code} for op, code in cannot.items()], mtime_step_s=2)
        drop(there.backing, "first", seed=1)
        sandbox.control(faults=[{"on": "submit", "kind": "fail", "message": "No face detected"}])
        with at.daemon():
            eventually((there.backing / "first.lipsync-error.txt").exists, 30)
            drop(there.backing, "second", seed=2)
            eventually(lambda: at.states() == ["failed", "done"], 40)
            (there.backing / "first.lipsync-error.txt").unlink()
            eventually(all_done(at, 2), 40)
        assert len(outputs(there.backing)) == 2
        settled(at, sandbox, sent=3)


# -- disks that are full ----------------------------------------------------------------------------------


@side_by_side
def test_threat_14_a_disk_that_fills_up_in_mid_download_is_left_clean() -> None:
    with faulty("out", folder=OUT) as (at, sandbox, there):
        there.order(faults=[{"op": "write", "name": PART, "errno": errno.ENOSPC}])
        drop(at.drop)
        with at.daemon():
            eventually(is_said(at, "drop: full: "), 30)
            assert at.states() == ["rendered"]
            assert not outputs(there.backing)
            assert not temps(there.backing)
            there.order(faults=[])
            eventually(all_done(at), 60)
        settled(at, sandbox, sent=1)


# -- many files, and few watches --------------------------------------------------------------------------


def test_threat_24_a_scan_of_many_files_is_bounded_in_time_and_memory() -> None:
    """100,000 files in 1,000 folders, measured in a process of its own."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where files cost least
    with tempfile.TemporaryDirectory(dir=memory) as place:
        for folder in range(1_000):
            (Path(place) / str(folder)).mkdir()
            for number in range(100):
                os.mknod(f"{place}/{folder}/{number}.mp4")
        command = [sys.executable, "-c", MEASURED, place, str(ROOT)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    files, first_s, second_s, mebibytes = map(float, done.stdout.split())
    assert files == 100_000
    assert first_s < 10  # 0.2 s when the machine is quiet
    assert second_s < 5
    assert mebibytes < 100


MEASURED = """
import resource, sys, time
sys.path.insert(0, sys.argv[2])
from chamelaion_watch.core.ignore import partial_copies
from chamelaion_watch.edges.clock import monotonic_s
from chamelaion_watch.edges.disk import ScanRules, Tree
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rules = ScanRules(True, lambda name: name.endswith(".mp4"), lambda name: True)
tree = Tree(sys.argv[1], rules, clock=monotonic_s, find_partial_copies=partial_copies)
began = time.monotonic()
files = len(tree.sweep().appeared)
first = time.monotonic() - began
tree.sweep()
print(files, first, time.monotonic() - began - first, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used) / 1024)
"""


def test_threat_24_folders_that_are_renamed_all_the_time_break_no_scan(tmp_path: Path) -> None:
    """Whatever happens in between, the scan after it tells all."""
    names = [f"{folder}/{number}.mp4" for folder in range(20) for number in range(5)]
    for name in names:
        (tmp_path / "drop" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "drop" / name).touch()
    rules = ScanRules(recursive=True, wants=lambda name: name.endswith(".mp4"), enters=lambda _: True)
    tree = Tree(str(tmp_path / "drop"), rules, clock=monotonic_s, find_partial_copies=partial_copies)
    is_over = threading.Event()
    mover = threading.Thread(target=shuffle, args=(tmp_path, is_over))
    mover.start()
    known = set[str]()
    try:
        for _ in range(300):
            seen = tree.sweep()
            known = (known | set(seen.appeared)) - set(seen.vanished)
    finally:
        is_over.set()
        mover.join()
    for _ in range(2):
        seen = tree.sweep()
        known = (known | set(seen.appeared)) - set(seen.vanished)
    assert known == set(names)


def shuffle(place: Path, is_over: threading.Event) -> None:
    """Move folders out of the drop folder and back, and into each other."""
    while not is_over.is_set():
        for number in range(0, 20, 2):
            (place / "drop" / str(number)).rename(place / "drop" / str(number + 1) / "moved")
            (place / "drop" / str(number + 1) / "moved").rename(place / "elsewhere")
            (place / "elsewhere").rename(place / "drop" / str(number))


@side_by_side
def test_threat_23_at_the_limit_of_watches_pairs_are_found_by_looking_and_it_says_so() -> None:
    """A user namespace has a limit of its own, so the machine's stays as it is."""
    shell = 'echo 4 > /proc/sys/user/max_inotify_watches && exec "$@"'
    prefix = ["unshare", "-Ur", "sh", "-c", shell, "sh"]
    try:
        is_possible = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        is_possible = False
    if not is_possible:
        pytest.skip("may not make a user namespace")
    with life() as (at, sandbox):
        for number in range(10):
            (at.drop / f"show{number}").mkdir()
        with (at.home / "daemon.log").open("ab") as log:
            process = subprocess.Popen([*prefix, *at.command("run")], env=at.env(), cwd=ROOT, stdout=log, stderr=log)
        try:
            eventually(is_said(at, "watching "), 20)
            assert "fs.inotify.max_user_watches" in at.log()
            for number in (0, 9):
                drop(at.drop / f"show{number}", seed=number + 1)
            eventually(all_done(at, 2), 40)
        finally:
            process.terminate()
            process.wait(15)
        assert at.log().count("fs.inotify.max_user_watches=") == 1  # and not at each look
        settled(at, sandbox, sent=2)
