"""The walk: the tool first, with small programs; then the real daemon, struck where it once broke, and in CI at 60 points that a
seed spreads over its life.

All points, hours of them, are walked by `tests/acceptance/syscall_walk.py`; the map is in `tests/walk/__init__.py`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.rig import ROOT
from tests.support import commit_seed
from tests.walk.choice import MOST_CALLS, Recording, every_point, sample
from tests.walk.life import Outcome, has_namespace, live
from tests.walk.points import Kind, Mode, Point
from tests.walk.tracer import Spec, why_not

IS_CI = commit_seed() is not None
AT_ONCE = 6  # they wait more than they compute
PINNED = {
    "eio|link|sentinel|1": "a claim that failed once made the folder count as unmounted until the restart",
    "kill|rename|note|1": "a receipt that was being written when the daemon ended was never written",
    "eio|send|upload|3": "an upload that could not go on waited five minutes for an answer to the half of it",
    "full|write|daemon-lock|1": "a start on a full disk was a traceback",
    "eio|close|daemon-lock|1": "a stop on a broken disk was a traceback",
}
POINTS = 60 if IS_CI else len(PINNED)
QUIET_LIVES = 2 if IS_CI else 1
REPLAY = "PYTHONPATH=. .venv/bin/python tests/acceptance/syscall_walk.py"


@pytest.fixture(scope="module", autouse=True)
def _tracing() -> None:
    if reason := why_not():
        pytest.skip(reason)


# -- the tool -----------------------------------------------------------------------------------------


def traced(folder: Path, program: str, point: str = "") -> tuple[int, dict[str, Any], str]:
    """Run a program in `folder` (its state and drop are there); returns its exit code, the report, what it printed."""
    state, drop = folder / "state", folder / "drop"
    state.mkdir(exist_ok=True)
    drop.mkdir(exist_ok=True)
    spec = Spec(str(folder / "report"), str(state), str(drop), {}, point, has_namespace())
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.walk.tracer",
            json.dumps(asdict(spec)),
            sys.executable,
            "-c",
            program,
            str(folder),
        ],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    report = json.loads((folder / "report").read_text().splitlines()[-1])
    return ran.returncode, report, ran.stdout + ran.stderr


TWO_WRITES = """
import os, sys
fd = os.open(sys.argv[1] + "/state/a", os.O_CREAT | os.O_WRONLY)
for word in (b"one ", b"two "):
    try:
        os.write(fd, word)
    except OSError as error:
        print(error.errno, flush=True)
"""


@pytest.mark.parametrize(
    ("point", "code", "content"),
    [
        ("kill|write|a|1", -signal.SIGKILL, ""),
        ("kill-after|write|a|1", -signal.SIGKILL, "one "),
        ("kill|write|a|2", -signal.SIGKILL, "one "),
        ("kill-after|create|a|1", -signal.SIGKILL, ""),
        ("eio|write|a|1", 0, "two "),
        ("enospc|write|a|2", 0, "one "),
        ("full|write|a|1", 0, ""),
        ("kill|write|a|3", 0, "one two "),
    ],
)
def test_a_strike_hits_one_call_and_nothing_before_or_after_it(
    tmp_path: Path, point: str, code: int, content: str
) -> None:
    _, report, said = traced(tmp_path, TWO_WRITES, point)
    assert report["code"] == code, said
    assert (tmp_path / "state" / "a").read_text() == content
    assert report["is_hit"] == (point != "kill|write|a|3")
    assert said.split() == {"eio": ["5"], "enospc": ["28"], "full": ["28", "28"]}.get(point.partition("|")[0], [])


def test_before_the_call_that_creates_it_a_file_is_not_there(tmp_path: Path) -> None:
    traced(tmp_path, TWO_WRITES, "kill|create|a|1")
    assert not (tmp_path / "state" / "a").exists()


def test_calls_of_all_threads_count_and_those_of_children_do_not(tmp_path: Path) -> None:
    program = """
import os, subprocess, sys, threading
def write(name):
    with open(sys.argv[1] + "/state/" + name, "wb", buffering=0) as file:
        file.write(b"x")
threads = [threading.Thread(target=write, args=("a",)) for _ in range(3)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
subprocess.run([sys.executable, "-c", "open(%r, 'wb', buffering=0).write(b'y')" % (sys.argv[1] + "/state/b")], check=True)
"""
    _, report, said = traced(tmp_path, program)
    assert report["code"] == 0, said
    assert report["order"].count("write|a") == 3
    assert (tmp_path / "state" / "b").read_text() == "y"
    assert not any(text.endswith("|b") for text in report["order"])


GOOD = """
import os, sys
drop = sys.argv[1] + "/drop/"
fd = os.open(drop + ".a.lipsync-part", os.O_CREAT | os.O_WRONLY)
os.write(fd, b"whole")
{flush}
os.rename(drop + ".a.lipsync-part", drop + "a.lipsync.mp4")
folder = os.open(drop, os.O_RDONLY)
{flush_folder}
{more}
"""


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, ""),
        ({"flush": ""}, "an output got its name before it was flushed"),
        ({"flush_folder": ""}, "the folder was not flushed"),
        ({"more": 'open(drop + "b.lipsync.mp4", "wb")'}, "create under an output's name"),
        ({"more": 'os.write(fd, b"more")'}, "write under an output's name"),
        ({"more": 'os.chmod(drop + "a.wav", 0o600)'}, "chmod of a source"),
        ({"more": 'os.rename(drop + "a.wav", drop + "b.wav")'}, "rename of a source"),
    ],
)
def test_what_no_moment_may_show_is_told(tmp_path: Path, changed: dict[str, str], told: str) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "a.wav").write_bytes(b"source")
    lines = {"flush": "os.fsync(fd)", "flush_folder": "os.fsync(folder)", "more": ""} | changed
    _, report, said = traced(tmp_path, GOOD.format(**lines))
    assert report["code"] == 0, said
    assert len(report["broken"]) == bool(told)
    assert told in "".join(report["broken"])


def test_a_path_outside_of_both_folders_is_told(tmp_path: Path) -> None:
    _, report, _ = traced(tmp_path, 'import sys; open(sys.argv[1] + "/elsewhere", "w").write("x")')
    assert report["elsewhere"] == [f"{word} {tmp_path / 'elsewhere'}" for word in ("close", "create", "write")]


def test_a_point_is_written_as_it_is_read() -> None:
    assert str(Point.parsed("kill|fsync|ledger|7")) == "kill|fsync|ledger|7"
    with pytest.raises(ValueError, match="never"):
        Point.parsed("never|fsync|ledger|7")


def test_a_seed_decides_the_sample_and_every_kind_is_in_it_once_before_one_comes_again() -> None:
    recordings = [Recording.of(["write|part"] * 9 + ["fsync|part"] * 3 + ["send|upload"] * extra) for extra in (2, 3)]
    chosen = sample(recordings, 6, seed=7)
    assert chosen == sample(recordings, 6, seed=7) != sample(recordings, 6, seed=8)
    assert {point.kind for point in chosen[:3]} == set(recordings[0].counts)
    assert all(point.nth <= recordings[0].counts[point.kind] for point in chosen)
    walk = list(every_point(recordings))
    assert len(walk) == len(set(walk)) > len(chosen)
    assert Point(Mode.KILL, Kind("send", "upload"), 3) in walk


# -- the daemon ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recordings() -> list[Outcome]:
    with ThreadPoolExecutor(QUIET_LIVES) as pool:
        return list(pool.map(live, [None] * QUIET_LIVES))


def test_quiet_lives_make_a_bounded_number_of_calls(
    recordings: list[Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    assert [outcome.problems for outcome in recordings] == [[]] * QUIET_LIVES
    counts = [len(outcome.order) for outcome in recordings]
    with capsys.disabled():
        print(f"\nthe walk: calls that count in a quiet life: {', '.join(map(str, counts))}")
    assert max(counts) < MOST_CALLS


@pytest.mark.timeout(600)
def test_the_daemon_struck_at_points_all_over_its_life(
    recordings: list[Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    seed = commit_seed() or 0
    pinned = [Point.parsed(text) for text in PINNED]
    chosen = sample([Recording.of(outcome.order) for outcome in recordings], POINTS, seed)
    chosen = [point for point in chosen if point not in pinned][: POINTS - len(pinned)]
    points = [*pinned, *sorted(chosen, key=lambda point: point.mode in {Mode.KILL, Mode.KILL_AFTER})]  # longest first
    with capsys.disabled():
        print(f"\nthe walk, seed {seed}: {', '.join(map(str, points))}")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(live, points))
    failed = [f"{outcome.line()}\nreplay: {REPLAY} '{outcome.point}'" for outcome in outcomes if outcome.problems]
    assert not failed, "\n".join(failed)
    reached = sum(outcome.is_reached for outcome in outcomes)
    assert reached >= 0.9 * len(points), f"only {reached} of {len(points)} points were reached"
