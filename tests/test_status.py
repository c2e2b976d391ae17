"""The snapshot: what `status`, `explain` and the live display are told."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from chamelaion_watch.core.gate import Gate
from chamelaion_watch.core.messages import Submit
from chamelaion_watch.core.model import AccountState, JobState, RootState
from chamelaion_watch.core.world import Pause, World
from chamelaion_watch.status import pause_ms, snapshot
from tests.builders import NOW, folder_with, job, of, sweep, tick, world


def shown(made: World) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(snapshot(made, pid=7, started_at=NOW - 5)))
    return data


def test_daemon_account_and_roots() -> None:
    made = world(job(state=JobState.RENDERING, request_id="r"))
    data = shown(made)
    assert (data["daemon"]["state"], data["daemon"]["pid"], data["daemon"]["since"]) == ("running", 7, NOW - 5)
    assert data["account"] == {"state": "open", "reason": "", "until": None, "in_flight": 1, "limit": 8}
    (root,) = data["roots"]
    assert (root["name"], root["path"], root["state"], root["files"]) == ("a", "/a", "ok", 2)
    made.is_stopping = True
    assert shown(made)["daemon"]["state"] == "stopping"


def test_a_persons_pause_is_shown_before_what_the_service_said() -> None:
    made = world()
    made.gate = Gate(AccountState.QUOTA_EXHAUSTED, until_at=NOW + 5, reason="412")
    assert shown(made)["account"]["state"] == "quota_exhausted"
    made.pause = Pause("lunch", NOW + 9)
    account = shown(made)["account"]
    assert (account["state"], account["reason"], account["until"]) == ("paused", "lunch", NOW + 9)


def test_a_root_that_cannot_be_written_says_so() -> None:
    made = world(job())
    made.folders["a"].write_trouble = (RootState.FULL, "no space")
    (root,) = shown(made)["roots"]
    assert (root["state"], root["reason"]) == ("full", "no space")


def test_threat_64_a_job_that_never_ends_is_shown_as_stuck_and_is_not_sent_again() -> None:
    made = world(job(state=JobState.RENDERING, request_id="r", sent_at=1, accepted_at=NOW - 25 * 3_600_000))
    for hour in range(5):
        assert of(Submit, tick(made, at=NOW + hour * 3_600_000)) == []
    (line,) = shown(made)["pairs"]
    assert line["state"] == "rendering"
    assert "stuck? rendering for 29 h; ask the service about request r" in line["reason"]


def test_every_open_pair_has_a_line_with_a_state_and_a_reason() -> None:
    made = world(
        job(),
        job(2, key="s2", state=JobState.FAILED, code="no_sound", message="silent"),
        job(3, key="s3", state=JobState.DONE),
    )
    made.folders["a"].scanned(sweep(appeared=("s4.mp4", "s5.mp4", "s5.wav")), NOW)
    lines = {line["name"]: (line["state"], line["reason"], line["job"]) for line in shown(made)["pairs"]}
    assert lines["s1"] == ("queued", "next in the queue", 1)
    assert lines["s2"] == ("failed", "no_sound: silent", 2)
    assert lines["s4.mp4"][0] == "waiting"
    assert lines["s5"][0] == "arriving"
    assert "s3" not in lines


def test_progress_is_in_percent() -> None:
    made = world(job(state=JobState.SUBMITTING))
    made.progress[1] = (1, 3)
    (line,) = shown(made)["pairs"]
    assert line["progress"] == 33


def test_held_pairs_and_what_to_type() -> None:
    made = world()
    made.folders["a"] = folder_with(job())
    made.folders["a"].held = {"s1"}
    data = shown(made)
    assert data["pairs"][0]["state"] == "held"
    assert "resume --folder a" in data["roots"][0]["reason"]


def test_a_job_whose_pair_is_gone_is_still_shown() -> None:
    made = world(job(state=JobState.RENDERING, request_id="r"))
    made.folders["a"] = folder_with()
    assert [line["job"] for line in shown(made)["pairs"]] == [1]


def test_threat_38_39_names_that_are_no_text_are_escaped() -> None:
    bad = os.fsdecode(b"caf\xe9\x1b[31m")
    made = world(job(key=bad, name=bad))
    text = json.dumps(snapshot(made, pid=7, started_at=NOW), ensure_ascii=False)
    text.encode("utf-8")
    assert "\x1b" not in text


def test_files_that_are_not_complete_say_which_rule_holds_them() -> None:
    made = world()
    made.folders["a"] = folder_with()
    made.folders["a"].scanned(sweep(appeared=("s.mp4",)), NOW)
    (file,) = shown(made)["files"]
    assert (file["path"], file["state"], file["rule"]) == ("s.mp4", "arriving", "unseen")


@pytest.mark.parametrize(
    ("changes", "gate", "told"),
    [
        ({}, Gate(), "next to be fetched"),
        ({"next_at": NOW + 9_000, "tries": 2}, Gate(), "fetching it failed 2 times and is tried again"),
        ({"doubt_at": NOW}, Gate(), "the service did not know the request: it is asked again"),
        ({}, Gate(AccountState.RATE_LIMITED, until_at=NOW + 5, reason="429"), "the account is rate_limited: 429"),
    ],
)
def test_a_result_that_waits_says_what_for(changes: dict[str, Any], gate: Gate, told: str) -> None:
    made = world(job(state=JobState.RENDERED, request_id="r", **changes))
    made.gate = gate
    assert told in shown(made)["pairs"][0]["reason"]


@pytest.mark.parametrize(
    ("took_ms", "pause"), [(0, 1_000), (50, 1_000), (100, 2_000), (86_400_000, 5_000), (-9, 1_000)]
)
def test_a_snapshot_that_takes_long_is_taken_more_seldom_but_every_few_seconds(took_ms: int, pause: int) -> None:
    assert pause_ms(took_ms) == pause
