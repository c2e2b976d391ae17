"""What is started, in which order, and when it is planned again at the latest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chamelaion_watch.core import planner, turns
from chamelaion_watch.core.gate import Gate
from chamelaion_watch.core.messages import (
    Claim,
    Hash,
    LookUp,
    Poll,
    Probe,
    ProbeAccount,
    Scan,
    StopAsked,
    Submit,
    Submitted,
)
from chamelaion_watch.core.model import AccountState, JobState, RootState, Signature
from chamelaion_watch.core.policy import Policy
from chamelaion_watch.core.world import Pause, World
from tests.builders import FINE, NOW, folder_with, job, looked, of, source, sweep, tick, world

S_ = 1_000


def queue(count: int, **policy: Any) -> World:
    jobs = [job(number, key=f"s{number}", state=JobState.QUEUED) for number in range(1, count + 1)]
    return world(*jobs, policy=Policy(**policy))


def submitted_ids(made: World, at: int | None = None) -> list[int]:
    return [action.job.id for action in of(Submit, tick(made, at=at))]


# -- submitting ---------------------------------------------------------------------------------------


def test_one_goes_at_a_time_and_the_next_when_its_slot_comes() -> None:
    made = queue(3)
    assert submitted_ids(made) == [1]
    assert submitted_ids(made, NOW + 999) == []
    made.now = NOW + 1_000
    assert planner.plan(made).wake_at == NOW + 1_015
    assert submitted_ids(made, NOW + 1_020) == [2]


def test_no_more_uploads_at_once_than_allowed() -> None:
    made = queue(5, uploads=2, requests_per_minute=100_000)
    assert [made_id for at in range(5) for made_id in submitted_ids(made, NOW + at * S_)] == [1, 2]


def test_no_more_in_flight_than_allowed_and_one_more_when_one_has_ended() -> None:
    made = queue(4, uploads=4, max_in_flight=2, requests_per_minute=100_000)
    (first, _) = [action for at in range(3) for action in of(Submit, tick(made, at=NOW + at * S_))]
    tick(made, Submitted(first, "r"))
    assert submitted_ids(made, NOW + 9 * S_) == []
    made.change(made.book.jobs[1], state=JobState.DONE)
    assert submitted_ids(made, NOW + 10 * S_) == [3]


def test_the_urgent_go_first_then_the_oldest_and_the_canary_is_the_smallest() -> None:
    made = queue(3)
    made.change(made.book.jobs[2], priority=5)
    assert submitted_ids(made) == [2]
    made = queue(3)
    small = replace(made.book.jobs[3], video=source("s3.mp4", size=2_000))
    made = world(job(1), job(2, key="s2"), small)
    made.gate = Gate(is_half_open=True)
    assert submitted_ids(made) == [3]
    assert made.gate.canary == 3
    assert submitted_ids(made, NOW + 60 * S_) == []


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("pause", "paused by a person: lunch"),
        ("day", "today's limit of 1 jobs is reached"),
        ("gate", "the account is quota_exhausted: 412"),
        ("in_flight", "1 jobs are in flight, the limit is 1"),
        ("folder", "its folder is not in the configuration any more"),
        ("only", "it came after this run had begun"),
        ("unwell", "its folder is stale: nfs"),
        ("full", "its folder is full: no space"),
        ("folder paused", "its folder is paused: holiday"),
        ("unready", "its sources are being checked"),
        ("unprobed", "its sources are being probed"),
        ("unasked", "the service is asked whether it has it already"),
        ("later", "it failed 2 times and is tried again"),
    ],
)
def test_what_holds_a_job_is_said_and_does_hold_it(spoil: str, reason: str) -> None:
    made = queue(1, max_jobs_per_day=1, max_in_flight=1)
    folder, one = made.folders["a"], made.book.jobs[1]
    match spoil:
        case "pause":
            made.pause = Pause("lunch")
        case "day":
            made.accepted_at.append(NOW)
        case "gate":
            made.gate = Gate(AccountState.QUOTA_EXHAUSTED, until_at=NOW + S_, reason="412")
        case "in_flight":
            made.book.put(job(9, key="x", root="b", state=JobState.RENDERING))
        case "folder":
            del made.folders["a"]
        case "only":
            made.only = set()
        case "unwell":
            folder.state, folder.reason = RootState.STALE, "nfs"
        case "full":
            folder.write_trouble, folder.write_again_at = (RootState.FULL, "no space"), NOW + S_
        case "folder paused":
            folder.is_paused, folder.pause_reason = True, "holiday"
        case "unready":
            folder.files["s1.mp4"].source = None
        case "unprobed":
            made.checked.clear()
        case "unasked":
            made.change(one, must_look_up=True)
        case "later":
            made.change(one, next_at=NOW + S_, tries=2)
    assert turns.waiting_reason(made, made.book.jobs[1])[0] == reason
    assert submitted_ids(made) == []


def test_next_in_the_queue_is_a_reason_too() -> None:
    made = queue(1)
    assert turns.waiting_reason(made, made.book.jobs[1]) == ("next in the queue", None)


def test_the_days_limit_counts_what_is_being_sent_and_forgets_yesterday() -> None:
    made = queue(3, max_jobs_per_day=2, uploads=3, requests_per_minute=100_000)
    made.accepted_at.append(NOW - 86_400 * S_ + 5)
    assert [made_id for at in range(4) for made_id in submitted_ids(made, NOW + at)] == [1]
    assert submitted_ids(made, NOW + 5) == [2]


# -- everything else ----------------------------------------------------------------------------------


def test_queued_jobs_are_probed_at_once_two_for_each_child() -> None:
    made = queue(6)
    made.checked.clear()
    assert [action.job.id for action in of(Probe, tick(made))] == [1, 2, 3, 4]
    assert of(Probe, tick(made)) == []


def test_threat_09_a_root_is_scanned_once_at_a_time_and_hung_after_a_minute() -> None:
    made = world()
    made.folders["a"] = folder_with()
    (scan,) = of(Scan, tick(made, at=NOW + 60 * S_))
    assert of(Scan, tick(made, at=NOW + 119 * S_)) == []
    states = [made.folders["a"].state]
    tick(made, at=NOW + 120 * S_)
    states.append(made.folders["a"].state)
    tick(made, replace(sweep(), action=scan), at=NOW + 300 * S_)
    assert [*states, made.folders["a"].state] == [RootState.OK, RootState.HUNG, RootState.OK]


def test_an_unclaimed_root_is_claimed_once() -> None:
    made = world()
    made.folders["a"] = folder_with()
    made.running.clear()
    (claim,) = of(Claim, tick(made, sweep(facts=replace(FINE, may_claim=True))))
    assert claim == Claim("a")
    assert of(Claim, tick(made)) == []


def test_four_files_are_hashed_in_all_and_each_root_has_its_turn() -> None:
    made = world()
    for name in ("a", "b", "c"):
        folder = made.folders[name] = folder_with()
        folder.policy = replace(folder.policy, name=name)
        folder.scanned(sweep(appeared=("s.mp4", "s.wav"), root=name), NOW)
        for _ in range(2):
            seen = [(path, Signature(5_000, 1)) for path in ("s.mp4", "s.wav")]
            folder.scanned(looked(*seen, deep=True, root=name), NOW)
    assert [action.root for action in of(Hash, tick(made))] == ["a", "b", "c", "a"]


def test_a_closed_account_is_probed_and_nothing_else_is_asked() -> None:
    made = world(
        job(state=JobState.RENDERING, request_id="r"), job(2, key="s2", state=JobState.SUBMITTING, doubt_at=NOW)
    )
    made.gate = Gate(AccountState.UNAUTHORIZED, until_at=NOW + 60 * S_)
    actions = tick(made)
    assert not any(isinstance(action, Poll | LookUp | ProbeAccount) for action in actions)
    assert of(ProbeAccount, tick(made, at=NOW + 60 * S_)) == [ProbeAccount(asks_me=True)]
    assert of(ProbeAccount, tick(made, at=NOW + 61 * S_)) == []


def test_pauses_of_people_end_by_themselves() -> None:
    made = queue(1)
    made.pause = Pause("", until_at=NOW + 5 * S_)
    made.folders["a"].is_paused, made.folders["a"].paused_until = True, NOW + 9 * S_
    assert submitted_ids(made, NOW + 5 * S_) == []
    assert submitted_ids(made, NOW + 9 * S_ - 1) == []
    assert submitted_ids(made, NOW + 9 * S_) == [1]


def test_nothing_is_started_while_stopping() -> None:
    made = queue(2)
    assert tick(made, StopAsked("SIGTERM"), at=NOW + 600 * S_) == []


def test_it_wakes_within_a_minute_and_for_whatever_comes_first() -> None:
    made = world(job(state=JobState.RENDERING, request_id="r", next_at=NOW + 7 * S_))
    tick(made)
    assert planner.plan(made).wake_at == NOW + 7 * S_
    assert planner.plan(World(Policy(), now=NOW)).wake_at == NOW + planner.IDLE_MS
