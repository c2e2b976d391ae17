"""What is learned of the service's pace."""

from __future__ import annotations

import pytest

from chamelaion_watch.core.pace import LATEST_MS, REMEMBERED, SOONEST_MS, Pace

S_ = 1_000


def pace(*took: tuple[int, int | None]) -> Pace:
    made = Pace()
    for took_ms, video_ms in took:
        made.finished(took_ms, video_ms)
    return made


@pytest.mark.parametrize("known", [0, 1, 2])
def test_a_few_finished_jobs_say_nothing(known: int) -> None:
    made = pace(*[(60 * S_, 10 * S_)] * known)
    assert (made.apart_ms(), made.first_look_ms(10 * S_)) == (None, None)


def test_a_first_look_is_a_little_earlier_than_the_quickest_tenth() -> None:
    made = pace(*((30 * S_ + number * S_, None) for number in range(20)))
    assert made.first_look_ms(None) == 0.9 * 32 * S_


def test_a_longer_video_is_asked_for_later() -> None:
    made = pace(*((6 * video_ms, video_ms) for video_ms in (5 * S_, 10 * S_, 15 * S_)))
    assert made.first_look_ms(20 * S_) == 0.9 * 120 * S_
    assert made.first_look_ms(1 * S_) == 0.9 * 6 * S_


def test_a_time_that_each_job_takes_makes_a_look_too_early_not_too_late() -> None:
    took = {video_ms: 20 * S_ + 2 * video_ms for video_ms in (5 * S_, 10 * S_, 40 * S_)}
    made = pace(*((took_ms, video_ms) for video_ms, took_ms in took.items()))
    for video_ms, took_ms in took.items():
        assert (made.first_look_ms(video_ms) or 0) < took_ms


def test_a_video_of_unknown_length_is_asked_for_by_what_all_took() -> None:
    made = pace(*[(60 * S_, 10 * S_)] * 5)
    assert made.first_look_ms(None) == 54 * S_


@pytest.mark.parametrize(("took_ms", "first_ms"), [(0, SOONEST_MS), (-5, SOONEST_MS), (10**9, LATEST_MS)])
def test_it_is_never_asked_at_once_nor_after_hours(took_ms: int, first_ms: int) -> None:
    assert pace(*[(took_ms, None)] * 5).first_look_ms(None) == first_ms


def test_it_follows_a_busy_evening() -> None:
    made = pace(*[(10 * S_, None)] * 500, *[(100 * S_, None)] * REMEMBERED)
    assert made.first_look_ms(None) == 90 * S_


def test_jobs_have_been_finishing_so_far_apart_of_late() -> None:
    made = Pace()
    made.asked(0, 5, 1)
    assert made.apart_ms() is None
    for number in range(1, 20):
        made.asked(number * 4 * S_, 32, 8)
    assert made.apart_ms() == pytest.approx(125)
    assert made.calls == 8
    for number in range(20, 40):
        made.asked(number * 4 * S_, 2, 8)
    assert made.apart_ms() == pytest.approx(2 * S_, rel=0.1)


def test_a_pace_at_which_nothing_finishes_is_none() -> None:
    made = Pace()
    for number in range(5):
        made.asked(number * S_, 0, 1)
    assert made.apart_ms() is None
