"""Rows of threats.md about clocks, the configuration and the machine the daemon runs on."""

from __future__ import annotations

import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from chamelaion_watch.core.errors import Unreachable
from chamelaion_watch.edges.clock import SystemClock
from chamelaion_watch.edges.ledger.sqlite import FILE
from tests.acceptance.early_refusal import Origin, api_for, make_certificate, take_everything
from tests.acceptance.rig import KEY, ROOT, Rig, submissions
from tests.lives import all_done, drop, is_watching, life, settled, stop
from tests.side_by_side import side_by_side
from tests.support import eventually

DAY_MS = 86_400_000

# -- the wall clock ---------------------------------------------------------------------------------------


@side_by_side
def test_threat_78_a_wall_clock_that_was_set_by_years_makes_no_burst_and_no_endless_wait() -> None:
    """What a ledger says is moved by so many days while the daemon is down: to it, its clock was set."""
    with life(processing_s=6.0) as (at, sandbox):
        drop(at.drop)
        for days in (20_000, -20_400):  # 20,000 days: the machine boots with 1970
            process = at.start()
            eventually(is_watching(at, at.log().count("watching ") + 1), 30)
            eventually(lambda: at.states() == ["rendering"], 30)
            process.send_signal(signal.SIGKILL)
            process.wait()
            move_all_times(at, days)
        rendered_by = time.monotonic() + 7  # a job that seems to be a year old is asked for each 5 min only
        eventually(lambda: time.monotonic() > rendered_by, 20)
        asked = len(sandbox.state()["log"])
        with at.daemon() as process:
            eventually(all_done(at), 30)
            stop(process)
        assert len(sandbox.state()["log"]) - asked < 40  # polls each 300 ms, and the download
        settled(at, sandbox, sent=1)


def move_all_times(at: Rig, days: int) -> None:
    with closing(sqlite3.connect(at.home / "state" / FILE)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for _, column, *_ in db.execute(f"PRAGMA table_info({table})").fetchall():
                if re.search(r"(^|_)(at|until)$", column):
                    db.execute(f"UPDATE {table} SET {column} = {column} + {days * DAY_MS} WHERE {column} IS NOT NULL")
        db.commit()


def test_threat_78_deadlines_are_kept_by_a_clock_that_nobody_sets() -> None:
    """In a process whose wall clock says another year with each question."""
    code = (
        "import sys, time, itertools; sys.path.insert(0, sys.argv[1])\n"
        "years = itertools.cycle((0, 400, -400))\n"
        "real = time.time_ns\n"
        "time.time_ns = lambda: real() + next(years) * 86_400 * 10**9\n"
        "from chamelaion_watch.edges.clock import SystemClock, monotonic_s\n"
        "clock, began = SystemClock(), monotonic_s()\n"
        "first = clock.now()\n"
        "while monotonic_s() - began < 0.3: last = clock.now()\n"
        "print(last - first)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=True)
    assert 250 <= int(done.stdout) <= 2_000
    assert SystemClock().now() > 1_700_000_000_000


def test_threat_78_a_certificate_that_is_not_valid_yet_points_at_the_clock(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    certificate = make_certificate(tmp_path / "early", start="20900101000000Z")
    with Origin(take_everything, certificate) as origin, pytest.raises(Unreachable, match="clock"):
        api_for(origin.url, certificate).health()


@side_by_side
def test_threat_78_a_change_to_summer_time_changes_nothing() -> None:
    with life(processing_s=2.0) as (at, sandbox):
        drop(at.drop)
        process = at.start(TZ="Etc/GMT+12")
        eventually(lambda: at.states() == ["rendering"], 30)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with at.daemon(TZ="Etc/GMT-14"):
            eventually(all_done(at), 30)
        settled(at, sandbox, sent=1)


# -- the configuration --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("folders: [", "config.yaml:"),
        ("folders:\n- path: /x\n  path: /y\n", "config.yaml:3"),
        ("folders:\n- path: /x\n  setle: 10s\n", "config.yaml:3"),
        ("folders:\n- path: /x\n  settle: [1, 2]\n", "config.yaml:3"),
        ("folders:\n\t- path: /x\n", "config.yaml:2"),
        ("api: !!python/object/apply:os.system ['touch owned']\n", "config.yaml:1"),
        (
            "a: &a [x, x, x]\n"
            + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
            "config.yaml:",
        ),
    ],
    ids=["broken", "duplicate key", "unknown key", "wrong type", "tab", "object", "aliases"],
)
def test_threat_79_a_bad_configuration_is_one_clear_line_with_its_place(text: str, words: str) -> None:
    with life() as (at, sandbox):
        at.config.write_text(text)
        done = at.run("run", timeout=20)
        assert done.returncode == 78
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert not (at.home / "owned").exists()
        assert not (ROOT / "owned").exists()
        assert not (at.home / "state").exists()
        assert not sandbox.state()["log"]


def test_threat_79_a_configuration_of_a_gigabyte_is_not_read() -> None:
    with life() as (at, _):
        with at.config.open("ab") as file:
            file.truncate(2**30)
        done = at.run("run", timeout=20)
        assert done.returncode == 78
        assert "config.yaml" in done.stderr


@side_by_side
def test_threat_80_results_beside_their_sources_are_never_taken_as_sources() -> None:
    with life() as (at, sandbox):
        drop(at.drop, "scene.de", seed=1)
        (at.drop / "scene.de.mp4").rename(at.drop / "scene.mp4")
        with at.daemon():
            eventually(all_done(at), 30)
            for other in ("scene.de.lipsync.wav", "scene.lipsync.wav"):
                shutil.copy(at.drop / "scene.de.wav", at.drop / other)
            shutil.copy(at.drop / "scene.de.lipsync.mp4", at.drop / "scene_v2.lipsync.mp4")
            drop(at.drop, "after", seed=2)
            eventually(all_done(at, 2), 30)  # so many scans later
            eventually(lambda: at.status()["pairs"] == [], 20)  # told once a second
        assert len(submissions(sandbox)) == 2


@pytest.mark.parametrize(
    "folders",
    [
        [{"path": "/"}],
        [{"path": "relative"}],
        [{"path": "{home}/drop"}, {"path": "{home}/drop"}],
        [{"path": "{home}/drop"}, {"path": "{home}/drop/inner"}],
        [{"path": "{home}/drop", "output": "{{name}}.mp4"}],
        [{"path": "{home}/drop", "output": "../more/{{dir}}/{{name}}.mp4"}, {"path": "{home}/more"}],
    ],
    ids=["the root", "relative", "twice", "nested", "taken as input", "in another folder"],
)
def test_threat_80_folders_that_cannot_go_well_are_refused_at_the_start(folders: list[dict[str, str]]) -> None:
    with life() as (at, sandbox):
        (at.drop / "inner").mkdir()
        (at.home / "more").mkdir()
        config: dict[str, Any] = yaml.safe_load(at.config.read_text())
        config["folders"] = [
            {key: value.format(home=at.home) for key, value in folder.items()} | {"name": f"f{number}"}
            for number, folder in enumerate(folders)
        ]
        at.config.write_text(yaml.safe_dump(config))
        done = at.run("run", timeout=20)
        assert done.returncode == 78, done.stderr
        assert "folders." in done.stderr
        assert not (at.home / "state").exists()
        assert not sandbox.state()["log"]


# -- the key -------------------------------------------------------------------------------------------------


@side_by_side
def test_threat_81_a_key_file_that_everybody_reads_and_that_ends_in_lines_is_warned_of_and_trimmed() -> None:
    with life() as (at, sandbox):
        key_file = at.home / "key"
        key_file.write_text(f"\n{KEY}\r\n\n")
        key_file.chmod(0o644)
        config = yaml.safe_load(at.config.read_text())
        config["api"]["key_file"] = str(key_file)
        at.config.write_text(yaml.safe_dump(config))
        drop(at.drop)
        with at.daemon("-v", CHAMELAION_API_KEY=None) as process:
            eventually(all_done(at), 30)
            assert KEY.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert "644" in at.log() or "others" in at.log()
        everything = [path.read_bytes() for path in at.home.rglob("*") if path.is_file() and path != key_file]
        assert not [content for content in everything if KEY.encode() in content]
        settled(at, sandbox, sent=1)


def test_threat_81_no_option_takes_the_key() -> None:
    """What is in argv, everybody on the machine can read."""
    done = subprocess.run(
        [sys.executable, "-m", "chamelaion_watch", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert "--key" not in done.stdout


@side_by_side
def test_threat_84_nothing_listens_so_there_is_no_page_to_attack_yet() -> None:
    with life() as (at, _), at.daemon() as process:
        eventually(is_watching(at), 20)
        sockets = {str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir() if link.is_symlink()}
        tables = "".join(Path(f"/proc/{process.pid}/net/{name}").read_text() for name in ("tcp", "tcp6"))
        fields = [line.split() for line in tables.splitlines()]
        listening = {f"socket:[{field[9]}]" for field in fields if len(field) > 9 and field[3] == "0A"}
        assert listening  # the sandbox's own
        assert not listening & sockets
        stop(process)


# -- what it is made of ----------------------------------------------------------------------------------------

# The first versions without the holes that were public when this was written (GitHub advisories).
MENDED = {
    "python-multipart": "0.0.18",  # CVE-2024-53981
    "starlette": "0.40.0",  # CVE-2024-47874
    "pyyaml": "5.4",  # CVE-2020-14343
    "h11": "0.16.0",  # CVE-2025-43859
    "idna": "3.7",  # CVE-2024-3651
}


@pytest.mark.parametrize("name", MENDED)
def test_threat_85_no_dependency_is_older_than_its_known_holes(name: str) -> None:
    assert numbers(version(name)) >= numbers(MENDED[name])


def test_threat_85_every_dependency_has_a_lower_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"]:
        assert re.search(r">=\d", requirement), requirement
    for name, floor in MENDED.items():
        for requirement in project["dependencies"]:
            if re.match(rf"{name}\b", requirement):
                lowest = re.search(r">=([\d.]+)", requirement)
                assert lowest
                assert numbers(lowest[1]) >= numbers(floor)


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in (*re.findall(r"\d+", text), 0, 0)[:3])
