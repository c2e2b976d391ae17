"""What each event means, where it is not the business of one of the other modules."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from chamelaion_watch.core import messages, reactions
from chamelaion_watch.core.errors import (
    InputProblem,
    OutputProblem,
    RootProblem,
    Transient,
    Unauthorized,
    Unreachable,
    WatchError,
)
from chamelaion_watch.core.gate import Gate
from chamelaion_watch.core.messages import (
    AccountProbed,
    Claim,
    Claimed,
    Failed,
    Hash,
    Hashed,
    Hint,
    Probe,
    ProbeAccount,
    Probed,
    ReloadAsked,
    RemoveFiles,
    Scan,
    StopAsked,
    Submit,
)
from chamelaion_watch.core.model import AccountState, JobState, MediaInfo, RootState, Signature
from chamelaion_watch.core.world import World
from tests.builders import AUDIO_INFO, FINE, NOW, SILENT, VIDEO_INFO, job, of, source, sweep, tick, world

S_ = 1_000


def probing() -> tuple[World, Probe]:
    made = world(job())
    made.checked.clear()
    (action,) = of(Probe, tick(made))
    return made, action


def test_every_event_has_its_case() -> None:
    source_text = reactions.apply.__code__.co_names
    assert {event.__name__ for event in get_args(messages.Event)} <= set(source_text)


def test_an_action_that_has_ended_is_no_longer_under_way() -> None:
    made, action = probing()
    assert action in made.running
    reactions.apply(made, Failed(action, Transient("x")))
    assert action not in made.running


# -- the pre-flight -----------------------------------------------------------------------------------


def test_a_pair_that_is_fine_is_sent() -> None:
    made, action = probing()
    assert of(Submit, tick(made, Probed(action, VIDEO_INFO, AUDIO_INFO)))


def test_a_silent_track_stops_it_before_money_is_spent() -> None:
    made, action = probing()
    assert of(Submit, tick(made, Probed(action, VIDEO_INFO, SILENT))) == []
    assert (made.book.jobs[1].state, made.book.jobs[1].code) == (JobState.FAILED, "no_sound")


def test_a_warning_is_said_and_stops_nothing() -> None:
    made, action = probing()
    assert of(Submit, tick(made, Probed(action, MediaInfo(100.0, has_picture=True), AUDIO_INFO)))
    assert any("1:40" in line.text for line in made.said)


def test_what_was_probed_of_other_content_counts_for_nothing() -> None:
    made, action = probing()
    made.change(made.book.jobs[1], audio=source("s1.wav", "new"))
    tick(made, Probed(action, VIDEO_INFO, SILENT))
    assert made.book.of(JobState.QUEUED)
    assert made.checked == set()


def test_a_prober_that_does_not_work_keeps_no_pair_from_the_service() -> None:
    made, action = probing()
    tick(made, Failed(action, Transient("the child died")))
    assert of(Submit, tick(made, at=NOW + 10 * S_))


def test_a_source_that_changed_before_the_probe_goes_through_the_gate_again() -> None:
    made, action = probing()
    tick(made, Failed(action, InputProblem("s1.mp4 changed")))
    assert made.folders["a"].files["s1.mp4"].source is None
    assert of(Submit, tick(made, at=NOW + 20 * S_)) == []


# -- roots --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RootProblem("gone", root_state=RootState.NOT_MOUNTED), RootState.NOT_MOUNTED),
        (WatchError("a bug"), RootState.STALE),
    ],
)
def test_a_scan_that_fails_freezes_its_root_and_says_so_once(error: WatchError, state: RootState) -> None:
    made = world(job())
    for _ in range(3):
        tick(made, Failed(Scan("a", is_sweep=True), error))
    assert made.folders["a"].state is state
    assert sum(line.kind == "root" and line.is_warning for line in made.said) == 1


def test_the_health_of_a_root_is_said_when_it_changes() -> None:
    made = world(job())
    down = sweep(facts=replace(FINE, state=RootState.STALE, reason="nfs"))
    for event in (down, down, sweep(), sweep()):
        made.running.clear()
        tick(made, event)
    assert [line.text for line in made.said if line.kind == "root"] == ["a: stale: nfs", "a: ok again"]


def test_a_claimed_root_is_remembered_as_ours() -> None:
    made = world(job())
    made.folders["a"].facts = replace(FINE, may_claim=True, has_sentinel=False)
    tick(made, Claimed(Claim("a")))
    assert made.folders["a"].facts == FINE
    assert made.is_roots_changed


def test_a_skipped_name_is_said() -> None:
    made = world(job())
    tick(made, replace(sweep(), skipped=(("x.mp4", "a link is never taken"),)))
    assert any(line.text == "a/x.mp4: a link is never taken" for line in made.said)


def test_events_about_a_folder_that_is_not_configured_any_more_are_harmless() -> None:
    made = world(job())
    del made.folders["a"]
    signature = Signature(1, 1)
    for event in (
        Hint("a"),
        sweep(),
        Hashed(Hash("a", "s1.mp4", signature), "0" * 64),
        Failed(Hash("a", "s1.mp4", signature), InputProblem("x")),
        Failed(Scan("a", is_sweep=True), RootProblem("x", root_state=RootState.STALE)),
        Failed(RemoveFiles("a", ("x",), "job:1"), OutputProblem("x", root_state=RootState.FULL)),
        Failed(Probe(job()), InputProblem("x")),
    ):
        tick(made, event)


# -- the account --------------------------------------------------------------------------------------


def test_a_probe_that_succeeds_opens_with_a_canary() -> None:
    made = world(job(), job(2, key="s2"))
    made.gate = Gate(AccountState.UNAUTHORIZED, until_at=NOW)
    (probe,) = of(ProbeAccount, tick(made))
    (canary,) = of(Submit, tick(made, AccountProbed(probe)))
    assert made.gate.canary == canary.job.id
    assert of(Submit, tick(made, at=NOW + 60 * S_)) == []


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Unauthorized("401"), AccountState.UNAUTHORIZED),
        (Unreachable("dns"), AccountState.UNREACHABLE),
        (Transient("500"), AccountState.UNAUTHORIZED),
    ],
)
def test_a_probe_that_fails_is_repeated_later_each_time(error: WatchError, state: AccountState) -> None:
    made = world()
    made.gate = Gate(AccountState.UNAUTHORIZED, until_at=NOW, strikes=2)
    tick(made, Failed(ProbeAccount(asks_me=True), error))
    assert made.gate.state is state
    assert made.gate.until_at > NOW
    assert made.gate.strikes == 3


# -- bugs and ends ------------------------------------------------------------------------------------


def test_a_defect_fails_its_job_and_never_one_that_may_be_paid_for() -> None:
    made, probe = probing()
    tick(made, Failed(probe, WatchError("a defect")))
    assert (made.book.jobs[1].state, made.book.jobs[1].code) == (JobState.FAILED, "internal")
    made = world(job())
    (submit,) = of(Submit, tick(made))
    tick(made, Failed(submit, WatchError("a defect")))
    assert made.book.of(JobState.QUEUED)


def test_stop_and_reload() -> None:
    made = world(job())
    tick(made, ReloadAsked())
    assert made.is_stopping is False
    assert tick(made, StopAsked("SIGTERM")) == []
    assert made.is_stopping is True
