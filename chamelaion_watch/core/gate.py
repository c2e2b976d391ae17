"""The account-wide gate: when any request may be sent, when a submission may start, who probes after a stop.

Pure: an answer of the service and the time go in, the next gate comes out; it is stored as one row of the ledger,
so that a restart hammers nobody. Three mechanisms, in this order: pacing (GCRA, one submission each
60 s / rate: a full token bucket would let 120 through in the first minute of a limit of 60), the pause (until the
time that the server named, else growing and random), and the in-flight limit (additive increase, multiplicative
decrease). After a stop one canary goes first; a herd never does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from chamelaion_watch.core.errors import AccountProblem, QuotaExhausted, Throttled, Unauthorized
from chamelaion_watch.core.model import AccountState, Millis
from chamelaion_watch.core.policy import Policy

MINUTE_MS = 60_000
PACE_MARGIN = 1.015  # a little slower than allowed: the way to the service stretches and squeezes the distances
LATE_MS = 250  # a submission that goes so late delays none of those after it; of the 900 ms that the margin leaves
BREAKER_FAILURES = 5  # 5xx in a row, over all jobs, before the service counts as unreachable
FIRST_DOUBT_MS = 1_000  # the least wait for the second refusal in a row, whatever the server names; then it doubles
RAISE_AFTER_MS = 300_000  # how long a lowered in-flight limit stands before one more is tried; doubled if it fails
MOST_DOUBLINGS = 4


@dataclass(frozen=True, slots=True)
class Gate:
    """What we hold about the account; `until_at` is meaningful in any state but `open`."""

    state: AccountState = AccountState.OPEN
    since_at: Millis = 0
    until_at: Millis = 0
    is_promised: bool = False  # the server named the time: nothing, not even `resume`, goes before it
    reason: str = ""
    strikes: int = 0
    is_half_open: bool = False  # one canary may be in the air, no more
    canary: int | None = None  # its job id
    limit: int | None = None  # learned in-flight limit; None: as configured
    limit_raised_at: Millis = 0
    capped_at: int = 0  # how many were in flight when the service refused one more, at last
    caps: int = 0  # such refusals in a row, with no success at more in between
    is_cap_suspected: bool = False  # the last 429 came with work in flight and rate to spare
    rate: float | None = None  # learned submissions per minute; None: as configured
    rate_raised_at: Millis = 0
    next_slot_at: Millis = 0  # GCRA: when the next submission conforms
    recent: tuple[tuple[Millis, int], ...] = ()  # the last minute's accepted submissions: how many from each second
    failures: int = 0  # 5xx in a row

    @property
    def is_open(self) -> bool:
        return self.state is AccountState.OPEN


def from_row(row: dict[str, Any]) -> Gate:
    """Read a stored gate, tolerating fields that other versions wrote or lacked."""
    known = {name: row[name] for name in Gate.__slots__ if name in row}
    if "state" in known:
        known["state"] = AccountState(known["state"])
    known["recent"] = tuple((int(second_at), int(count)) for second_at, count in known.get("recent", ()))
    return Gate(**known)


def to_row(gate: Gate) -> dict[str, Any]:
    """Return the gate as plain data for the ledger; who was the canary dies with the process."""
    return {name: getattr(gate, name) for name in Gate.__slots__} | {"canary": None}


# -- questions ----------------------------------------------------------------------------------------


def request_at(gate: Gate, now: Millis) -> Millis | None:
    """When a poll or a look-up may be sent: now or later; None: only after a probe succeeded."""
    match gate.state:
        case AccountState.RATE_LIMITED:
            return max(now, gate.until_at)
        case AccountState.UNAUTHORIZED | AccountState.UNREACHABLE:
            return None
        case _:
            return now


def in_flight_limit(gate: Gate, policy: Policy) -> int:
    return min(policy.max_in_flight, gate.limit or policy.max_in_flight)


def submit_at(gate: Gate, now: Millis, in_flight: int, policy: Policy) -> Millis | None:
    """When the next submission may start; None: not before something else happens."""
    if in_flight >= in_flight_limit(gate, policy):
        return None
    if gate.state in (AccountState.UNAUTHORIZED, AccountState.UNREACHABLE):
        return None
    if (gate.is_half_open or not gate.is_open) and gate.canary is not None:
        return None
    earliest = now if gate.is_open else max(now, gate.until_at)
    return max(earliest, gate.next_slot_at)


def needs_canary(gate: Gate) -> bool:
    """Say whether the next submission is a canary: then it should be the smallest pair."""
    return gate.is_half_open or not gate.is_open


def probe_at(gate: Gate, now: Millis) -> Millis | None:
    """When the account is to be probed without a submission; None: no need."""
    if gate.state in (AccountState.UNAUTHORIZED, AccountState.UNREACHABLE):
        return max(now, gate.until_at)
    return None


# -- what happened ------------------------------------------------------------------------------------


def passed(gate: Gate, now: Millis) -> Gate:
    """Let time pass: a rate limit is over when its time is, though a canary goes first."""
    if gate.state is AccountState.RATE_LIMITED and now >= gate.until_at:
        return replace(_opened(gate, now), is_half_open=True, strikes=gate.strikes)
    return gate


def claimed(gate: Gate, job_id: int, now: Millis, policy: Policy) -> Gate:
    """Take a slot for a submission that starts now."""
    rate = min(gate.rate or policy.requests_per_minute, policy.requests_per_minute)
    base = gate.next_slot_at if gate.next_slot_at >= now - LATE_MS else now
    slot = base + math.ceil(PACE_MARGIN * MINUTE_MS / rate)
    return replace(gate, next_slot_at=slot, canary=job_id if needs_canary(gate) else None)


def dropped(gate: Gate, job_id: int) -> Gate:
    """A submission ended without an answer that says anything of the account: another may be the canary."""
    return replace(gate, canary=None) if gate.canary == job_id else gate


def accepted(gate: Gate, job_id: int, now: Millis, in_flight: int, policy: Policy) -> Gate:
    """The service took a submission; after a stop only the canary's says anything: the others began before it."""
    gate = replace(gate, recent=_counted(gate, now), failures=0)
    if needs_canary(gate):
        if gate.canary != job_id:
            return gate
        gate = _opened(gate, now)
    return _raised(replace(gate, strikes=0, is_cap_suspected=False), now, in_flight, policy)


def answered(gate: Gate) -> Gate:
    """Any request got a proper answer: the row of failures is broken."""
    return replace(gate, failures=0) if gate.failures else gate


def probed(gate: Gate, now: Millis) -> Gate:
    """The probe of an unauthorized or unreachable account succeeded: open, a canary first."""
    if gate.state not in (AccountState.UNAUTHORIZED, AccountState.UNREACHABLE):
        return gate
    return replace(_opened(gate, now), is_half_open=True, strikes=gate.strikes)


def refused(
    gate: Gate,
    error: AccountProblem,
    now: Millis,
    *,
    chance: float,
    policy: Policy,
    in_flight: int = 0,
    is_submission: bool = False,
    began_at: Millis | None = None,
) -> Gate:
    """Everybody waits: 429, 412, 401/403, or no service; `chance` in [0, 1) spreads those who wait for nothing named.

    The answer to a request that began before the gate closed for the same reason counts no second strike.
    """
    if isinstance(error, Throttled) and is_submission:
        is_cap = True
        if gate.is_cap_suspected and began_at is not None and began_at < gate.limit_raised_at:
            gate = _lowered(gate, min(gate.limit or in_flight, in_flight))  # it was sent beside the refused one
        elif _may_be_cap(gate, now, in_flight, policy):
            gate = _capped(gate, now, in_flight, error)
        else:
            gate, is_cap = _rate_learned(gate, now), False
        if is_cap and error.retry_after_s is None:
            return gate
    state = _state_of(error)
    is_echo = gate.state is state and began_at is not None and began_at < gate.since_at
    strikes = gate.strikes if is_echo else gate.strikes + 1
    growth = policy.pauses[state].at(strikes)
    promised = None if error.retry_after_s is None else round(error.retry_after_s * 1000)
    wait_ms = round(growth * (1 + chance)) if promised is None else max(promised, _least_ms(strikes, growth))
    until = now + wait_ms
    if is_echo:
        until = max(until, gate.until_at) if promised is not None else gate.until_at
    is_bound = gate.is_promised and now < gate.until_at  # a named time holds, whatever else is refused meanwhile
    if is_bound:
        until = max(until, gate.until_at)
        if gate.state is not AccountState.QUOTA_EXHAUSTED:  # that one lets polls pass: it gives way
            state = gate.state
    return replace(
        gate,
        state=state,
        since_at=gate.since_at if gate.state is state else now,
        until_at=until,
        is_promised=promised is not None or is_bound,
        reason=error.message,
        strikes=strikes,
        is_half_open=False,
        canary=None,
    )


def delayed(gate: Gate, now: Millis, reason: str, *, chance: float, policy: Policy) -> Gate:
    """The probe of a closed account met something else than what closed it: wait for the next, longer."""
    strikes = gate.strikes + 1
    wait_ms = round(policy.pauses[gate.state].at(strikes) * (1 + chance))
    is_bound = gate.is_promised and now < gate.until_at
    until = max(now + wait_ms, gate.until_at) if is_bound else now + wait_ms
    return replace(gate, until_at=until, is_promised=is_bound, reason=reason, strikes=strikes)


def server_failed(gate: Gate, now: Millis, error: AccountProblem, *, chance: float, policy: Policy) -> Gate:
    """Count a 5xx; many in a row over all jobs mean that the service is down: the breaker opens."""
    gate = replace(gate, failures=gate.failures + 1)
    if gate.failures < BREAKER_FAILURES or not gate.is_open:
        return gate
    return replace(refused(gate, error, now, chance=chance, policy=policy), failures=0)


def urged(gate: Gate, now: Millis) -> Gate:
    """A person says resume: the canary may go now, but never inside a time that the server named."""
    if gate.is_open or gate.is_promised:
        return gate
    return replace(gate, until_at=now)


def restored(gate: Gate, now: Millis, policy: Policy) -> Gate:
    """After a restart: no wait may be longer than any that we would set, whatever the wall clock did meanwhile."""
    longest = max(3_600_000, *(2 * growth.max_ms for growth in policy.pauses.values()))
    return replace(
        gate,
        until_at=min(gate.until_at, now + longest),
        next_slot_at=min(gate.next_slot_at, now + MINUTE_MS),
        since_at=min(gate.since_at, now),
        limit_raised_at=min(gate.limit_raised_at, now),
        rate_raised_at=min(gate.rate_raised_at, now),
        recent=tuple((second_at, count) for second_at, count in _last_minute(gate, now) if second_at <= now),
        canary=None,
    )


# -- inside -------------------------------------------------------------------------------------------


def _state_of(error: AccountProblem) -> AccountState:
    match error:
        case Throttled():
            return AccountState.RATE_LIMITED
        case QuotaExhausted():
            return AccountState.QUOTA_EXHAUSTED
        case Unauthorized():
            return AccountState.UNAUTHORIZED
        case _:
            return AccountState.UNREACHABLE


def _least_ms(strikes: int, growth: int) -> int:
    """How soon a named time is believed: a server that says "0 s" each time would be asked as fast as it answers."""
    return min(growth, FIRST_DOUBT_MS << min(strikes - 2, 20)) if strikes > 1 else 0


def _opened(gate: Gate, now: Millis) -> Gate:
    return replace(
        gate,
        state=AccountState.OPEN,
        since_at=now,
        until_at=0,
        is_promised=False,
        reason="",
        is_half_open=False,
        canary=None,
    )


def _last_minute(gate: Gate, now: Millis) -> tuple[tuple[Millis, int], ...]:
    return tuple((second_at, count) for second_at, count in gate.recent if second_at > now - MINUTE_MS)


def _count(gate: Gate, now: Millis) -> int:
    return sum(count for _, count in _last_minute(gate, now))


def _counted(gate: Gate, now: Millis) -> tuple[tuple[Millis, int], ...]:
    """One more, by seconds: a row of thousands of instants, written at each tick, took 4 % of a herd's time."""
    recent = _last_minute(gate, now)
    if recent and recent[-1][0] <= now < recent[-1][0] + 1000:
        second_at, count = recent[-1]
        return *recent[:-1], (second_at, count + 1)
    return *recent, (now, 1)


def _may_be_cap(gate: Gate, now: Millis, in_flight: int, policy: Policy) -> bool:
    """The plan's concurrency cap is suspected: work in flight, rate to spare, first refusal."""
    return (
        in_flight > 0
        and not gate.is_cap_suspected
        and gate.is_open
        and gate.strikes == 0
        and _count(gate, now) < policy.requests_per_minute
    )


def _capped(gate: Gate, now: Millis, in_flight: int, error: Throttled) -> Gate:
    """Not faster was wrong but more: hold at what is in flight; the next one, after one has finished, is the canary."""
    return replace(
        _lowered(gate, in_flight),
        limit_raised_at=now,
        caps=gate.caps + 1,
        is_cap_suspected=True,
        is_half_open=True,
        canary=None,
        reason=error.message,
    )


def _lowered(gate: Gate, in_flight: int) -> Gate:
    limit = max(1, in_flight)
    return replace(gate, limit=limit, capped_at=limit)


def _rate_learned(gate: Gate, now: Millis) -> Gate:
    """A 429 that is not the cap: what was accepted in the last minute is what the server allows."""
    if gate.is_cap_suspected:  # refused again with fewer in flight: it was the rate, and counts as the second strike
        gate = replace(gate, is_cap_suspected=False, limit=None, caps=0, strikes=gate.strikes + 1)
    count = _count(gate, now)
    if not gate.is_open or not count:  # nothing of ours was taken: others use the account, our pace is not to blame
        return gate
    return replace(gate, rate=float(count), rate_raised_at=now)


def _raised(gate: Gate, now: Millis, in_flight: int, policy: Policy) -> Gate:
    """Slowly try more: one more in flight after 5 min at the limit, a quarter more per minute each minute."""
    if in_flight > gate.capped_at:
        gate = replace(gate, caps=0)
    raise_at = gate.limit_raised_at + (RAISE_AFTER_MS << min(max(gate.caps - 1, 0), MOST_DOUBLINGS))
    if gate.limit is not None and in_flight >= gate.limit and now >= raise_at:
        limit = gate.limit + 1
        gate = replace(gate, limit=None if limit >= policy.max_in_flight else limit, limit_raised_at=now)
    if gate.rate is not None and now - gate.rate_raised_at >= MINUTE_MS:
        rate = gate.rate * 1.25
        gate = replace(gate, rate=None if rate >= policy.requests_per_minute else rate, rate_raised_at=now)
    return gate
