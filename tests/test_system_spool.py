"""The daemon as a real process whose share goes away while its results are paid for, and comes back when the service is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.acceptance.rig import Rig, outputs, submissions
from tests.lives import all_done, drop, is_watching, life, settled, stop
from tests.side_by_side import side_by_side
from tests.support import eventually

SAFE = "the result is safe in the state folder; its folder is missing"
DOWN = [{"on": on, "kind": "reset_early", "count": -1} for on in ("submit", "get", "list", "me", "health", "media")]


def kept(at: Rig) -> list[Path]:
    return sorted((at.home / "state" / "spool").glob("*.mp4"))


def reasons(at: Rig) -> list[str]:
    return [pair["reason"] for pair in at.status()["pairs"]]


def go_away(at: Rig, sandbox: Any) -> None:
    """The share goes when the pair is paid for, and its result is brought home."""
    eventually(lambda: submissions(sandbox), 30)
    at.drop.rename(at.home / "away")
    eventually(lambda: kept(at), 40)
    eventually(lambda: any(reason.startswith(SAFE) for reason in reasons(at)), every=0.2)
    sandbox.control(faults=DOWN)


@side_by_side
def test_threat_26_a_result_is_brought_home_and_delivered_when_its_share_is_back_and_the_service_is_not() -> None:
    with life(processing_s=2.0) as (at, sandbox):
        drop(at.drop)
        with at.daemon():
            go_away(at, sandbox)
            before = len(sandbox.state()["log"])
            (at.home / "away").rename(at.drop)
            eventually(all_done(at), 30)
            eventually(lambda: not kept(at))
            asked = {entry["endpoint"] for entry in sandbox.state()["log"][before:]}
            assert "media" not in asked
        assert [path.name for path in outputs(at.drop)] == ["scene.lipsync.mp4"]
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_26_what_was_brought_home_survives_a_restart() -> None:
    with life(processing_s=2.0) as (at, sandbox):
        drop(at.drop)
        process = at.start()
        eventually(is_watching(at), 20)
        go_away(at, sandbox)
        stop(process)
        assert len(kept(at)) == 1
        (at.home / "away").rename(at.drop)
        with at.daemon():
            eventually(all_done(at), 30)
            eventually(lambda: not kept(at))
        assert [path.name for path in outputs(at.drop)] == ["scene.lipsync.mp4"]
        settled(at, sandbox, sent=1)
