"""When the service is asked how the paid jobs are."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from chamelaion_watch.core import polling
from chamelaion_watch.core.lifecycle import Step
from chamelaion_watch.core.messages import Poll, Polled, Probe, Probed, Submit
from chamelaion_watch.core.model import Job, JobState, Request
from chamelaion_watch.core.planner import plan
from chamelaion_watch.core.polling import LIST_FROM
from chamelaion_watch.core.world import World
from tests.builders import AUDIO_INFO, NOW, VIDEO_INFO, accepted, job, of, tick, world

S_ = 1_000
FIRST_MS = 10_000


def rendering(count: int, *, first: int = 1, at: int = NOW, **changes: object) -> list[Job]:
    """Jobs that were accepted now, their first looks due by the settings."""
    return [
        replace(
            job(number, key=f"s{number}", state=JobState.RENDERING, request_id=f"r{number}"),
            **({"accepted_at": at, "next_at": at + FIRST_MS} | changes),  # type: ignore[arg-type]
        )
        for number in range(first, first + count)
    ]


def answer(made: World, poll: Poll, status: str = "processing", *, calls: int = 1, took_ms: int | None = None) -> None:
    answers = {job_id: Request(request_id, status, took_ms=took_ms) for job_id, request_id in poll.requests}
    tick(made, Polled(poll, answers, calls=calls))


def learn(made: World, apart_ms: int, calls: int = 1) -> None:
    """Jobs have been finishing so far apart, and each round took so many calls."""
    for number in range(10, -1, -1):
        made.pace.asked(made.now - number * 10 * S_, 10 * S_ // apart_ms, calls)


def next_poll(made: World) -> Poll:
    """Let time pass until the service is asked."""
    for _ in range(1_000):
        if found := of(Poll, tick(made)):
            poll: Poll = found[0]
            return poll
        made.now = plan(made).wake_at
    raise AssertionError("nobody asks")


# -- a few --------------------------------------------------------------------------------------------


def test_a_few_are_asked_for_one_by_one_when_their_time_has_come() -> None:
    early, later = rendering(1), rendering(1, first=2, at=NOW + 5 * S_)
    made = world(*early, *later)
    poll = next_poll(made)
    assert made.now == NOW + FIRST_MS
    assert (poll.requests, poll.singly) == (((1, "r1"),), (1,))


def test_what_is_due_soon_rides_in_the_same_round() -> None:
    made = world(*rendering(1), *rendering(1, first=2, at=NOW + S_))
    assert next_poll(made).singly == (1, 2)


# -- many ---------------------------------------------------------------------------------------------


def test_a_round_of_the_list_asks_for_all_and_singly_for_those_who_are_due() -> None:
    made = world(*rendering(LIST_FROM), *rendering(2, first=10, at=NOW + 8 * S_))
    poll = next_poll(made)
    assert made.now == NOW + FIRST_MS
    assert [job_id for job_id, _ in poll.requests] == [1, 2, 3, 4, 10, 11]
    assert poll.singly == (1, 2, 3, 4)


def test_as_long_as_nothing_is_known_of_its_pace_the_list_is_read_ever_more_seldom_up_to_poll_first() -> None:
    made = world(*rendering(8, next_at=NOW + S_))
    times = []
    for _ in range(7):
        answer(made, next_poll(made))
        times.append((made.now - NOW) // S_)
    assert times == [1, 3, 7, 15, 25, 35, 45]


@pytest.mark.parametrize(
    ("apart_ms", "calls", "every_ms"),
    [
        (125, 8, 5_000),  # a fifth of a call for each that finishes
        (50, 2, 1_000),  # never more often
        (5_000, 1, FIRST_MS),  # nor less often than the settings say
    ],
)
def test_rounds_are_as_far_apart_as_they_cost(apart_ms: int, calls: int, every_ms: int) -> None:
    made = world(*rendering(20, tries=1))
    answer(made, next_poll(made))
    learn(made, apart_ms, calls)
    before = made.now
    next_poll(made)
    assert made.now - before == pytest.approx(every_ms, rel=0.01)


def test_the_list_is_read_more_often_while_others_wait_for_a_place() -> None:
    made = world(*rendering(8, tries=1), *[job(number, key=f"w{number}") for number in range(20, 23)])
    answer(made, next_poll(made))
    learn(made, 5_000)
    before = made.now
    next_poll(made)
    assert made.now - before == FIRST_MS // polling.AWAITED


def test_between_two_rounds_a_tick_looks_at_none_of_hundreds_of_jobs() -> None:
    made = world(*rendering(8, tries=1))
    answer(made, next_poll(made))
    made.book.jobs.clear()  # whoever looks at one of them fails
    assert polling.to_ask(made) == (None, made.pace.listed_at + polling.FIRST_GUESS_MS * 2)


def test_nobody_is_asked_for_before_the_first_look_at_anyone_is_due() -> None:
    made = world(*rendering(8))
    learn(made, 125)
    made.book.put(replace(made.book.jobs[3], next_at=NOW + 54 * S_))
    next_poll(made)
    assert made.now == NOW + FIRST_MS


def test_jobs_that_render_for_days_are_asked_for_at_their_own_times_only() -> None:
    made = world(*rendering(8, tries=20, accepted_at=NOW - 2 * polling.OLD_MS))
    times = []
    for _ in range(3):
        answer(made, next_poll(made))
        times.append(made.now)
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [polling.OLD_POLL_MS] * 2


def test_an_answer_that_changes_nothing_writes_nothing_before_its_own_time() -> None:
    """A row of the ledger for each of 500 jobs in each round of a few seconds was most of the daemon's work."""
    made = world(*rendering(LIST_FROM), *rendering(50, first=10, at=NOW + 8 * S_, request_status="processing"))
    poll = next_poll(made)
    made.changed.clear()
    answer(made, poll)
    assert set(made.changed) == {1, 2, 3, 4}


def test_who_the_list_did_not_show_and_was_not_due_is_left_as_it_is() -> None:
    made = world(*rendering(LIST_FROM), *rendering(1, first=10, at=NOW + 8 * S_))
    poll = next_poll(made)
    tick(made, Polled(poll, {}))
    assert [made.book.jobs[number].tries for number in (1, 2, 3, 4, 10)] == [1, 1, 1, 1, 0]


# -- learning -----------------------------------------------------------------------------------------


def test_a_first_look_is_placed_by_what_the_service_took_for_the_length_of_the_video() -> None:
    made = world(*rendering(3))
    for number in (1, 2, 3):
        made.video_ms[number] = 10 * S_
    answer(made, next_poll(made), "completed", took_ms=60 * S_)
    made.running.clear()
    waiting = replace(job(9, key="s9", state=JobState.SUBMITTING), sent_at=NOW)
    made.book.put(waiting)
    made.video_ms[9] = 20 * S_
    tick(made, accepted(Submit(waiting, NOW)))
    assert made.book.jobs[9].next_at == made.now + 108 * S_


def test_without_the_services_times_our_own_are_learned() -> None:
    made = world(*rendering(3))
    answer(made, next_poll(made), "completed")
    assert made.pace.first_look_ms(None) == 0.9 * FIRST_MS


def test_the_length_of_a_video_is_kept_until_its_job_is_over() -> None:
    made = world(job(1))
    made.checked.clear()
    made.book.put(job(1))
    (probe,) = of(Probe, tick(made))
    tick(made, Probed(probe, VIDEO_INFO, AUDIO_INFO))
    assert made.video_ms == {1: round((VIDEO_INFO.duration_s or 0) * 1000)}
    made.step(made.book.jobs[1], Step.CANCEL)
    assert made.video_ms == {}
