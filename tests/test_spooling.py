"""Results whose folder cannot take them: what is brought home meanwhile, and that nothing is forgotten or kept too long."""

from __future__ import annotations

from dataclasses import replace

from chamelaion_watch.core import delivery, spooling
from chamelaion_watch.core.errors import OutputProblem, Throttled, Transient
from chamelaion_watch.core.folder import Folder
from chamelaion_watch.core.messages import (
    Action,
    Deliver,
    Delivered,
    Failed,
    Hash,
    Poll,
    Probe,
    ResultSpooled,
    RootFacts,
    Scan,
    Spooled,
    SpoolResult,
    Submit,
    Unspool,
    Unspooled,
)
from chamelaion_watch.core.model import Job, JobState, RootState
from chamelaion_watch.core.policy import Policy
from chamelaion_watch.core.world import World
from tests.builders import NOW, accepted, folder_policy, folder_with, job, of, sha, sweep, tick, world

S_ = 1_000
AWAY = RootFacts(RootState.NOT_MOUNTED, "not mounted")
RESULT = Spooled(sha("o"), 70)


def rendered(job_id: int = 1, key: str = "s1") -> Job:
    return job(job_id, key, state=JobState.RENDERED, sent_at=1, request_id=f"r{job_id}", rendered_at=NOW)


def away(*jobs: Job, policy: Policy | None = None) -> World:
    """A world whose folder went away before its results were fetched."""
    made = world(*(jobs or (rendered(),)), policy=policy)
    tick(made, sweep(facts=AWAY))
    return made


def still_away(made: World, after_ms: int = spooling.AWAY_FOR_MS) -> list[Action]:
    return tick(made, sweep(facts=AWAY), at=made.now + after_ms)


def spool(made: World) -> list[Action]:
    (action,) = of(SpoolResult, still_away(made))
    return tick(made, ResultSpooled(action, RESULT))


def test_a_share_that_blinks_is_awaited() -> None:
    made = away()
    assert not of(SpoolResult, still_away(made, spooling.AWAY_FOR_MS - 1))
    assert of(Deliver, tick(made, sweep()))


def test_a_result_of_a_share_that_stays_away_is_brought_home_once_and_delivered_from_there() -> None:
    made = away()
    assert not of(SpoolResult, spool(made))
    assert made.spooled == {rendered().reference_id: RESULT}
    assert not of(SpoolResult, still_away(made))
    (action,) = of(Deliver, tick(made, sweep()))
    assert action.spooled == RESULT
    actions = tick(made, Delivered(action, action.output, RESULT.sha256, RESULT.size))
    assert made.book.jobs[1].state is JobState.DONE
    (unspool,) = of(Unspool, actions)
    assert unspool.references == (rendered().reference_id,)
    tick(made, Unspooled(unspool))
    assert not made.spooled


def test_what_lies_in_the_state_folder_is_delivered_while_the_account_is_closed() -> None:
    made = away()
    spool(made)
    poll = Poll(((9, "r9"),), (9,))
    tick(made, Failed(poll, Throttled("429", retry_after_s=600)))
    assert not made.gate.is_open
    assert of(Deliver, tick(made, sweep()))


def test_nothing_is_fetched_inside_a_pause_of_the_account() -> None:
    made = away()
    tick(made, Failed(Poll(((9, "r9"),), (9,)), Throttled("429", retry_after_s=600)))
    assert not of(SpoolResult, still_away(made))
    assert of(SpoolResult, still_away(made, 600 * S_))


def test_a_folder_that_was_not_looked_at_yet_is_not_away() -> None:
    made = World(Policy(), now=NOW)
    made.folders["a"] = Folder(folder_policy())
    made.book.put(rendered())
    assert not of(SpoolResult, tick(made))


def test_a_full_folder_spools_at_once_and_is_tried_again_without_the_network() -> None:
    made = world(rendered())
    (action,) = of(Deliver, tick(made))
    full = OutputProblem("no space left", root_state=RootState.FULL)
    assert not of(SpoolResult, tick(made, Failed(action, full)))
    actions = tick(made, at=made.now + delivery.OUTPUT_RETRY_MS)
    assert not of(Deliver, actions)
    (spooling_,) = of(SpoolResult, actions)
    (again,) = of(Deliver, tick(made, ResultSpooled(spooling_, RESULT)))
    assert again.spooled == RESULT
    tick(made, Failed(again, full))
    (third,) = of(Deliver, tick(made, at=made.now + delivery.OUTPUT_RETRY_MS))
    assert third.spooled == RESULT


def test_the_cap_holds_one_at_a_time() -> None:
    made = away(rendered(1, "s1"), rendered(2, "s2"), policy=Policy(spool_bytes=100))
    (first,) = of(SpoolResult, still_away(made))
    assert first.room_bytes == 100
    (second,) = of(SpoolResult, tick(made, ResultSpooled(first, RESULT)))
    assert second.room_bytes == 30


def test_without_room_a_result_waits_at_the_service_said_once_and_tried_again() -> None:
    made = away()
    full = OutputProblem("room for 30 bytes", root_state=RootState.FULL, code="spool_full")
    told = []
    for _ in range(2):
        (action,) = of(SpoolResult, still_away(made, spooling.AGAIN_MS))
        made.said.clear()
        assert not of(SpoolResult, tick(made, Failed(action, full)))
        told += [line.text for line in made.said if "waits at the service" in line.text]
    assert len(told) == 1
    assert made.book.jobs[1].state is JobState.RENDERED
    assert spooling.waiting_reason(made, made.book.jobs[1]).startswith("the result is safe at the service; its folder")


def test_no_room_at_all_fetches_nothing() -> None:
    assert not of(SpoolResult, still_away(away(policy=Policy(spool_bytes=0)), spooling.AGAIN_MS))


def test_a_broken_fetch_is_tried_again_later() -> None:
    made = away()
    (action,) = of(SpoolResult, still_away(made))
    assert not of(SpoolResult, tick(made, Failed(action, Transient("cut", code="cut"))))
    assert (made.book.jobs[1].tries, made.book.jobs[1].state) == (1, JobState.RENDERED)
    assert of(SpoolResult, tick(made, at=made.book.jobs[1].next_at))


def test_what_was_lost_or_damaged_in_the_state_folder_is_fetched_again() -> None:
    made = away()
    spool(made)
    (action,) = of(Deliver, tick(made, sweep()))
    (again,) = of(Deliver, tick(made, Failed(action, Transient("gone", code=delivery.SPOOL_LOST))))
    assert again.spooled is None


def test_a_result_that_nobody_wants_any_more_is_not_kept() -> None:
    made = away()
    spool(made)
    made.book.put(replace(made.book.jobs[1], state=JobState.CANCELLED))
    assert of(Unspool, tick(made))


def test_people_are_told_where_the_result_is() -> None:
    made = away()
    spool(made)
    told = spooling.waiting_reason(made, made.book.jobs[1])
    assert told == "the result is safe in the state folder; its folder is not_mounted: not mounted"


def test_a_hung_folder_takes_up_nobody_elses_room() -> None:
    """Threat 26: what a dead share holds may never end."""
    jobs = [replace(rendered(number, f"s{number}"), root="b") for number in (3, 4)]
    uploads = [replace(job(number, f"s{number}"), root="b") for number in (5, 6)]
    mine = [rendered(1, "s1"), job(2, "s2")]
    made = world(*mine, policy=Policy(uploads=2, downloads=2, max_in_flight=2, spool_bytes=0))
    made.folders["b"] = folder_with(*jobs, *uploads, name="b")
    for one in (*jobs, *uploads):
        made.book.put(one)
    made.folders["a"].scanned_unwell(AWAY, NOW)
    made.checked |= {5, 6}
    begun = tick(made)
    assert {action.job.root for action in of(Deliver, begun) + of(Submit, begun)} == {"b"}
    made.running |= dict.fromkeys([Hash("b", f"{n}.mp4", jobs[0].video.signature) for n in range(2)], NOW)
    made.running |= dict.fromkeys([Probe(one) for one in uploads], NOW)
    made.running[Scan("b", is_sweep=True)] = NOW
    tick(made, at=NOW + 61 * S_)
    assert made.folders["b"].state is RootState.HUNG
    actions = tick(made, sweep())
    assert [action.job.id for action in of(Deliver, actions)] == [1]
    assert [action.job.id for action in of(Submit, actions)] == [2]
    assert made.count_running(Hash) == made.count_running(Probe) == 0


def test_an_upload_that_was_given_leave_counts_even_if_its_folder_hangs() -> None:
    made = world(job(1, "s1"), policy=Policy(max_in_flight=1))
    (action,) = of(Submit, tick(made))
    made.folders["a"].hung(NOW)
    assert made.in_flight() == 0
    made.book.put(replace(made.book.jobs[1], finishing_at=NOW))
    assert made.in_flight() == 1
    tick(made, accepted(action))
    assert made.in_flight() == 1
