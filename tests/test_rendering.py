"""What polls mean for a job that is paid for."""

from __future__ import annotations

from typing import Any

import pytest

from chamelaion_watch.core import rendering
from chamelaion_watch.core.errors import Throttled, Transient
from chamelaion_watch.core.messages import Deliver, LookedUp, LookUp, Poll, Polled
from chamelaion_watch.core.model import AccountState, Job, JobState, Request
from chamelaion_watch.core.polling import OLD_MS
from chamelaion_watch.core.world import World
from tests.builders import NOW, job, of, tick, world

S_ = 1_000


def polling(**changes: Any) -> tuple[World, Poll]:
    made = world(
        job(state=JobState.RENDERING, sent_at=1, request_id="r", accepted_at=NOW - 10 * S_, next_at=NOW, **changes)
    )
    (action,) = of(Poll, tick(made))
    assert action.requests == ((1, "r"),)
    return made, action


def answered(request: Request | None, **changes: Any) -> tuple[World, Job]:
    made, action = polling(**changes)
    tick(made, Polled(action, {1: request}))
    return made, made.book.jobs[1]


def test_completed_it_is_fetched_at_once() -> None:
    made, now = answered(Request("r", "completed", output_url="https://secret"))
    assert (now.state, now.rendered_at) == (JobState.RENDERED, NOW)
    assert made.is_running(Deliver, 1)
    assert "secret" not in repr(made)


def test_failed_it_fails_with_the_services_words() -> None:
    _, now = answered(Request("r", "failed", error_message="no face detected"))
    assert (now.state, now.code, now.message) == (JobState.FAILED, "no_face", "no face detected")


@pytest.mark.parametrize("status", ["queued", "processing", "", "upscaling"])
def test_threat_61_any_other_word_means_in_progress_and_the_next_question_waits_longer(status: str) -> None:
    made, now = answered(Request("r", status))
    assert (now.state, now.request_status, now.tries, now.next_at) == (JobState.RENDERING, status, 1, NOW + 10 * S_)
    for tries, wait in ((1, 20), (2, 30), (3, 30)):
        (again,) = of(Poll, tick(made, at=made.book.jobs[1].next_at))
        tick(made, Polled(again, {1: Request("r", status)}))
        now = made.book.jobs[1]
        assert (now.tries, now.next_at) == (tries + 1, made.now + wait * S_)
        made.running.clear()


def test_threat_66_another_pairs_request_is_no_answer_and_ours_is_looked_up_by_its_reference() -> None:
    """The service gave out the id of another pair: its video would have got this pair's name."""
    made, now = answered(Request("r", "completed", "cw-of-another-pair", output_url="https://secret"))
    assert (now.state, now.doubt_at) == (JobState.RENDERING, NOW)
    (look_up,) = of(LookUp, tick(made, at=now.next_at))
    tick(made, LookedUp(look_up, Request("ours", "processing", now.reference_id)))
    assert (made.book.jobs[1].request_id, made.book.jobs[1].doubt_at) == ("ours", None)


def test_threat_62_going_back_is_said_and_changes_nothing() -> None:
    made, now = answered(Request("r", "queued"), request_status="processing")
    assert (now.state, now.request_status) == (JobState.RENDERING, "queued")
    assert [line.text for line in made.said if line.kind == "odd"] == ["job 1: went back from processing to queued"]


def test_threat_68_one_answer_that_cannot_be_read_keeps_no_other_waiting() -> None:
    """The round ends at it; as it always came first, nobody behind it was ever asked for."""
    made = world(
        *(
            job(number, key=f"s{number}", state=JobState.RENDERING, request_id=f"r{number}", next_at=NOW)
            for number in (1, 2)
        )
    )
    first_asked = []
    for _ in range(2):
        (action,) = of(Poll, tick(made, at=made.now + 60 * S_))
        first_asked.append(action.requests[0][1])
        tick(made, Polled(action, {}, Transient("the answer is larger than 1 MiB", code="odd_answer")))
    assert first_asked == ["r1", "r2"]


def test_threat_61_an_unknown_word_is_said_once() -> None:
    made, _ = answered(Request("r", "upscaling"))
    (again,) = of(Poll, tick(made, at=NOW + 10 * S_))
    tick(made, Polled(again, {1: Request("r", "upscaling")}))
    assert sum(line.kind == "odd" for line in made.said) == 1


def test_threat_63_unknown_to_the_service_it_is_asked_for_by_reference_for_the_whole_grace_and_then_doubtful() -> None:
    made, now = answered(None)
    assert (now.state, now.doubt_at, now.next_at) == (JobState.RENDERING, NOW, NOW + S_)
    assert of(Poll, tick(made, at=NOW + 60 * S_)) == []
    (look_up,) = [action for action in made.running if isinstance(action, LookUp)]
    tick(made, LookedUp(look_up, None), at=NOW + 118 * S_)
    assert made.book.of(JobState.RENDERING)
    tick(made, LookedUp(look_up, None), at=NOW + 120 * S_)
    assert made.book.jobs[1].state is JobState.DOUBTFUL
    assert made.book.jobs[1].sent_at == 1  # never again by itself


def test_found_again_it_is_polled_again() -> None:
    made, _ = answered(None)
    (look_up,) = of(LookUp, tick(made, at=NOW + S_))
    assert not of(Poll, tick(made, LookedUp(look_up, Request("r2", "processing"))))
    assert of(Poll, tick(made, at=made.now + made.policy.poll.first_ms))
    assert (made.book.jobs[1].doubt_at, made.book.jobs[1].request_id) == (None, "r2")


def test_an_answer_about_an_earlier_run_of_the_row_means_nothing() -> None:
    """Cancelled and retried while the poll was under way: the row stands for another request now."""
    made, action = polling()
    made.change(made.book.jobs[1], request_id="another")
    tick(made, Polled(action, {1: Request("r", "failed")}))
    assert made.book.of(JobState.RENDERING)


def test_a_round_that_breaks_off_keeps_what_it_has_and_asks_the_rest_later() -> None:
    made = world(
        job(1, state=JobState.RENDERING, request_id="r1", next_at=NOW),
        job(2, key="s2", state=JobState.RENDERING, request_id="r2", next_at=NOW + S_),
    )
    (action,) = of(Poll, tick(made))
    assert len(action.requests) == 2  # due so soon it rides in the same round
    tick(made, Polled(action, {1: Request("r1", "completed")}, Transient("500", http_status=500)))
    assert made.book.jobs[1].state is JobState.RENDERED
    assert made.book.jobs[2].next_at == NOW + 10 * S_
    assert made.gate.failures == 1


def test_threat_55_a_429_for_a_poll_stops_everybody() -> None:
    made, action = polling()
    tick(made, Polled(action, {}, Throttled("429", retry_after_s=40.0)))
    assert (made.gate.state, made.gate.until_at) == (AccountState.RATE_LIMITED, NOW + 40 * S_)
    assert of(Poll, tick(made, at=NOW + 39 * S_)) == []
    assert of(Poll, tick(made, at=NOW + 40 * S_))


def test_threat_64_slow_is_said_and_never_given_up() -> None:
    old = job(state=JobState.RENDERING, request_id="r", accepted_at=NOW, request_status="queued")
    assert rendering.slowness(old, NOW + rendering.SLOW_MS) is None
    assert "10 min" in (rendering.slowness(old, NOW + rendering.SLOW_MS + 1) or "")
    assert "stuck?" in (rendering.slowness(old, NOW + OLD_MS + 1) or "")
    made = world(old)
    for day in range(1, 30):
        made.running.clear()
        (action,) = of(Poll, tick(made, at=NOW + day * OLD_MS))
        tick(made, Polled(action, {1: Request("r", "queued")}))
        assert made.book.jobs[1].state is JobState.RENDERING
