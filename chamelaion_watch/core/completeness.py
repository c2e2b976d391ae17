"""Is this file whole? What is known of one file, look by look, and what that means.

A size that stands still proves nothing: Samba reserves the full size at once, and a broken copy leaves it behind.
So a file passes only after it was quiet for the settle time in several looks of this process, with no sign of a
writer, of a hole, of an unwritten end or of a missing index. Quiet time is what our own clock saw between two looks;
modification times are compared with their own earlier value only, never with a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chamelaion_watch.core.model import FileState, Millis, Observation, Signature, Structure, Trouble
from chamelaion_watch.core.text import printable

MIN_EQUAL_LOOKS = 3
MIN_STEP_MS = 500  # no file is looked at more often
MAX_STEP_MS = 60_000  # nor less often, while it is not complete
LEASED_SETTLE_MS = 2_000  # enough when it is proven that nobody has it open for writing
MAX_SETTLE_MS = 600_000  # however long the pauses in a copy were
HELD_SETTLES = 10  # a hole or an unwritten end is believed to be meant after so many settle times
WAV_TAIL_SETTLES = 2  # PCM does end in digital silence
LOCK_MS = 300_000  # a lock that denies reading longer than this is taken for missing rights
TRUNCATED_MS = 900_000  # a copy that was quiet this long with its end missing will not go on


@dataclass(frozen=True, slots=True)
class GateRules:
    """What a folder asks of a file; `settle_ms` is resolved already (10 s local, 30 s on a network share)."""

    settle_ms: int
    min_bytes: int


@dataclass(frozen=True, slots=True)
class Tracker:
    """What this process has seen of one file so far."""

    seen: Observation  # the last look
    seen_at: Millis
    quiet_since: Millis  # first look at the present signature
    signature: Signature | None = None  # None while it cannot be read
    equal_looks: int = 0  # at the present signature, with no partial copy beside it
    has_changed: bool = False
    longest_pause_ms: int = 0  # between two changes
    content: Observation | None = None  # last look that checked the content at the present signature
    trouble_since: Millis | None = None  # of the present trouble
    is_worth_a_probe: bool = (
        True  # look again at once: a lease, asked for at an equal look, may prove there is no writer
    )

    @property
    def quiet_ms(self) -> int:
        """How long it was seen to be quiet; time after the last look proves nothing."""
        return self.seen_at - self.quiet_since


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the looks so far mean; `code` is a stable slug, `reason` is for a person.

    `may_hash`: reading the whole file is worth while, though what is read counts only if the signature then holds.
    """

    state: FileState
    code: str
    reason: str
    next_look_at: Millis
    may_hash: bool = False


def observe(tracker: Tracker | None, seen: Observation, now: Millis, rules: GateRules) -> Tracker:
    """Return what is known after one more look, taken at `now` of the daemon's monotonic clock (ms)."""
    if tracker is None or _is_new_version(tracker, seen, now, rules):
        tracker = Tracker(seen, seen_at=now, quiet_since=now, has_changed=tracker is not None)
    if seen.trouble is not None or seen.signature is None:
        return _troubled(tracker, seen, now)
    if seen.signature != tracker.signature:
        is_worth_a_probe = tracker.seen_at == now or _is_worth_a_probe(tracker, now, rules)
        tracker = replace(_changed(tracker, seen.signature, now), is_worth_a_probe=is_worth_a_probe)
    return _looked(tracker, seen, now)


def verdict(tracker: Tracker, now: Millis, rules: GateRules) -> Verdict:
    """Return what the looks so far mean; `now` only keeps `next_look_at` out of the past."""
    state, code, reason = _judged(tracker, rules)
    return Verdict(
        state=state,
        code=code,
        reason=reason,
        next_look_at=max(now, _due_at(tracker, state, rules)),
        may_hash=state is FileState.COMPLETE or _may_hash(tracker, rules),
    )


# -- one more look ------------------------------------------------------------------------------------


def _is_new_version(tracker: Tracker, seen: Observation, now: Millis, rules: GateRules) -> bool:
    """Whether a file that was whole for long has changed: nothing learnt from its last copy holds for this one."""
    was_whole = tracker.signature is not None and _judged(tracker, rules)[0] is FileState.COMPLETE
    return (
        was_whole and seen.signature != tracker.signature and now - tracker.quiet_since > HELD_SETTLES * rules.settle_ms
    )


def _troubled(tracker: Tracker, seen: Observation, now: Millis) -> Tracker:
    """Whatever was seen before the trouble has to be seen again after it."""
    is_same = tracker.trouble_since is not None and tracker.seen.trouble == seen.trouble
    since = tracker.trouble_since if is_same else now
    return replace(
        tracker,
        seen=seen,
        seen_at=now,
        quiet_since=now,
        signature=None,
        equal_looks=0,
        content=None,
        trouble_since=since,
    )


def _is_worth_a_probe(tracker: Tracker, now: Millis, rules: GateRules) -> bool:
    """Whether this look was no probe itself: it came early, on a hint that a file was closed, or after a slow step."""
    is_early = now < _due_at(tracker, _judged(tracker, rules)[0], rules)
    return is_early or now - tracker.seen_at >= _third(rules.settle_ms)


def _changed(tracker: Tracker, signature: Signature, now: Millis) -> Tracker:
    # Only what was seen to stand still at least once counts as a pause, not a growing file that is looked at seldom.
    was_paused = tracker.signature is not None and tracker.seen_at > tracker.quiet_since
    pause_ms = now - tracker.quiet_since if was_paused else 0
    return replace(
        tracker,
        signature=signature,
        quiet_since=now,
        equal_looks=0,
        content=None,
        has_changed=tracker.has_changed or tracker.signature is not None,
        longest_pause_ms=max(tracker.longest_pause_ms, pause_ms),
    )


def _looked(tracker: Tracker, seen: Observation, now: Millis) -> Tracker:
    if seen.temp_sibling is not None:
        return replace(tracker, seen=seen, seen_at=now, trouble_since=None, equal_looks=0, content=None)
    return replace(
        tracker,
        seen=seen,
        seen_at=now,
        trouble_since=None,
        equal_looks=tracker.equal_looks + 1,
        content=seen if seen.deep else tracker.content,
    )


# -- what it means ------------------------------------------------------------------------------------

_Judgement = tuple[FileState, str, str]


def _judged(tracker: Tracker, rules: GateRules) -> _Judgement:
    if tracker.signature is None:
        return _judged_trouble(tracker)
    if tracker.seen.temp_sibling is not None:
        sibling = printable(tracker.seen.temp_sibling)
        return FileState.ARRIVING, "partial_copy", f"a partial copy lies beside it: {sibling} (delete it if it is old)"
    if tracker.signature.size < rules.min_bytes:
        return FileState.ARRIVING, "too_small", _too_small(tracker.signature.size, rules.min_bytes)
    if tracker.seen.writer:
        return FileState.BUSY, "open_for_writing", _open(tracker.signature)
    return _judged_quiet(tracker, tracker.signature, rules)


def _judged_trouble(tracker: Tracker) -> _Judgement:
    detail = f" ({printable(tracker.seen.detail)})" if tracker.seen.detail else ""
    match tracker.seen.trouble:
        case Trouble.BUSY:
            return FileState.BUSY, "busy", f"in use by another program{detail}"
        case Trouble.DENIED if tracker.seen_at - (tracker.trouble_since or 0) < LOCK_MS:
            return FileState.BUSY, "denied", f"locked, or this service may not read it{detail}"
        case Trouble.DENIED:
            return FileState.UNREADABLE, "denied", f"this service may not read it{detail}: give it read permission"
        case Trouble.NOT_REGULAR:
            return FileState.UNREADABLE, "not_regular", f"a link, folder, pipe or device is never taken{detail}"
        case Trouble.IO:
            return FileState.UNREADABLE, "io_error", f"reading it fails{detail}: copy it again or check the disk"
        case Trouble.GONE | None:
            return FileState.ARRIVING, "gone", "it was there a moment ago and is not now"


def _judged_quiet(tracker: Tracker, signature: Signature, rules: GateRules) -> _Judgement:
    needed_ms = _settle_ms(tracker, rules)
    content = tracker.content
    if tracker.quiet_ms < needed_ms or tracker.equal_looks < MIN_EQUAL_LOOKS or content is None:
        return FileState.ARRIVING, "settling", _settling(tracker, signature, needed_ms)
    if content.structure is Structure.TRUNCATED:
        return FileState.INCOMPLETE, "truncated", _truncated(tracker, content.structure_detail)
    held_ms = _held_ms(tracker, content, rules)
    if tracker.quiet_ms < held_ms:
        part, code = ("a part in its middle", "hole") if content.has_hole else ("its end", "zero_tail")
        return FileState.ARRIVING, code, f"{part} is still empty: {_quiet(tracker, max(needed_ms, held_ms))}"
    if content.has_hole:
        return FileState.COMPLETE, "sparse", "complete; its empty parts are taken as meant (a sparse file)"
    return FileState.COMPLETE, "complete", "complete"


def _may_hash(tracker: Tracker, rules: GateRules) -> bool:
    content = tracker.content
    return (
        tracker.signature is not None
        and tracker.signature.size >= rules.min_bytes
        and not tracker.seen.writer
        and content is not None
        and not (content.has_hole or content.has_zero_tail or content.structure is Structure.TRUNCATED)
    )


# -- how long -----------------------------------------------------------------------------------------


def _settle_ms(tracker: Tracker, rules: GateRules) -> int:
    if tracker.seen.writer is False:
        return min(LEASED_SETTLE_MS, rules.settle_ms)
    return max(rules.settle_ms, min(2 * tracker.longest_pause_ms, MAX_SETTLE_MS))


def _held_ms(tracker: Tracker, content: Observation, rules: GateRules) -> int:
    if content.has_hole:
        return HELD_SETTLES * rules.settle_ms
    if content.has_zero_tail:
        is_wav = tracker.seen.path.casefold().endswith(".wav")
        return (WAV_TAIL_SETTLES if is_wav else HELD_SETTLES) * rules.settle_ms
    return 0


def _due_at(tracker: Tracker, state: FileState, rules: GateRules) -> Millis:
    return tracker.seen_at + max(MIN_STEP_MS, _step_ms(tracker, state, rules))


def _step_ms(tracker: Tracker, state: FileState, rules: GateRules) -> int:
    """Return how long to wait with the next look: brisk while it settles, the longer it hangs the more patient."""
    waited_ms = tracker.seen_at - (tracker.trouble_since if tracker.trouble_since is not None else tracker.quiet_since)
    patient_ms = min(max(_third(rules.settle_ms), waited_ms // 10), MAX_STEP_MS)
    if state is FileState.COMPLETE:
        return MAX_STEP_MS
    if state is not FileState.ARRIVING or tracker.equal_looks == 0 or tracker.seen.writer:
        return patient_ms
    if (tracker.signature is None) or tracker.signature.size < rules.min_bytes:
        return patient_ms
    return _settling_step_ms(tracker, patient_ms, rules)


def _settling_step_ms(tracker: Tracker, patient_ms: int, rules: GateRules) -> int:
    needed_ms = _settle_ms(tracker, rules)
    if tracker.content is not None:
        needed_ms = max(needed_ms, _held_ms(tracker, tracker.content, rules))
    left_ms = needed_ms - tracker.quiet_ms
    step_ms = _third(min(LEASED_SETTLE_MS if _may_be_leased(tracker) else needed_ms, rules.settle_ms))
    if tracker.quiet_ms >= rules.settle_ms:
        step_ms = max(step_ms, patient_ms)
    is_last = tracker.equal_looks + 1 >= MIN_EQUAL_LOOKS and left_ms < step_ms + MIN_STEP_MS
    return left_ms if left_ms > 0 and is_last else step_ms


def _may_be_leased(tracker: Tracker) -> bool:
    return tracker.equal_looks == 1 and tracker.is_worth_a_probe and tracker.seen.writer is None


def _third(ms: int) -> int:
    return -(-ms // 3)


# -- words --------------------------------------------------------------------------------------------


def _too_small(size: int, min_bytes: int) -> str:
    return (
        f"{_bytes(size)} so far" if size == 0 else f"{_bytes(size)} so far, at least {_bytes(min_bytes)} are expected"
    )


def _open(signature: Signature) -> str:
    return f"open for writing by a program on this machine, {_bytes(signature.size)} so far"


def _settling(tracker: Tracker, signature: Signature, needed_ms: int) -> str:
    if tracker.quiet_ms == 0 and tracker.has_changed:
        return f"size still changing, {_bytes(signature.size)} so far"
    return _quiet(tracker, needed_ms)


def _quiet(tracker: Tracker, needed_ms: int) -> str:
    return f"quiet for {_span(min(tracker.quiet_ms, needed_ms))} of {_span(needed_ms)}"


def _truncated(tracker: Tracker, detail: str) -> str:
    because = f" ({printable(detail)})" if detail else ""
    if tracker.quiet_ms < TRUNCATED_MS:
        return f"its end is missing{because}: waiting for the rest"
    return f"looks truncated, copy or export it again{because}"


_KILO = 1000  # as file managers count
_EXACT_BYTES = 10_000  # below this the number itself says more
_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_SHOWN_SECONDS = 120  # up to here a person counts in seconds
_SHOWN_MINUTES = 120


def _bytes(size: int) -> str:
    """Return a size as file managers show it: `0 bytes`, `1.2 GB`."""
    if size < _EXACT_BYTES:
        return f"{size} bytes"
    value, unit = float(size), 0
    while round(value, 1) >= _KILO and unit < len(_UNITS) - 1:
        value, unit = value / _KILO, unit + 1
    return f"{value:.1f} {_UNITS[unit]}"


def _span(ms: int) -> str:
    seconds = ms // 1000
    minutes = seconds // 60
    if seconds < _SHOWN_SECONDS:
        return f"{seconds} s"
    return f"{minutes} min" if minutes < _SHOWN_MINUTES else f"{minutes // 60} h"
