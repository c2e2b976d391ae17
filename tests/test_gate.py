"""The account-wide gate, by scripts of what was answered and when."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest

from chamelaion_watch.core import gate
from chamelaion_watch.core.errors import AccountProblem, QuotaExhausted, Throttled, Unauthorized, Unreachable
from chamelaion_watch.core.gate import Gate
from chamelaion_watch.core.model import AccountState, Millis
from chamelaion_watch.core.policy import Growth, Policy
from tests.builders import NOW

POLICY = Policy()
WIDE = Policy(max_in_flight=100)
S_ = 1_000
MINUTE = 60 * S_


def refused(
    before: Gate,
    error: AccountProblem,
    now: Millis = NOW,
    *,
    chance: float = 0.0,
    in_flight: int = 0,
    is_submission: bool = True,
    began_at: Millis | None = None,
) -> Gate:
    return gate.refused(
        before,
        error,
        now,
        chance=chance,
        policy=POLICY,
        in_flight=in_flight,
        is_submission=is_submission,
        began_at=began_at,
    )


def limited(wait_s: float | None = None) -> Throttled:
    return Throttled("429", http_status=429, retry_after_s=wait_s)


def may_submit_at(at: Gate, now: Millis, in_flight: int = 0) -> Millis | None:
    return gate.submit_at(gate.passed(at, now), now, in_flight, POLICY)


# -- pauses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait_s", [0.0, 0.5, 7.0, 3600.0])
def test_threat_55_a_named_time_is_honoured_to_the_millisecond(wait_s: float) -> None:
    closed = refused(Gate(), limited(wait_s), chance=0.9)
    until = NOW + round(wait_s * 1000)
    assert (closed.state, closed.until_at, closed.is_promised) == (AccountState.RATE_LIMITED, until, True)
    assert gate.request_at(closed, NOW) == until
    if wait_s:
        assert gate.passed(closed, until - 1).state is AccountState.RATE_LIMITED
    assert gate.passed(closed, until).is_open


@pytest.mark.parametrize("wait_s", [0.0, 0.001])
def test_threat_55_a_time_of_nothing_is_believed_once_and_then_for_1_2_4_seconds(wait_s: float) -> None:
    """It was asked again as fast as it answered: hundreds of probes a second."""
    closed, now, waits = Gate(), NOW, []
    for _ in range(9):
        closed = refused(closed, Unauthorized("401", retry_after_s=wait_s), now)
        waits.append(closed.until_at - now)
        now = closed.until_at
    assert waits == [round(wait_s * 1000), *(1_000 << strike for strike in range(8))]
    assert waits[-1] <= POLICY.pauses[AccountState.UNAUTHORIZED].max_ms


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (limited(), AccountState.RATE_LIMITED),
        (QuotaExhausted("412"), AccountState.QUOTA_EXHAUSTED),
        (Unauthorized("401"), AccountState.UNAUTHORIZED),
        (Unreachable("dns"), AccountState.UNREACHABLE),
    ],
)
@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_threat_55_without_a_named_time_it_waits_between_once_and_twice_and_grows_to_its_most(
    error: AccountProblem, state: AccountState, chance: float
) -> None:
    closed, now, waits = Gate(), NOW, []
    for _ in range(9):
        closed = refused(closed, error, now, chance=chance)
        assert closed.state is state
        waits.append(closed.until_at - now)
        now = closed.until_at
        closed = gate.passed(closed, now)
    growth = POLICY.pauses[state]
    assert growth.first_ms <= waits[0] <= 2 * growth.first_ms
    assert waits[-1] == round(growth.max_ms * (1 + chance))
    assert waits == sorted(waits)


def test_a_second_refusal_of_those_that_began_before_is_no_second_strike() -> None:
    first = refused(Gate(), QuotaExhausted("412"), NOW, began_at=NOW - 50)
    echo = refused(first, QuotaExhausted("412"), NOW + 10, began_at=NOW - 40, chance=0.9)
    assert (echo.strikes, echo.until_at) == (1, first.until_at)
    later = refused(first, QuotaExhausted("412"), first.until_at, began_at=first.until_at - 1)
    assert later.strikes == 2


@pytest.mark.parametrize("other", [QuotaExhausted("412"), Unauthorized("401"), Unreachable("reset"), limited()])
@pytest.mark.parametrize("first", [limited(300.0), Unreachable("503", retry_after_s=300.0)])
def test_threat_55_no_other_refusal_shortens_a_promise(first: AccountProblem, other: AccountProblem) -> None:
    promised = refused(Gate(), first)
    after = refused(promised, other, NOW + 5, is_submission=False)
    assert after.until_at >= promised.until_at
    assert after.is_promised
    assert (gate.request_at(after, NOW + 10) or promised.until_at) >= promised.until_at
    assert (gate.probe_at(after, NOW + 10) or promised.until_at) >= promised.until_at
    assert (may_submit_at(after, NOW + 10) or promised.until_at) >= promised.until_at


def test_a_promise_also_holds_for_the_refusal_beside_the_one_that_looked_like_the_cap() -> None:
    capped = refused(Gate(), limited(), NOW, in_flight=4, began_at=NOW - 100)
    beside = refused(capped, limited(40.0), NOW + 10, in_flight=3, began_at=NOW - 90)
    assert beside.until_at == NOW + 10 + 40 * S_


def test_a_probe_that_meets_something_else_keeps_a_promise() -> None:
    promised = refused(Gate(), Unreachable("503", retry_after_s=600.0))
    assert gate.delayed(promised, NOW + 5, "500", chance=0.0, policy=POLICY).until_at == promised.until_at


def test_a_longer_promise_replaces_a_shorter_and_not_the_other_way_round() -> None:
    promised = refused(Gate(), limited(60.0))
    assert refused(promised, limited(90.0), NOW).until_at == NOW + 90 * S_
    assert refused(promised, limited(10.0), NOW).until_at == NOW + 60 * S_


def test_threat_57_412_stops_submissions_and_not_polls() -> None:
    closed = refused(Gate(), QuotaExhausted("412"))
    assert gate.request_at(closed, NOW + 1) == NOW + 1
    assert may_submit_at(closed, NOW + 1) == closed.until_at


@pytest.mark.parametrize("error", [Unauthorized("401"), Unreachable("down")])
def test_threat_46_58_nothing_is_sent_but_a_probe_while_the_key_or_the_service_is_bad(error: AccountProblem) -> None:
    closed = refused(Gate(), error)
    assert gate.request_at(closed, closed.until_at + MINUTE) is None
    assert may_submit_at(closed, closed.until_at + MINUTE) is None
    assert gate.probe_at(closed, NOW) == closed.until_at
    opened = gate.probed(closed, closed.until_at)
    assert opened.is_open
    assert gate.needs_canary(opened)
    assert gate.probed(Gate(), NOW) == Gate()


# -- the canary ---------------------------------------------------------------------------------------


def after_a_limit(strikes: int = 3) -> Gate:
    closed = replace(refused(Gate(), limited(5.0)), strikes=strikes)
    return gate.passed(closed, closed.until_at)


def test_threat_56_after_a_stop_one_canary_goes_and_no_second() -> None:
    open_again = after_a_limit()
    assert gate.needs_canary(open_again)
    claimed = gate.claimed(open_again, 7, NOW + 5 * S_, POLICY)
    assert claimed.canary == 7
    assert may_submit_at(claimed, NOW + MINUTE) is None


def test_the_canary_opens_and_clears_the_strikes() -> None:
    claimed = gate.claimed(after_a_limit(), 7, NOW + 5 * S_, POLICY)
    opened = gate.accepted(claimed, 7, NOW + 6 * S_, 1, POLICY)
    assert not gate.needs_canary(opened)
    assert opened.strikes == 0


def test_a_stale_success_opens_nothing_and_clears_no_strikes() -> None:
    """An upload that began before the pause and ends after it says nothing about the pause."""
    for before in (
        refused(Gate(), QuotaExhausted("412")),
        after_a_limit(),
        gate.claimed(after_a_limit(), 7, NOW, POLICY),
    ):
        after = gate.accepted(before, 3, NOW + 6 * S_, 1, POLICY)
        assert (after.state, after.strikes, after.canary) == (before.state, before.strikes, before.canary)
        assert gate.needs_canary(after)


def test_a_canary_that_came_to_nothing_makes_room_for_another() -> None:
    claimed = gate.claimed(after_a_limit(), 7, NOW, POLICY)
    assert gate.dropped(claimed, 3).canary == 7
    assert gate.dropped(claimed, 7).canary is None


def test_a_canary_that_is_refused_waits_longer() -> None:
    claimed = gate.claimed(after_a_limit(strikes=1), 7, NOW + 5 * S_, POLICY)
    again = refused(claimed, limited(), NOW + 6 * S_, began_at=NOW + 5 * S_)
    assert again.strikes == 2
    assert again.until_at == NOW + 6 * S_ + 60 * S_


# -- pace and limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rpm", [1, 5, 60, 1_000, 100_000])
def test_threat_56_no_minute_holds_more_submissions_than_allowed(rpm: int) -> None:
    policy, at, now, slots = Policy(requests_per_minute=rpm, max_in_flight=10**6), Gate(), NOW, []
    for number in range(2 * min(rpm, 200) + 2):
        now = gate.submit_at(at, now, 0, policy) or now
        at = gate.claimed(at, number, now, policy)
        slots.append(now)
    window = min(rpm, 200)
    least_ms = MINUTE * window // rpm
    assert all(later - earlier > least_ms for earlier, later in zip(slots, slots[window:], strict=False))


def test_threat_56_a_minute_of_60_takes_more_than_a_minute_so_that_a_late_packet_breaks_no_limit() -> None:
    at = Gate()
    for number in range(60):
        at = gate.claimed(at, number, NOW, POLICY)
    assert at.next_slot_at - gate.LATE_MS >= NOW + MINUTE + S_ // 2


def test_submissions_that_go_a_little_late_do_not_slow_the_next_ones_down() -> None:
    """Each tick that came late by some milliseconds was added to all that followed: 3 % of the rate were lost."""
    at, slots = Gate(), [NOW]
    for number in range(300):
        at = gate.claimed(at, number, slots[-1] + 200, POLICY)
        slots.append(at.next_slot_at)
    steps = {after - before for before, after in itertools.pairwise(slots[1:])}
    assert steps == {1_015}
    for number in range(240):  # whatever the ticks did, no minute holds more than 60
        assert slots[number + 60] - (slots[number] + gate.LATE_MS) > MINUTE


def test_what_was_not_used_is_not_made_up_for() -> None:
    at = gate.claimed(Gate(), 1, NOW, POLICY)
    later = gate.claimed(at, 2, NOW + MINUTE, POLICY)
    assert later.next_slot_at >= NOW + MINUTE + 1_015 - gate.LATE_MS


def test_the_first_429_with_work_in_flight_lowers_the_limit_and_not_the_rate() -> None:
    capped = refused(Gate(), limited(), in_flight=3, began_at=NOW)
    assert (capped.state, capped.limit, capped.rate, capped.strikes) == (AccountState.OPEN, 3, None, 0)
    assert gate.in_flight_limit(capped, POLICY) == 3
    assert may_submit_at(capped, NOW, in_flight=3) is None
    assert may_submit_at(capped, NOW, in_flight=2) == NOW
    assert gate.needs_canary(capped)


def test_a_429_beside_the_refused_one_lowers_the_limit_further_and_nothing_else() -> None:
    capped = refused(Gate(), limited(), NOW, in_flight=4, began_at=NOW - 10)
    beside = refused(capped, limited(), NOW + 5, in_flight=3, began_at=NOW - 9)
    assert beside == replace(capped, limit=3, capped_at=3)


def test_refused_again_with_fewer_in_flight_it_was_the_rate_and_counts_twice() -> None:
    busy = replace(Gate(), recent=((NOW - 5_000, 2), (NOW - 3_000, 1), (NOW - 1_000, 2)))
    capped = refused(busy, limited(), NOW, in_flight=5, began_at=NOW - 1)
    again = refused(capped, limited(), NOW + 5 * S_, in_flight=4, began_at=NOW + 4 * S_)
    assert (again.state, again.strikes, again.limit, again.rate) == (AccountState.RATE_LIMITED, 2, None, 5.0)
    assert again.until_at - (NOW + 5 * S_) == 60 * S_


def test_submissions_are_counted_by_the_second_and_for_a_minute() -> None:
    at = Gate()
    for number in range(600):
        at = gate.accepted(at, number, NOW + number * 200, 1, WIDE)
    assert sum(count for _, count in at.recent) == 300
    assert len(at.recent) <= 61
    learned = refused(at, limited(), NOW + 120 * S_, in_flight=0)
    assert learned.rate == pytest.approx(300, abs=5)


def test_a_stale_success_does_not_end_the_suspicion_of_a_cap() -> None:
    """Else each end of a slow upload would allow one more 429."""
    capped = refused(Gate(), limited(), NOW, in_flight=3, began_at=NOW - 1)
    after = gate.accepted(capped, 2, NOW + S_, 3, POLICY)
    assert after.is_cap_suspected
    assert gate.needs_canary(after)


def test_a_cap_that_names_a_time_is_waited_for_and_lowers_the_limit_as_well() -> None:
    """It was taken for the rate: refused again after each wait, 8.8 % of all submissions at a cap of 8."""
    capped = refused(Gate(), limited(5.0), NOW, in_flight=9, began_at=NOW - 10)
    assert (capped.state, capped.until_at, capped.is_promised) == (AccountState.RATE_LIMITED, NOW + 5 * S_, True)
    assert (capped.limit, capped.rate) == (9, None)
    beside = refused(capped, limited(6.0), NOW + 5, in_flight=8, began_at=NOW - 9)
    assert (beside.limit, beside.until_at, beside.strikes) == (8, NOW + 5 + 6 * S_, capped.strikes)
    opened = gate.passed(beside, NOW + 7 * S_)
    assert may_submit_at(opened, NOW + 7 * S_, in_flight=8) is None
    assert may_submit_at(opened, NOW + 7 * S_, in_flight=7) == NOW + 7 * S_
    sent = gate.claimed(opened, 1, NOW + 7 * S_, POLICY)
    taken = gate.accepted(sent, 1, NOW + 8 * S_, 8, POLICY)
    assert (taken.is_open, taken.limit, taken.strikes, taken.is_cap_suspected) == (True, 8, 0, False)


def test_a_named_time_when_refused_again_with_fewer_in_flight_was_of_the_rate() -> None:
    capped = refused(Gate(), limited(5.0), NOW, in_flight=4, began_at=NOW - 10)
    opened = gate.passed(capped, NOW + 5 * S_)
    again = refused(opened, limited(5.0), NOW + 6 * S_, in_flight=3, began_at=NOW + 5 * S_)
    assert (again.limit, again.is_cap_suspected, again.until_at) == (None, False, NOW + 11 * S_)


def test_an_idle_account_is_no_sign_of_a_cap() -> None:
    closed = refused(Gate(), limited(), in_flight=0)
    assert (closed.state, closed.limit) == (AccountState.RATE_LIMITED, None)


def test_a_429_when_nothing_of_ours_was_taken_teaches_no_rate() -> None:
    assert refused(Gate(), limited(5.0)).rate is None
    known = replace(Gate(), rate=5.0)
    assert refused(known, limited(5.0)).rate == 5.0


def test_a_lowered_limit_is_raised_by_one_after_five_minutes_at_it() -> None:
    at = replace(Gate(), limit=3, limit_raised_at=NOW)
    assert gate.accepted(at, 1, NOW + gate.RAISE_AFTER_MS - 1, 3, POLICY).limit == 3
    assert gate.accepted(at, 1, NOW + gate.RAISE_AFTER_MS, 2, POLICY).limit == 3
    raised = gate.accepted(at, 1, NOW + gate.RAISE_AFTER_MS, 3, POLICY)
    assert raised.limit == 4
    assert gate.accepted(replace(raised, limit=7), 1, NOW + 3 * gate.RAISE_AFTER_MS, 7, POLICY).limit is None


def test_a_limit_that_stands_is_tested_ever_more_seldom_until_more_are_taken() -> None:
    """Each test costs a refusal: 2.4 % of the submissions at a cap of 8, if it were tested each 5 min."""
    at, now, waits = refused(Gate(), limited(), NOW, in_flight=8, began_at=NOW - 1), NOW, list[int]()
    for number in range(7):
        at = gate.accepted(gate.claimed(at, number, now, WIDE), number, now, 8, WIDE)
        capped_at = now
        while at.limit == 8:
            now += 2 * S_
            at = gate.accepted(at, number, now, 8, WIDE)
        waits.append((now - capped_at) // gate.RAISE_AFTER_MS)
        at = refused(at, limited(), now, in_flight=8, began_at=now - 1)
    assert waits == [1, 2, 4, 8, 16, 16, 16]
    at = gate.accepted(gate.claimed(replace(at, limit=9), 9, now, POLICY), 9, now, 9, WIDE)
    assert at.caps == 0


def test_a_lowered_rate_recovers_by_a_quarter_each_minute() -> None:
    at, now = replace(Gate(), rate=5.0, rate_raised_at=NOW), NOW
    assert gate.accepted(at, 1, now + MINUTE - 1, 1, POLICY).rate == 5.0
    for _ in range(20):
        now += MINUTE
        at = gate.accepted(at, 1, now, 1, POLICY)
    assert at.rate is None


def test_threat_60_five_server_errors_in_a_row_open_the_breaker_and_an_answer_breaks_the_row() -> None:
    down, at = Unreachable("5 times"), Gate()
    for _ in range(gate.BREAKER_FAILURES - 1):
        at = gate.server_failed(at, NOW, down, chance=0.0, policy=POLICY)
    assert at.is_open
    assert gate.answered(at).failures == 0
    opened = gate.server_failed(at, NOW, down, chance=0.0, policy=POLICY)
    assert (opened.state, opened.failures) == (AccountState.UNREACHABLE, 0)
    assert gate.server_failed(opened, NOW, down, chance=0.0, policy=POLICY).state is AccountState.UNREACHABLE


# -- people and restarts ------------------------------------------------------------------------------


def test_resume_goes_now_but_never_inside_a_promise() -> None:
    closed = refused(Gate(), QuotaExhausted("412"))
    assert gate.urged(closed, NOW + 5).until_at == NOW + 5
    promised = refused(Gate(), QuotaExhausted("412", retry_after_s=900.0))
    assert gate.urged(promised, NOW + 5) == promised
    assert gate.urged(Gate(), NOW) == Gate()


def test_a_promise_that_is_over_binds_nobody() -> None:
    promised = refused(Gate(), QuotaExhausted("412", retry_after_s=9.0))
    again = refused(promised, QuotaExhausted("412"), NOW + 10 * S_, began_at=NOW + 9 * S_)
    assert not again.is_promised
    assert gate.urged(again, NOW + 11 * S_).until_at == NOW + 11 * S_


def test_a_row_survives_json_and_fields_of_other_versions() -> None:
    at = replace(refused(Gate(), limited(30.0)), recent=((NOW - 5_000, 2), (NOW - 3, 1)), canary=7)
    row = json.loads(json.dumps(gate.to_row(at)))
    assert gate.from_row(row) == replace(at, canary=None)
    del row["rate"]
    assert gate.from_row(row | {"colour": "blue"}).rate is None


@pytest.mark.parametrize("days", [-400, 400])
def test_threat_78_a_wall_clock_that_jumped_while_the_daemon_was_down_makes_no_wait_endless(days: int) -> None:
    then = NOW + days * 86_400 * S_
    at = replace(
        refused(Gate(), limited(30.0), then),
        next_slot_at=then + S_,
        limit=2,
        limit_raised_at=then,
        rate=1.0,
        rate_raised_at=then,
        recent=((then, 1),),
    )
    back = gate.restored(at, NOW, POLICY)
    assert back.until_at <= NOW + 7_200 * S_  # twice the longest pause
    assert back.next_slot_at <= NOW + MINUTE
    assert max(back.limit_raised_at, back.rate_raised_at, back.since_at) <= NOW
    assert back.recent == ()


def test_a_restart_keeps_a_promise() -> None:
    promised = refused(Gate(), limited(3_600.0))
    assert gate.restored(gate.from_row(gate.to_row(promised)), NOW + 5, POLICY).until_at == promised.until_at


def test_a_policy_with_long_pauses_keeps_them_over_a_restart() -> None:
    policy = Policy(pauses=dict(POLICY.pauses) | {AccountState.QUOTA_EXHAUSTED: Growth(7_200_000, 7_200_000)})
    closed = gate.refused(Gate(), QuotaExhausted("412"), NOW, chance=0.9, policy=policy)
    assert gate.restored(closed, NOW, policy).until_at == closed.until_at
