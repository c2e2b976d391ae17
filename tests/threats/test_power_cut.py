"""Rows of threats.md about power cuts: the real daemon on a disk that forgets what was not flushed; see `durable`."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chamelaion_watch.sandbox.media import describe
from tests.acceptance.rig import Rig, outputs, submissions
from tests.lives import all_done, drop, is_watching, life, settled
from tests.side_by_side import side_by_side
from tests.support import eventually
from tests.threats.share import LOCAL, PART, Share, share, started, why_not


@side_by_side
def test_threat_13_after_a_power_cut_the_ledger_knows_of_every_submission() -> None:
    """Four cuts: with the answer outstanding, right after it, while it renders, and when all is done."""
    with life(processing_s=8.0) as (at, sandbox), tempfile.TemporaryDirectory() as rest:
        slow = {"on": "media", "kind": "slow", "bytes_per_s": 10_000}  # so that `rendered` lasts
        sandbox.control(faults=[{"on": "submit", "kind": "stall", "create": True, "seconds": 60}, slow])
        drop(at.drop)
        moments: list[Callable[[], object]] = [
            lambda: submissions(sandbox),
            lambda: at.states() == ["rendering"],
            lambda: at.states() == ["rendered"],
            all_done(at),
        ]
        disk = Path(rest) / "disk0"
        disk.mkdir()
        for number, moment in enumerate(moments, start=1):
            with powered(at, disk) as there:
                process = at.start()
                eventually(moment, 40, every=0.002)
                disk = cut(there, process, Path(rest) / f"disk{number}")
            assert len(submissions(sandbox)) == 1
        assert len(outputs(at.drop)) == 1
        shutil.copytree(disk, at.home / "state", dirs_exist_ok=True)
        settled(at, sandbox, sent=1)


@contextlib.contextmanager
def powered(at: Rig, disk: Path) -> Iterator[Share]:
    """The state folder on a disk that forgets what was not flushed."""
    if reason := why_not():
        pytest.skip(reason)
    (at.home / "state").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as store:
        there = started(disk, at.home / "state", LOCAL, Path(store))
        try:
            yield there
        finally:
            there.die()
            subprocess.run(["umount", "-l", at.home / "state"], check=True)


def cut(there: Share, process: subprocess.Popen[bytes], rest: Path) -> Path:
    """Kill the daemon and cut the power: what is left of the disk lies in `rest`."""
    process.send_signal(signal.SIGKILL)
    there.order(cut_power=str(rest))
    there.order(faults=[])
    process.wait()
    return rest


@pytest.mark.parametrize("name", ["fsync", "rename2", "fsyncdir"])
def test_threat_22_after_a_power_cut_an_output_is_complete_or_absent_and_then_fetched_again(name: str) -> None:
    """The power goes while the daemon waits for that very call; the ledger's disk keeps everything."""
    with life() as (at, sandbox), tempfile.TemporaryDirectory() as store, tempfile.TemporaryDirectory() as rest:
        drop(at.home)
        with share(at.drop, fstype=LOCAL, store=Path(store)) as there:
            process = at.start()
            eventually(is_watching(at), 20)
            for file in ("scene.mp4", "scene.wav"):
                shutil.copy(at.home / file, there.backing)
            eventually(lambda: at.states() == ["rendering"], 30, every=0.005)
            hanging = {"op": name, "hang": True} | ({} if name == "fsyncdir" else {"name": PART})
            there.order(faults=[hanging])
            eventually(lambda: name in there.order()["hanging"], 20)
            assert at.states() == ["rendered"]  # not announced
            left = cut(there, process, Path(rest))
        assert all(describe(path).has_video for path in outputs(left))
        assert outputs(left) == []  # the strictest disk: no name before its folder was flushed
        for each in left.iterdir():
            shutil.copy(each, at.drop)
        for file in ("scene.mp4", "scene.wav"):
            shutil.copy(at.home / file, at.drop)
        known(at)
        with at.daemon():
            eventually(all_done(at), 40)
        assert describe(outputs(at.drop)[0]).has_audio
        settled(at, sandbox, sent=1)


def known(at: Rig) -> None:
    """The folder lies on another disk now, as after a repair."""
    assert at.run("adopt", "--yes", str(at.drop)).returncode == 0
