"""`status`, `jobs`, `show` on real ledgers; and what the tests of the other commands share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from chamelaion_watch.cli import cli
from chamelaion_watch.core.model import Attempt, Job, JobState, Options, Signature, Source
from chamelaion_watch.edges.ledger.protocol import EventRow, RootRow
from chamelaion_watch.edges.ledger.sqlite import DaemonLock, SqliteLedger
from tests.support import eventually

AT = 1_795_000_000_000  # 2026-11-18T11:06:40Z
ENV: dict[str, str | None] = dict.fromkeys(
    (
        "CHAMELAION_API_KEY",
        "CHAMELAION_API_KEY_FILE",
        "CHAMELAION_BASE_URL",
        "CHAMELAION_WATCH_CONFIG",
        "CREDENTIALS_DIRECTORY",
    )
)
JOB = Job(
    id=0,
    root="drop",
    key="scene01.de",
    name="scene01.de",
    folder="",
    stem="scene01",
    lang="de",
    video=Source("scene01.mp4", Signature(1000, 1), "a" * 64),
    audio=Source("scene01.de.wav", Signature(500, 1), "b" * 64),
    options=Options(),
    run_no=1,
    reference_id="cw-abcdefghijklmnopqrstuvwxyz",
    state=JobState.QUEUED,
    created_at=AT,
    changed_at=AT,
)


@dataclass(frozen=True)
class Place:
    """A configuration with one folder `drop`, in a temporary folder of its own."""

    folder: Path

    @property
    def drop(self) -> Path:
        return self.folder / "drop"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def run(self, *arguments: str, env: dict[str, str | None] | None = None, stdin: str | None = None) -> Result:
        return CliRunner().invoke(cli, ["--config", str(self.config), *arguments], env=ENV | (env or {}), input=stdin)

    def json(self, *arguments: str, env: dict[str, str | None] | None = None) -> Any:
        result = self.run(*arguments, "--json", env=env)
        return json.loads(result.stdout)

    @contextmanager
    def ledger(self) -> Iterator[SqliteLedger]:
        opened = SqliteLedger(self.state)
        try:
            yield opened
        finally:
            opened.close()

    def add(self, *jobs: Job) -> list[int]:
        with self.ledger() as ledger:
            return [ledger.add_job(job).id for job in jobs]

    def tell(self, body: dict[str, Any], at: int = AT) -> None:
        """Store a snapshot as the daemon does."""
        with self.ledger() as ledger:
            ledger.save_snapshot(at, json.dumps(body))

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """Hold the mark of a running daemon."""
        lock = DaemonLock(self.state)
        lock.take()
        try:
            yield
        finally:
            lock.release()


def make_place(folder: Path, extra: str = "") -> Place:
    place = Place(folder)
    place.drop.mkdir()
    place.config.write_text(f"state: {place.state}\nfolders:\n  - path: {place.drop}\n{extra}", encoding="utf-8")
    return place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def snapshot(**changes: Any) -> dict[str, Any]:
    return {
        "daemon": {"state": "running", "pid": os.getpid(), "since": AT, "version": "0.1.0"},
        "account": {
            "state": "quota_exhausted",
            "reason": "token limit reached",
            "until": AT + 1,
            "in_flight": 1,
            "limit": 8,
        },
        "roots": [
            {"name": "drop", "path": "/drop", "state": "ok", "reason": "", "last_scan_at": AT + 2, "files": 3},
        ],
        "pairs": [
            {
                "root": "drop",
                "name": "scene01.de",
                "lang": "de",
                "state": "submitting",
                "reason": "why",
                "since": AT + 3,
                "job": 1,
                "progress": 42,
            }
        ],
        "more_pairs": 0,
        "files": [],
    } | changes


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("status", "--watch"),
        ("jobs",),
        ("show", "1"),
        ("report",),
        ("retry", "1"),
        ("retry", "--failed"),
        ("cancel", "1"),
        ("pause",),
        ("resume",),
        ("adopt", "drop", "--yes"),
        ("prune", "--older-than", "90d"),
    ],
)
def test_without_a_ledger_a_command_says_so_and_creates_nothing(place: Place, command: tuple[str, ...]) -> None:
    result = place.run(*command)
    assert result.exit_code == 69
    assert "no ledger" in result.stderr
    assert not place.state.exists()
    assert list(place.drop.iterdir()) == []


def test_a_missing_ledger_is_told_to_scripts_as_well(place: Place) -> None:
    envelope = place.json("status")
    assert envelope == {
        "schema_version": 1,
        "command": "status",
        "ok": False,
        "data": None,
        "warnings": envelope["warnings"],
    }
    assert "no ledger" in envelope["warnings"][0]


# -- status -------------------------------------------------------------------------------------------


def test_the_status_of_a_running_daemon_is_what_it_last_told(place: Place) -> None:
    place.add(JOB, replace(JOB, state=JobState.DONE, key="b"))
    place.tell(snapshot())
    with place.daemon():
        envelope = place.json("status")
    assert envelope["warnings"] == []
    assert envelope["data"] == {
        "daemon": {
            "state": "running",
            "pid": os.getpid(),
            "since": "2026-11-18T11:06:40.000+00:00",
            "version": "0.1.0",
        },
        "account": {
            "state": "quota_exhausted",
            "reason": "token limit reached",
            "until": "2026-11-18T11:06:40.001+00:00",
            "in_flight": 1,
            "limit": 8,
        },
        "roots": [
            {
                "name": "drop",
                "path": "/drop",
                "state": "ok",
                "reason": "",
                "last_scan_at": "2026-11-18T11:06:40.002+00:00",
                "files": 3,
            }
        ],
        "jobs": {"queued": 1, "done": 1},
        "pairs": [
            {
                "root": "drop",
                "name": "scene01.de",
                "lang": "de",
                "state": "submitting",
                "reason": "why",
                "since": "2026-11-18T11:06:40.003+00:00",
                "job": 1,
                "progress": 42,
            }
        ],
    }


def test_the_status_says_first_that_the_daemon_is_not_running(place: Place) -> None:
    place.tell(snapshot())
    result = place.run("status")
    assert result.exit_code == 0
    assert result.stdout.startswith("not running; last seen 2026-11-1")
    assert "drop/scene01.de\tsubmitting" in result.stdout
    told = place.json("status")
    assert (told["data"]["daemon"]["state"], told["data"]["daemon"]["pid"]) == ("stopped", None)
    assert "not running" in told["warnings"][0]


def test_what_another_process_told_does_not_pass_for_the_starting_daemons_word(place: Place) -> None:
    place.tell(snapshot(daemon={"state": "running", "pid": os.getpid() + 1, "since": AT, "version": "0.1.0"}))
    with place.daemon():
        assert place.json("status")["data"]["daemon"]["state"] == "starting"


def test_a_ledger_without_any_snapshot_has_a_status(place: Place) -> None:
    place.add(JOB)
    told = place.json("status")["data"]
    assert (told["jobs"], told["pairs"], told["account"]["state"]) == ({"queued": 1}, [], None)
    assert "never seen" in place.run("status").stdout


def test_pairs_beyond_the_list_are_counted(place: Place) -> None:
    place.tell(snapshot(more_pairs=7))
    assert "7 more pairs are open than are listed" in place.json("status")["warnings"]


def test_a_watched_status_is_printed_again_and_ends_in_peace(place: Place) -> None:
    place.tell(snapshot())
    command = [sys.executable, "-m", "chamelaion_watch", "--config", str(place.config), "status", "--watch"]
    out = place.folder / "out"
    with out.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, text=True)
        eventually(lambda: out.read_text().count("quota_exhausted") >= 2, 30)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


# -- jobs ---------------------------------------------------------------------------------------------


def test_jobs_are_filtered_by_state_and_folder(place: Place) -> None:
    done = replace(JOB, key="b", state=JobState.DONE, output="b.lipsync.mp4")
    failed = replace(JOB, key="c", state=JobState.FAILED, code="no_face", message="no face")
    place.add(JOB, done, failed)
    assert [job["id"] for job in place.json("jobs")["data"]] == [1, 2, 3]
    assert [job["id"] for job in place.json("jobs", "--state", "done", "--state", "failed")["data"]] == [2, 3]
    assert [job["id"] for job in place.json("jobs", "--folder", "drop")["data"]] == [1, 2, 3]
    lines = place.run("jobs", "--state", "failed").stdout.splitlines()
    assert lines[1].startswith("3\tfailed\t")
    assert lines[1].endswith("drop/c\tno_face: no face")


def test_no_jobs_are_no_error(place: Place) -> None:
    place.add(JOB)
    result = place.run("jobs", "--state", "done")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no such jobs\n")


def test_an_unknown_folder_or_state_is_a_usage_error(place: Place) -> None:
    place.add(JOB)
    unknown = place.run("jobs", "--folder", "dorp")
    assert unknown.exit_code == 2
    assert "there are: drop" in unknown.stderr
    assert place.run("jobs", "--state", "finished").exit_code == 2


def test_a_folder_that_left_the_configuration_still_has_its_jobs(place: Place) -> None:
    place.add(replace(JOB, root="old"))
    with place.ledger() as ledger:
        ledger.save_root(RootRow("old", "/old", AT))
    assert [job["root"] for job in place.json("jobs", "--folder", "old")["data"]] == ["old"]


def test_threat_38_a_hostile_name_is_one_harmless_line_and_exact_for_scripts(place: Place) -> None:
    key = os.fsdecode(b"a\n\x1b[31m\xff[red]")
    place.add(replace(JOB, key=key))
    (line,) = place.run("jobs").stdout.splitlines()[1:]
    assert "drop/a\\n\\e[31m\\xff[red]" in line
    assert os.fsencode(place.json("jobs")["data"][0]["name"]) == b"a\n\x1b[31m\xff[red]"


# -- show ---------------------------------------------------------------------------------------------


def test_show_tells_a_job_from_its_queueing_to_its_end(place: Place) -> None:
    request = "8da7c57b-ac63-4908-a832-cb0550ba4af5"
    place.add(
        replace(JOB, state=JobState.FAILED, code="no_face", message="No face", request_id=request, http_status=400)
    )
    with place.ledger() as ledger, ledger.transaction():
        ledger.add_attempt(Attempt(1, AT + 1000, "accept", "accepted", f"request {request}"))
        ledger.add_attempt(Attempt(1, AT + 9000, "render", "no_face", "No face", 400))
        ledger.add_event(EventRow(AT + 2000, "job", "drop/scene01.de: rendering", 1, "drop"))
        ledger.add_event(EventRow(AT + 2000, "job", "of another job", 2, "drop"))
    told = place.run("show", "1").stdout
    lines = told.splitlines()
    assert lines[0] == "job 1: failed: drop/scene01.de"
    assert any(line.startswith("what to do: ") for line in lines)
    assert [line.split("\t")[1] for line in lines[-3:]] == ["accept", "job", "render"]
    assert lines[-1].endswith("no_face: No face (HTTP 400)")
    assert "of another job" not in told
    assert request in told
    assert "a" * 64 in told
    facts = place.json("show", "1")["data"]
    assert [attempt["step"] for attempt in facts["attempts"]] == ["accept", "render"]
    assert facts["attempts"][0]["at"] == "2026-11-18T11:06:41.000+00:00"
    assert facts["what_to_do"]
    assert facts["video"] == {"path": "scene01.mp4", "bytes": 1000, "sha256": "a" * 64}


def test_show_tells_what_an_open_job_is_doing_now(place: Place) -> None:
    place.add(replace(JOB, state=JobState.SUBMITTING))
    place.tell(snapshot())
    assert "now: why, 42 %" in place.run("show", "1").stdout
    assert place.json("show", "1")["data"]["progress"] == 42


@pytest.mark.parametrize("number", ["7", "99999999999999999999"])
def test_an_unknown_job_is_66(place: Place, number: str) -> None:
    place.add(JOB)
    result = place.run("show", number)
    assert result.exit_code == 66
    assert "jobs" in result.stderr
    assert place.json("show", number)["ok"] is False


AS_NOBODY = """
import encodings.utf_8_sig, os, sys
from click.testing import CliRunner
from chamelaion_watch.cli import cli, dryrun, explaining, looking, repairing
os.setresuid(65534, 65534, 65534)
for command in (["status"], ["pause"], ["explain", sys.argv[2]]):
    result = CliRunner().invoke(cli, ["--config", sys.argv[1], *command])
    print(command[0], result.exit_code, "may not" if "permission denied" in result.output else result.output)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become nobody")
def test_a_user_who_may_not_see_the_ledger_is_told_so() -> None:
    """`status` as oneself where the daemon is a user of its own is the first thing that people do."""
    with tempfile.TemporaryDirectory() as folder:  # not in pytest's own, which only root may enter
        Path(folder).chmod(0o755)
        place = make_place(Path(folder))
        place.add(JOB)
        place.state.chmod(0o700)
        found = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(place.config), str(place.drop)],
            env={name: value for name, value in os.environ.items() if name not in ENV},
            capture_output=True,
            text=True,
            check=True,
        )
    assert found.stdout.splitlines() == ["status 69 may not", "pause 69 may not", "explain 0 may not"]


def test_looking_needs_no_key_and_leaves_the_ledger_as_it_is(place: Place) -> None:
    place.add(JOB)
    before = (place.state / "ledger.sqlite3").read_bytes()
    for command in (("status",), ("jobs",), ("show", "1"), ("report",)):
        assert place.run(*command).exit_code == 0
    assert (place.state / "ledger.sqlite3").read_bytes() == before
    assert sorted(path.name for path in place.state.iterdir()) == ["ledger.sqlite3"]
