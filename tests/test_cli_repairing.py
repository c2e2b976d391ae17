"""`retry`, `cancel`, `pause`, `resume`, `adopt` on real ledgers and folders, and all of them beside a real daemon."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chamelaion_watch.cli import repairing
from chamelaion_watch.core.model import JobState
from chamelaion_watch.core.policy import FolderPolicy, Policy
from chamelaion_watch.edges import mounts
from chamelaion_watch.edges.ledger.protocol import RootRow
from chamelaion_watch.restore import restore
from chamelaion_watch.sandbox.media import make_audio, make_video
from chamelaion_watch.sandbox.server import Sandbox, SandboxOptions
from chamelaion_watch.service import folder_policy_of
from chamelaion_watch.settings_model import FolderSettings
from tests.support import eventually
from tests.test_cli_looking import AT, ENV, JOB, Place, make_place, place

__all__ = ["place"]

OTHER = "11111111-2222-3333-4444-555555555555"


def wishes(place: Place) -> list[tuple[str, dict[str, str]]]:
    with place.ledger() as ledger:
        return [(row.verb, dict(row.args)) for row in ledger.new_commands()]


# -- wishes -------------------------------------------------------------------------------------------


def test_a_wish_is_noted_and_it_is_said_that_the_daemon_is_down(place: Place) -> None:
    place.add(JOB, replace(JOB, key="b"))
    result = place.run("retry", "2", "1", "2")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "noted; the daemon is not running: it is applied when it runs\n"
    assert wishes(place) == [("retry", {"job": "2"}), ("retry", {"job": "1"})]


def test_retry_failed_and_cancel_have_their_own_wishes(place: Place) -> None:
    place.add(JOB)
    assert place.run("retry", "--failed").exit_code == 0
    told = place.json("cancel", "1")
    assert told["data"]["commands"] == [
        {"id": 2, "verb": "cancel", "args": {"job": "1"}, "applied_at": None, "result": None}
    ]
    assert wishes(place) == [("retry", {"failed": "1"}), ("cancel", {"job": "1"})]


def test_an_unknown_job_is_66_and_nothing_is_noted_for_the_others(place: Place) -> None:
    place.add(JOB)
    assert place.run("retry", "1", "9").exit_code == 66
    assert place.run("cancel", "9").exit_code == 66
    assert wishes(place) == []


@pytest.mark.parametrize(
    "command",
    [
        ("retry",),
        ("retry", "1", "--failed"),
        ("retry", "one"),
        ("cancel",),
        ("pause", "--until", "never"),
        ("pause", "--until", "2001-01-01"),
        ("pause", "--folder", "dorp"),
        ("resume", "--folder", "dorp"),
    ],
)
def test_a_wish_that_makes_no_sense_is_a_usage_error(place: Place, command: tuple[str, ...]) -> None:
    place.add(JOB)
    result = place.run(*command)
    assert result.exit_code == 2
    assert result.stderr
    assert wishes(place) == []


def test_a_pause_carries_folder_end_and_reason(place: Place) -> None:
    place.add(JOB)
    before = time.time_ns() // 1_000_000
    place.run("pause", "--folder", "drop", "--until", "2h", "--reason", "lunch")
    place.run("pause")
    place.run("resume", "--folder", "drop")
    (_, first), *rest = wishes(place)
    assert (first["folder"], first["reason"]) == ("drop", "lunch")
    assert before <= int(first["until"]) - 7_200_000 <= time.time_ns() // 1_000_000
    assert rest == [("pause", {}), ("resume", {"folder": "drop"})]


def test_a_daemon_that_does_not_answer_is_not_waited_for_for_ever(place: Place) -> None:
    place.add(JOB)
    began = time.monotonic()
    with place.daemon():
        result = place.run("resume")
    assert result.exit_code == 0
    assert "has not answered" in result.stderr
    assert repairing.ANSWER_WITHIN_S <= time.monotonic() - began < repairing.ANSWER_WITHIN_S + 2


# -- adopt --------------------------------------------------------------------------------------------


def serve_by_another(place: Place) -> None:
    mounts.claim_root(str(place.drop), OTHER, "edit-2", now=AT)


def sentinel_ledger(place: Place) -> str:
    return str(json.loads((place.drop / ".lipsync-root").read_text())["ledger"])


def know(place: Place, **changes: Any) -> str:
    """Remember the folder as one that this ledger has served; returns the ledger's id."""
    mount = mounts.mount_of(str(place.drop))
    row = RootRow("drop", str(place.drop), AT, mount.source, mount.fstype, has_sentinel=True)
    with place.ledger() as ledger:
        ledger.save_root(replace(row, **changes))
        return ledger.ledger_id


def root_row(place: Place) -> RootRow:
    with place.ledger() as ledger:
        return ledger.roots()["drop"]


def test_threat_07_a_folder_of_another_ledger_is_taken_over_only_when_that_is_confirmed(place: Place) -> None:
    place.add(JOB)
    serve_by_another(place)
    asked = place.run("adopt", str(place.drop))
    assert asked.exit_code == 2
    assert "edit-2" in asked.stderr
    assert sentinel_ledger(place) == OTHER
    taken = place.run("adopt", str(place.drop), "--yes")
    assert taken.exit_code == 0, taken.stderr
    with place.ledger() as ledger:
        assert sentinel_ledger(place) == ledger.ledger_id
    assert place.run("adopt", str(place.drop)).stdout.endswith("is served by this ledger already\n")


def test_pairs_of_a_folder_that_comes_back_are_looked_up_before_they_are_paid_for(place: Place) -> None:
    """The other ledger may have paid for what this one has never seen."""
    know(place)
    serve_by_another(place)
    assert place.run("adopt", str(place.drop), "--yes").exit_code == 0
    policy: FolderPolicy = folder_policy_of(FolderSettings.model_validate({"path": str(place.drop)}))
    with place.ledger() as ledger:
        assert restore(ledger, Policy(), [policy], now=AT).folders["drop"].is_new


def test_a_running_daemon_that_knows_the_folder_has_to_be_stopped_first(place: Place) -> None:
    know(place)
    serve_by_another(place)
    with place.daemon():
        refused = place.run("adopt", str(place.drop), "--yes")
    assert refused.exit_code == 73
    assert f"pid {os.getpid()}" in refused.stderr
    assert sentinel_ledger(place) == OTHER


def test_a_folder_that_was_emptied_on_purpose_is_well_again(place: Place) -> None:
    ledger_id = know(place)
    with place.ledger() as ledger:
        known = mounts.KnownRoot(root_row(place).mount_source or "", root_row(place).mount_type or "", True)
        before = mounts.inspect_root(str(place.drop), ledger_id=ledger.ledger_id, known=known)
    assert before.state == "not_mounted"
    assert place.run("adopt", str(place.drop), "--yes").exit_code == 0
    assert mounts.inspect_root(str(place.drop), ledger_id=ledger_id, known=known).state == "ok"
    assert root_row(place).path == str(place.drop)


def test_a_folder_that_moved_for_good_is_remembered_where_it_is_now(place: Place) -> None:
    know(place, mount_source="nas:/old", mount_type="nfs4")
    taken = place.run("adopt", str(place.drop), "--yes")
    assert taken.exit_code == 0, taken.stderr
    mount = mounts.mount_of(str(place.drop))
    row = root_row(place)
    assert (row.mount_source, row.mount_type, row.path) == (mount.source, mount.fstype, str(place.drop))


def test_only_folders_of_the_configuration_can_be_adopted(place: Place) -> None:
    place.add(JOB)
    result = place.run("adopt", str(place.folder), "--yes")
    assert result.exit_code == 66
    assert str(place.drop) in result.stderr


def test_a_folder_that_is_not_there_is_never_made(place: Place) -> None:
    place.add(JOB)
    place.drop.rmdir()
    assert place.run("adopt", str(place.drop), "--yes").exit_code == 69
    assert not place.drop.exists()


# -- beside a real daemon -----------------------------------------------------------------------------

QUICK = """\
    settle: 200ms
    rescan: 500ms
api:
  requests_per_minute: 6000
  poll: {first: 100ms, max: 200ms}
"""


@contextmanager
def real_daemon(place: Place, env: dict[str, str | None]) -> Iterator[None]:
    whole = {name: value for name, value in (os.environ | ENV | env).items() if value is not None}
    command = [sys.executable, "-m", "chamelaion_watch", "--config", str(place.config), "run"]
    with (place.folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=whole, stdout=log, stderr=log)
    try:
        yield
        process.terminate()
        assert process.wait(15) == 0, (place.folder / "log").read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_running_daemon_is_seen_explained_and_told_what_to_do(tmp_path: Path) -> None:
    place = make_place(tmp_path, QUICK)
    make_video(place.drop / "scene01.mp4", seconds=0.4)
    make_audio(place.drop / "scene01.wav", seconds=0.4)
    make_video(place.drop / "alone.mp4", seconds=0.4, seed=2)
    (place.drop / "small.mp4").write_bytes(b"x" * 10)
    place.add(replace(JOB, key="gone", state=JobState.FAILED, code="no_face", message="No face"))
    place.run("cancel", "1")  # left while the daemon is down, applied when it runs
    with Sandbox(SandboxOptions(speed=20.0, rpm=6000)) as sandbox:
        env: dict[str, str | None] = {"CHAMELAION_API_KEY": sandbox.key, "CHAMELAION_BASE_URL": sandbox.base_url}
        with real_daemon(place, env):
            eventually(lambda: place.json("status")["data"]["jobs"] == {"cancelled": 1, "done": 1}, timeout=20)
            eventually(lambda: len(place.json("status")["data"]["pairs"]) == 2)  # what waits: nothing else is open
            _look(place)
            _repair(place, sandbox)
        stopped = place.json("status")
    assert stopped["data"]["daemon"]["state"] == "stopped"
    assert "not running" in stopped["warnings"][0]
    assert wishes(place) == []


def _look(place: Place) -> None:
    told = place.json("status")["data"]
    assert told["daemon"]["state"] == "running"
    assert [(root["name"], root["state"]) for root in told["roots"]] == [("drop", "ok")]
    assert {pair["name"]: pair["state"] for pair in told["pairs"]} == {"alone.mp4": "waiting", "small.mp4": "waiting"}
    done = place.json("jobs", "--state", "done")["data"]
    assert [(job["id"], job["output"]) for job in done] == [(2, "scene01.lipsync.mp4")]
    assert {"accept", "deliver"} <= {attempt["step"] for attempt in place.json("show", "2")["data"]["attempts"]}
    for name, state, rule in (
        ("scene01.wav", "done", "job"),
        ("alone.mp4", "waiting", "no_audio"),
        ("small.mp4", "arriving", "too_small"),
    ):
        facts = place.json("explain", str(place.drop / name))["data"]
        assert (facts["state"], facts["rule"], facts["is_daemon_up"]) == (state, rule, True)
        assert (facts["next_look_at"] is not None) == (name == "small.mp4")


def pair_of(place: Place, job: int) -> dict[str, Any]:
    return next(pair for pair in place.json("status")["data"]["pairs"] if pair["job"] == job)


def _repair(place: Place, sandbox: Sandbox) -> None:
    assert place.run("pause", "--until", "2h", "--reason", "lunch").stdout.startswith("paused")
    account = place.json("status")["data"]["account"]
    assert (account["state"], account["reason"]) == ("paused", "lunch")
    assert account["until"]
    assert place.run("retry", "2").stdout == "job 2: run again as a new job; its output stays\n"
    eventually(lambda: "lunch" in pair_of(place, 3)["reason"])  # once it is probed
    assert pair_of(place, 3)["state"] == "queued"
    assert "lunch" in place.json("explain", str(place.drop / "scene01.mp4"))["data"]["reason"]
    assert len(sandbox.state()["submissions"]) == 1
    assert place.run("resume").stdout == "resumed\n"
    eventually(lambda: place.json("status")["data"]["jobs"] == {"cancelled": 1, "done": 2}, timeout=20)
    assert len(sandbox.state()["submissions"]) == 2
    assert place.run("pause", "--folder", "drop").stdout == "folder drop is paused\n"
    assert place.json("status")["data"]["roots"][0]["reason"].startswith("paused")
    assert place.run("resume", "--folder", "drop").stdout == "folder drop is resumed\n"


def test_the_sentinel_names_this_host(place: Place) -> None:
    place.add(JOB)
    place.run("adopt", str(place.drop), "--yes")
    assert json.loads((place.drop / ".lipsync-root").read_text())["host"] == socket.gethostname()
