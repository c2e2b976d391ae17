"""Rows of threats.md about shares: the real daemon on a real file system whose server misbehaves.

Each test is a life of its own; see `share` for what stands in for a file server, and why the tests look at `backing`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import socket
import subprocess
import time
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from chamelaion_watch.core.model import Options
from chamelaion_watch.core.naming import reference_id
from chamelaion_watch.edges.probe import Prober
from chamelaion_watch.sandbox.media import make_audio
from tests.acceptance.rig import Rig, fingerprints, outputs, submissions, temps
from tests.lives import all_done, drop, is_watching, life, settled, sha256, stop
from tests.side_by_side import side_by_side
from tests.support import eventually
from tests.threats.share import NETWORK, share, started

AT_ONCE = 6  # lives, side by side: they mostly wait
AWAY = {"op": "*", "errno": errno.EHOSTDOWN}
HANGS = {"op": "*", "hang": True}


@contextlib.contextmanager
def on_share(fstype: str = NETWORK, *, orders: dict[str, Any] | None = None, **options: Any) -> Iterator[Any]:
    """A life whose drop folder is a share."""
    with life(**options) as (at, sandbox), share(at.drop, fstype=fstype) as there:
        if orders:
            there.order(**orders)
        yield at, sandbox, there


def beside(at: Rig) -> Path:
    """Configure a second folder, on a local disk."""
    config = yaml.safe_load(at.config.read_text())
    local = at.home / "local"
    local.mkdir()
    config["folders"].append({"path": str(local), "settle": "1s", "rescan": "1s"})
    at.config.write_text(yaml.safe_dump(config))
    return local


def roots(at: Rig) -> dict[str, dict[str, Any]]:
    return {root["name"]: root for root in at.status()["roots"]}


def pause(seconds: float) -> None:
    """Let time pass in which nothing must happen."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: False, seconds)


def is_said(at: Rig, words: str, times: int = 1) -> Callable[[], bool]:
    return lambda: at.log().count(words) >= times


# -- what a share does not tell, and tells late ---------------------------------------------------------


@side_by_side
def test_threat_25_what_another_client_puts_there_is_found_by_looking() -> None:
    with on_share() as (at, sandbox, there):
        with at.daemon():
            eventually(is_watching(at), 20)
            began = time.monotonic()
            drop(there.backing)  # past the mount: no event can tell of it
            eventually(at.states, 15)
            assert time.monotonic() - began < 10  # settle and rescan are 1 s each, and three looks are needed
            eventually(all_done(at), 30)
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_30_sizes_that_stand_still_for_3_s_and_a_late_half_are_waited_for() -> None:
    with on_share(orders={"attr_s": 3.0}, folder={"settle": "4s"}) as (at, sandbox, there):
        drop(at.home, seconds=2)
        video = (at.home / "scene.mp4").read_bytes()
        with at.daemon():
            eventually(is_watching(at), 20)
            with (there.backing / "scene.mp4").open("wb") as file:
                for start in range(0, len(video), -(-len(video) // 5)):
                    file.write(video[start : start + -(-len(video) // 5)])
                    file.flush()
                    pause(1.5)
            pause(6)  # the video is whole, its sound is not visible yet
            assert at.states() == []
            assert sorted(path.name for path in there.backing.iterdir()) == [".lipsync-root", "scene.mp4"]
            (at.home / "scene.wav").rename(at.home / "late.wav")
            (there.backing / "scene.wav").write_bytes((at.home / "late.wav").read_bytes())
            eventually(all_done(at), 40)
        (sent,) = submissions(sandbox)
        assert sent["video_sha256"] == hashlib.sha256(video).hexdigest()
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_32_the_servers_clock_may_be_hours_ahead_or_behind_and_may_be_set() -> None:
    with on_share(orders={"mtime_shift_s": 10 * 3600}) as (at, sandbox, there):
        drop(there.backing, "ahead", seed=1)
        with at.daemon():
            eventually(all_done(at), 30)
            there.order(mtime_shift_s=-10 * 3600)  # all times jump back by 20 hours: the same content, nothing to pay
            drop(at.home, "behind", seed=2)
            video = (at.home / "behind.mp4").read_bytes()
            (there.backing / "behind.wav").write_bytes((at.home / "behind.wav").read_bytes())
            for part in range(1, 6):  # by its age it would be long complete
                (there.backing / "behind.mp4").write_bytes(video[: len(video) * part // 5])
                pause(0.6)
            eventually(all_done(at, 2), 40)
        assert submissions(sandbox)[1]["video_sha256"] == hashlib.sha256(video).hexdigest()
        settled(at, sandbox, sent=2)


# -- a server that goes and comes back ------------------------------------------------------------------


@side_by_side
def test_threat_26_a_server_that_dies_freezes_its_folder_only_and_comes_back_by_itself() -> None:
    with on_share() as (at, sandbox, there):
        local = beside(at)
        drop(there.backing, "old", seed=1)
        with at.daemon():
            eventually(all_done(at), 30)
            there.order(faults=[HANGS])  # each call blocks …
            drop(local, "local", seed=2)
            eventually(all_done(at, 2), 30)
            there.order(faults=[AWAY])  # … and then fails
            eventually(is_said(at, "drop: stale: "), 30)
            eventually(lambda: roots(at)["drop"]["state"] == "stale", 20)  # told once a second
            assert roots(at)["local"]["state"] == "ok"
            drop(there.backing, "new", seed=3)
            pause(2)
            there.order(faults=[])
            eventually(all_done(at, 3), 40)
            eventually(lambda: roots(at)["drop"]["state"] == "ok", 20)
        assert len(at.rows("SELECT path FROM files WHERE root = 'drop'")) == 4  # none was taken for deleted
        assert at.log().count("drop: stale: ") == 1
        settled(at, sandbox, sent=3)


@side_by_side
def test_threat_28_stale_handles_dead_connections_and_random_inodes_pay_for_nothing_twice() -> None:
    with on_share(orders={"random_inodes": True}) as (at, sandbox, there):
        drop(there.backing, "first", seed=1)
        before = {name: fact[:4] for name, fact in fingerprints(there.backing).items()}
        with at.daemon():
            eventually(all_done(at), 30)
            there.order(faults=[{"op": "*", "errno": errno.ESTALE}])
            eventually(is_said(at, "drop: stale: "), 30)
            there.die()  # ENOTCONN
            pause(1)
            subprocess.run(["umount", "-l", at.drop], check=True)
            eventually(is_said(at, "drop: not_mounted: "), 30)  # ENOTCONN is stale still, the bare folder is not
            again = started(there.backing, at.drop)
            there.server = again.server
            again.order(random_inodes=True)
            drop(there.backing, "second", seed=2)
            eventually(all_done(at, 2), 40)
        assert {name: fact[:4] for name, fact in fingerprints(there.backing).items()}.items() >= before.items()
        settled(at, sandbox, sent=2)


@side_by_side
def test_threat_27_a_share_that_is_unmounted_while_it_runs_loses_nothing_and_gets_nothing_beneath() -> None:
    with on_share(processing_s=3.0) as (at, sandbox, there):
        drop(there.backing, "done", seed=1)
        with at.daemon():
            eventually(all_done(at), 30)
            drop(there.backing, "paid", seed=2)
            eventually(lambda: at.states() == ["done", "rendering"], 30)
            subprocess.run(["umount", "-l", at.drop], check=True)
            eventually(is_said(at, "drop: not_mounted: "), 30)
            eventually(lambda: at.states() == ["done", "rendered"], 20)
            pause(2)  # in which a delivery would be tried: its folder is there, and empty
            assert list(at.drop.iterdir()) == []
            assert "cancelled" not in at.states()
            assert len(at.rows("SELECT path FROM files")) == 4
            there.die()
            there.server = started(there.backing, at.drop).server
            eventually(all_done(at, 2), 40)
        assert len(outputs(there.backing)) == 2
        settled(at, sandbox, sent=2)


@side_by_side
def test_threat_09_a_worker_that_hangs_holds_up_neither_other_folders_nor_the_watchdog_nor_the_stop() -> None:
    with on_share() as (at, sandbox, there), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(at.home / "notify"))
        listener.settimeout(20)
        local = beside(at)
        with at.daemon(NOTIFY_SOCKET=str(at.home / "notify"), WATCHDOG_USEC="900000") as process:
            eventually(is_watching(at), 30)
            there.order(faults=[{"op": "read", "name": "stuck.mp4", "hang": True}])
            drop(there.backing, "stuck", seed=1)
            eventually(lambda: "read" in there.order()["hanging"], 20)
            there.order(faults=[HANGS])
            eventually(lambda: there.order()["hanging"], 20)
            drop(local, "free", seed=2)
            beats = 0
            while at.states() != ["done"]:
                beats += b"WATCHDOG=1" in listener.recv(4096)
            assert beats >= 3
            began = time.monotonic()
            stop(process)
            assert time.monotonic() - began < 10
        assert not temps(local)
        assert len(submissions(sandbox)) == 1


@side_by_side
def test_threat_09_an_upload_that_hangs_takes_its_room_from_other_folders_for_a_minute_only() -> None:
    with on_share(api={"uploads": 1}) as (at, sandbox, there):
        local = beside(at)
        with at.daemon() as process:
            eventually(is_watching(at), 30)
            assert at.run("pause").returncode == 0
            drop(there.backing, "stuck", seed=1)
            eventually(lambda: at.states() == ["queued"], 20)
            eventually(lambda: "paused" in at.status()["pairs"][0]["reason"], 20)  # it is probed
            there.order(faults=[{"op": "read", "name": "stuck.mp4", "hang": True}])
            assert at.run("resume").returncode == 0
            eventually(lambda: at.states() == ["submitting"] and there.order()["hanging"], 40)
            there.order(faults=[HANGS])
            drop(local, "free", seed=2)
            eventually(is_said(at, "drop: hung: "), 75)  # a minute without an answer
            eventually(lambda: at.states()[1:] == ["done"], 30)
            there.order(faults=[])
            stop(process)
        assert submissions(sandbox)[0]["video_sha256"] == sha256(local / "free.mp4")
        assert not temps(local)


def test_threat_09_an_open_file_of_a_share_that_hangs_keeps_no_check_of_another_file_from_starting(
    tmp_path: Path,
) -> None:
    """Who starts a program has its files closed first, and FUSE asks the server at each close."""
    point, local = tmp_path / "point", tmp_path / "local.wav"
    point.mkdir()
    make_audio(local, seconds=1)
    with share(point) as there, contextlib.closing(Prober()) as prober:
        (there.backing / "stuck.wav").write_bytes(local.read_bytes())
        with (point / "stuck.wav").open("rb"), local.open("rb") as file:
            there.order(faults=[HANGS, {"op": "flush", "hang": True}])
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(prober.probe, file.fileno())
                try:
                    assert asked.result(20).has_sound
                finally:
                    there.order(faults=[])


# -- names on other systems -----------------------------------------------------------------------------


@side_by_side
def test_threat_33_on_a_server_that_knows_no_case_both_spellings_are_one_pair() -> None:
    with on_share(orders={"folds_case": True}) as (at, sandbox, there):
        drop(at.home, "take")
        (there.backing / "TAKE.Mp4").write_bytes((at.home / "take.mp4").read_bytes())
        (there.backing / "take.WAV").write_bytes((at.home / "take.wav").read_bytes())
        (there.backing / "TAKE.lipsync.mp4").write_bytes(b"a user's, whatever its case")
        with at.daemon():
            eventually(all_done(at), 30)
        assert sorted(path.name for path in outputs(there.backing)) == ["TAKE.lipsync.mp4", "TAKE_v2.lipsync.mp4"]
        assert (there.backing / "TAKE.lipsync.mp4").read_bytes() == b"a user's, whatever its case"
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_33_twins_by_case_or_by_composition_are_never_mixed() -> None:
    with life() as (at, sandbox):
        drop(at.drop, "A", seed=1)
        (at.drop / "a.MP4").write_bytes((at.drop / "A.mp4").read_bytes())
        drop(at.drop, unicodedata.normalize("NFC", "\u00e9clair"), seed=2)
        other = unicodedata.normalize("NFD", "\u00e9clair")
        make_audio(at.drop / f"{other}.wav", seconds=1, seed=3)
        drop(at.drop, unicodedata.normalize("NFD", "No\u00ebl"), seed=4)  # both halves: one pair
        (at.drop / unicodedata.normalize("NFD", "No\u00ebl.wav")).rename(
            at.drop / unicodedata.normalize("NFC", "No\u00ebl.wav")
        )
        with at.daemon():
            eventually(all_done(at), 30)
            eventually(lambda: len(list(at.drop.glob("*.lipsync-attention.txt"))) == 2, 20)
        (sent,) = submissions(sandbox)
        assert sent["video_sha256"] == sha256(at.drop / unicodedata.normalize("NFD", "No\u00ebl.mp4"))
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_34_names_that_windows_cannot_have_get_outputs_and_notes_that_it_can() -> None:
    stems = ["take 1: final?", "dot.", "space ", "CON", 'say "hi" | <b>*']
    with on_share(orders={"refuses_windows_names": True}, folder={"backlog": "take"}) as (at, sandbox, there):
        for seed, stem in enumerate(stems, start=1):
            drop(there.backing, stem, seed=seed)
        drop(there.backing, "no: face", seed=9)
        video = sha256(there.backing / "no: face.mp4")
        audio = sha256(there.backing / "no: face.wav")
        reference = reference_id(video, audio, Options(), 1)
        sandbox.control(
            faults=[{"on": "submit", "kind": "fail", "message": "No face detected", "reference_id": reference}]
        )
        with at.daemon():
            eventually(lambda: sorted(at.states()) == ["done"] * 5 + ["failed"], 40)
            eventually(lambda: list(there.backing.glob("*.lipsync-error.txt")), 10)
        made = [path.name for path in there.backing.iterdir() if ".lipsync" in path.name]
        assert len([name for name in made if name.endswith(".lipsync.mp4")]) == 5
        assert not [name for name in made if set(name) & set('<>:"/\\|?*') or name.endswith((".", " "))]
        assert len(submissions(sandbox)) == 6
