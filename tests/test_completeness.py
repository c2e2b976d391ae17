"""Is a file whole? Each test plays looks at a file against the gate, as the disk would report them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chamelaion_watch.core.completeness import GateRules, Tracker, Verdict, observe, verdict
from chamelaion_watch.core.model import FileState, Observation, Signature, Structure, Trouble

LOCAL = GateRules(settle_ms=10_000, min_bytes=1024)
NETWORK = GateRules(settle_ms=30_000, min_bytes=1024)
DEMO = GateRules(settle_ms=1_000, min_bytes=1024)
MINUTE = 60_000
BIG = Signature(5_000_000, 1)


class Gate:
    """One file under watch: `see` is one look, with the content checked when the signature still holds."""

    def __init__(self, rules: GateRules = LOCAL, path: str = "scene.mp4") -> None:
        self.rules, self.path = rules, path
        self.now = 1_000_000
        self.tracker: Tracker | None = None

    def see(self, signature: Signature | None = BIG, *, after: int = 0, **facts: Any) -> Verdict:
        self.now += after
        last = self.tracker.signature if self.tracker else None
        deep = signature is not None and signature == last
        shown = Observation(self.path, signature=signature, **({"deep": deep} | facts))
        self.tracker = observe(self.tracker, shown, self.now, self.rules)
        return self.verdict()

    def verdict(self) -> Verdict:
        assert self.tracker
        return verdict(self.tracker, self.now, self.rules)

    def run_until_complete(self, limit: int = 20 * MINUTE, **facts: Any) -> int:
        """Look whenever the verdict asks for it; return the milliseconds that it took."""
        start, found = self.now, self.see(**facts)
        while found.state is not FileState.COMPLETE:
            assert self.now - start <= limit, found
            found = self.see(after=found.next_look_at - self.now, **facts)
        return self.now - start


# -- settling -----------------------------------------------------------------------------------------


def test_a_quiet_file_is_complete_after_the_settle_time() -> None:
    assert Gate(LOCAL).run_until_complete() == 10_000
    assert Gate(NETWORK).run_until_complete() == 30_000


def test_a_file_without_a_writer_is_complete_two_seconds_after_the_first_quiet_look() -> None:
    gate = Gate(LOCAL)
    assert 2_000 <= gate.run_until_complete(writer=False) <= 2_200
    assert 2_000 <= Gate(NETWORK).run_until_complete(writer=False) <= 2_200


def test_the_fast_path_is_never_longer_than_settle() -> None:
    assert Gate(DEMO).run_until_complete(writer=False) == 1_000
    assert Gate(DEMO).run_until_complete() <= 1_200


def test_threat_30_three_equal_looks_are_needed_however_long_it_was_quiet() -> None:
    gate = Gate()
    gate.see()
    assert gate.see(after=10 * MINUTE, writer=False).state is FileState.ARRIVING
    assert gate.see(after=500, writer=False).state is FileState.COMPLETE


def test_many_looks_at_once_do_not_shorten_the_settle_time() -> None:
    gate = Gate()
    assert all(gate.see(after=1).state is FileState.ARRIVING for _ in range(50))


def test_time_without_a_look_proves_nothing() -> None:
    gate = Gate()
    for _ in range(3):
        gate.see(after=500)
    gate.now += 5 * MINUTE
    assert gate.verdict().state is FileState.ARRIVING


def test_a_file_whose_content_was_never_checked_is_not_complete() -> None:
    gate = Gate()
    assert all(gate.see(after=10_000, deep=False).state is FileState.ARRIVING for _ in range(10))


def test_threat_29_a_change_of_size_or_time_begins_anew() -> None:
    gate = Gate()
    gate.run_until_complete()
    assert gate.see(Signature(BIG.size, 2), after=500).state is FileState.ARRIVING
    assert gate.see(Signature(BIG.size + 1, 2), after=500).state is FileState.ARRIVING


def test_threat_32_an_old_modification_time_is_no_sign_of_age() -> None:
    gate = Gate()
    assert gate.see(Signature(5_000_000, -(10**18))).state is FileState.ARRIVING


def test_a_growing_file_says_how_much_is_there() -> None:
    gate = Gate()
    gate.see(Signature(1_100_000_000, 1))
    found = gate.see(Signature(1_200_000_000, 2), after=4_000)
    assert (found.state, found.reason) == (FileState.ARRIVING, "size still changing, 1.2 GB so far")


def test_a_quiet_file_says_how_long_it_is_quiet() -> None:
    gate = Gate()
    gate.see()
    assert gate.see(after=4_200).reason == "quiet for 4 s of 10 s"


# -- pauses in a copy ---------------------------------------------------------------------------------


def growing_with_pauses(gate: Gate, pause: int, times: int, **facts: Any) -> None:
    for number in range(times):
        for after in (500, pause // 2, pause // 2 - 500):
            gate.see(Signature(5_000_000 + number, number), after=after, **facts)


def test_pauses_seen_in_a_copy_stretch_the_settle_time_to_twice_the_longest() -> None:
    gate = Gate()
    growing_with_pauses(gate, 9_000, 4)
    gate.see(Signature(9_000_000, 99), after=500)
    assert 17_000 <= gate.run_until_complete(signature=Signature(9_000_000, 99)) <= 19_000


def test_the_stretch_ends_at_ten_minutes() -> None:
    gate = Gate(NETWORK)
    growing_with_pauses(gate, 8 * MINUTE, 2, structure=Structure.TRUNCATED)
    gate.see(Signature(9_000_000, 99), after=500)
    assert gate.run_until_complete(signature=Signature(9_000_000, 99)) == 10 * MINUTE


def test_a_growing_file_that_is_looked_at_seldom_has_no_pauses() -> None:
    gate = Gate(NETWORK)
    for number in range(30):
        gate.see(Signature(5_000_000 + number, number), after=50_000)
    assert gate.run_until_complete() == 30_000


def test_threat_29_a_pause_of_a_minute_after_a_false_end_makes_the_gate_patient() -> None:
    gate = Gate()
    gate.run_until_complete()
    gate.see(Signature(6_000_000, 2), after=MINUTE)
    assert gate.run_until_complete(signature=Signature(6_000_000, 2)) >= 2 * MINUTE


def test_a_new_version_of_a_file_that_was_whole_for_long_settles_as_usual() -> None:
    gate = Gate()
    gate.run_until_complete()
    assert gate.see(Signature(6_000_000, 2), after=24 * 60 * MINUTE).state is FileState.ARRIVING
    assert gate.run_until_complete(signature=Signature(6_000_000, 2)) == 10_000


def test_a_proven_absence_of_writers_is_not_stretched() -> None:
    gate = Gate()
    gate.run_until_complete()
    gate.see(Signature(6_000_000, 2), after=MINUTE, writer=False)
    assert gate.run_until_complete(signature=Signature(6_000_000, 2), writer=False) <= 2_200


# -- signs of a writer --------------------------------------------------------------------------------


def test_threat_29_a_file_open_for_writing_is_busy_however_quiet() -> None:
    gate = Gate()
    for _ in range(20):
        found = gate.see(after=MINUTE, writer=True)
    assert (found.state, found.code, found.may_hash) == (FileState.BUSY, "open_for_writing", False)
    assert "open for writing by a program on this machine" in found.reason


def test_a_writer_that_closes_a_long_quiet_file_releases_it_at_once() -> None:
    gate = Gate()
    for _ in range(5):
        gate.see(after=5_000, writer=True)
    assert gate.see(after=500, writer=False).state is FileState.COMPLETE


def test_threat_35_a_partial_copy_beside_it_holds_a_file() -> None:
    gate = Gate()
    for _ in range(10):
        found = gate.see(after=10_000, temp_sibling="scene.mp4.part")
    assert (found.state, found.code, found.may_hash) == (FileState.ARRIVING, "partial_copy", False)
    assert "scene.mp4.part" in found.reason
    assert gate.see(after=500).state is FileState.ARRIVING
    gate.see(after=500)
    assert gate.see(after=500).state is FileState.COMPLETE


def test_a_hostile_name_is_shown_escaped() -> None:
    assert "\n" not in Gate().see(temp_sibling="scene.mp4\n\x1b.part").reason


@pytest.mark.parametrize("size", [0, 1, 1023])
def test_threat_35_a_tiny_file_is_still_arriving_and_never_an_error(size: int) -> None:
    gate = Gate()
    for _ in range(50):
        found = gate.see(Signature(size, 1), after=10 * MINUTE)
    assert (found.state, found.code, found.may_hash) == (FileState.ARRIVING, "too_small", False)
    assert found.reason.startswith(f"{size} bytes so far")


def test_a_file_of_just_the_smallest_size_is_taken() -> None:
    assert Gate().run_until_complete(signature=Signature(1024, 1)) == 10_000


# -- holes, empty ends, structure ---------------------------------------------------------------------


def test_threat_42_a_hole_holds_for_ten_settle_times_and_then_goes_on_as_sparse() -> None:
    gate = Gate()
    assert gate.run_until_complete(has_hole=True) == 100_000
    assert gate.verdict().code == "sparse"


def test_a_hole_holds_even_when_nobody_writes() -> None:
    assert Gate().run_until_complete(has_hole=True, writer=False) == 100_000


def test_an_empty_end_holds_for_ten_settle_times() -> None:
    assert Gate().run_until_complete(has_zero_tail=True) == 100_000


def test_digital_silence_at_the_end_of_a_wav_holds_for_two() -> None:
    assert Gate(path="Scene.WAV").run_until_complete(has_zero_tail=True) == 20_000


def test_threat_29_a_preallocated_file_that_is_being_filled_is_never_complete() -> None:
    gate = Gate()
    for moment in range(60):
        found = gate.see(Signature(5_000_000, moment // 5), after=2_000, has_hole=True, has_zero_tail=True)
        assert found.state is FileState.ARRIVING
        assert not found.may_hash


def test_what_holds_a_file_is_said() -> None:
    gate = Gate()
    for _ in range(12):
        found = gate.see(after=1_000, has_hole=True)
    assert found.reason == "a part in its middle is still empty: quiet for 11 s of 100 s"


def test_a_truncated_file_is_incomplete_once_it_is_quiet() -> None:
    gate = Gate()
    gate.see()
    assert gate.see(after=5_000, structure=Structure.TRUNCATED).state is FileState.ARRIVING
    found = gate.see(after=5_000, structure=Structure.TRUNCATED, structure_detail="no moov box")
    assert (found.state, found.may_hash) == (FileState.INCOMPLETE, False)
    assert "no moov box" in found.reason
    assert "waiting for the rest" in found.reason


def test_after_a_quarter_of_an_hour_a_person_is_told_and_it_keeps_looking() -> None:
    gate = Gate()
    gate.see()
    for _ in range(16):
        found = gate.see(after=MINUTE, structure=Structure.TRUNCATED)
    assert found.state is FileState.INCOMPLETE
    assert found.reason == "looks truncated, copy or export it again"
    assert found.next_look_at - gate.now == MINUTE


def test_a_truncated_file_that_is_copied_again_is_taken() -> None:
    gate = Gate()
    for _ in range(30):
        gate.see(after=MINUTE, structure=Structure.TRUNCATED)
    gate.see(Signature(7_000_000, 5), after=MINUTE)
    assert gate.run_until_complete(signature=Signature(7_000_000, 5), writer=False) <= 2_200


def test_content_checked_before_a_change_counts_no_more() -> None:
    gate = Gate()
    gate.see()
    assert gate.see(after=700).may_hash
    assert not gate.see(Signature(6_000_000, 2), after=700).may_hash


def test_hashing_may_begin_at_the_first_equal_look() -> None:
    gate = Gate()
    assert not gate.see().may_hash
    assert gate.see(after=700).may_hash


@pytest.mark.parametrize(
    "fact", [{"has_hole": True}, {"has_zero_tail": True}, {"structure": Structure.TRUNCATED}, {"writer": True}]
)
def test_nothing_suspicious_is_hashed_while_it_settles(fact: dict[str, Any]) -> None:
    gate = Gate()
    gate.see(**fact)
    assert not gate.see(after=700, **fact).may_hash


def test_a_held_file_may_be_hashed_once_it_is_complete() -> None:
    gate = Gate()
    gate.run_until_complete(has_hole=True)
    assert gate.verdict().may_hash


# -- trouble ------------------------------------------------------------------------------------------


def test_a_lock_makes_a_file_busy_and_what_was_seen_before_counts_no_more() -> None:
    gate = Gate()
    gate.run_until_complete()
    assert gate.see(None, after=500, trouble=Trouble.BUSY).state is FileState.BUSY
    assert gate.see(after=500).state is FileState.ARRIVING
    assert gate.run_until_complete() >= 10_000


def test_a_denial_is_taken_for_a_lock_for_five_minutes_and_then_for_missing_rights() -> None:
    gate = Gate()
    gate.see()
    assert gate.see(None, after=1_000, trouble=Trouble.DENIED).state is FileState.BUSY
    assert gate.see(None, after=4 * MINUTE + 59_000, trouble=Trouble.DENIED).state is FileState.BUSY
    found = gate.see(None, after=1_000, trouble=Trouble.DENIED, detail="Permission denied")
    assert found.state is FileState.UNREADABLE
    assert "Permission denied" in found.reason
    assert "read permission" in found.reason
    assert found.next_look_at - gate.now <= MINUTE
    assert gate.see(after=MINUTE).state is FileState.ARRIVING


def test_a_denial_that_went_away_begins_anew() -> None:
    gate = Gate()
    gate.see(None, trouble=Trouble.DENIED)
    gate.see(after=4 * MINUTE)
    assert gate.see(None, after=2 * MINUTE, trouble=Trouble.DENIED).state is FileState.BUSY


def test_a_link_or_a_pipe_is_never_taken() -> None:
    gate = Gate()
    for _ in range(20):
        found = gate.see(None, after=MINUTE, trouble=Trouble.NOT_REGULAR)
    assert (found.state, found.code, found.may_hash) == (FileState.UNREADABLE, "not_regular", False)


def test_threat_17_a_bad_disk_is_unreadable_and_looked_at_again() -> None:
    found = Gate().see(None, trouble=Trouble.IO, detail="Input/output error")
    assert (found.state, found.code) == (FileState.UNREADABLE, "io_error")


def test_a_read_error_with_a_signature_is_a_read_error() -> None:
    assert Gate().see(BIG, trouble=Trouble.IO).code == "io_error"


def test_a_vanished_file_is_never_complete() -> None:
    gate = Gate()
    gate.run_until_complete()
    assert gate.see(None, after=500, trouble=Trouble.GONE).code == "gone"


# -- when to look again -------------------------------------------------------------------------------


def test_the_fast_path_looks_no_more_than_five_times() -> None:
    gate = Gate()
    found, looks = gate.see(writer=False), 1
    while found.state is not FileState.COMPLETE:
        found, looks = gate.see(after=found.next_look_at - gate.now, writer=False), looks + 1
    assert looks <= 5


@pytest.mark.parametrize("rules", [LOCAL, NETWORK])
def test_a_growing_file_is_looked_at_with_each_third_of_the_settle_time_and_probed_once_after_it(
    rules: GateRules,
) -> None:
    gate, looks, start = Gate(rules), 0, 1_000_000
    found = gate.see(Signature(5_000_000, 0))
    while gate.now < start + 10 * MINUTE:
        looks += 1
        found = gate.see(Signature(5_000_000, looks), after=found.next_look_at - gate.now)
    assert looks <= 2 * 10 * MINUTE / (rules.settle_ms / 3) + 2


@pytest.mark.parametrize("hint_after", [100, 700, 1_500, 3_000, 3_400])
def test_a_file_that_grew_is_taken_two_seconds_after_it_was_closed(hint_after: int) -> None:
    """The lease is asked for only at a look that finds the signature of the look before."""
    gate = Gate(LOCAL)
    found = gate.see(Signature(1_000_000, 0))
    for number in range(1, 8):
        found = gate.see(Signature(1_000_000, number), after=found.next_look_at - gate.now)
    found, closed_at = gate.see(after=hint_after), gate.now
    while found.state is not FileState.COMPLETE:
        step = found.next_look_at - gate.now
        found = gate.see(after=step, writer=False if gate.tracker and gate.tracker.equal_looks else None)
    assert gate.now - closed_at <= 2_200


def test_the_longer_a_file_hangs_the_more_patient_are_the_looks_up_to_a_minute() -> None:
    gate = Gate()
    found, steps = gate.see(Signature(0, 1)), []
    for _ in range(60):
        steps.append(found.next_look_at - gate.now)
        found = gate.see(Signature(0, 1), after=steps[-1])
    assert steps == sorted(steps)
    assert steps[-1] == MINUTE


def test_a_look_that_is_due_is_not_in_the_past() -> None:
    gate = Gate()
    gate.see()
    gate.now += MINUTE
    assert gate.verdict().next_look_at == gate.now


SIGHTS = st.fixed_dictionaries(
    {
        "after": st.integers(0, 120_000),
        "signature": st.sampled_from([BIG, Signature(5_000_000, 2), Signature(0, 0), Signature(6_000_000, 1)]),
        "writer": st.sampled_from([None, None, False, True]),
        "has_hole": st.booleans(),
        "has_zero_tail": st.booleans(),
        "structure": st.sampled_from(Structure),
        "temp_sibling": st.sampled_from([None, None, None, "scene.mp4.part"]),
        "trouble": st.sampled_from([None, None, None, None, *Trouble]),
    }
)


@given(st.lists(SIGHTS, max_size=25), st.sampled_from([LOCAL, NETWORK, DEMO]))
@settings(max_examples=300)
def test_complete_always_means_quiet_equal_whole_and_free_of_writers(
    sights: list[dict[str, Any]], rules: GateRules
) -> None:
    gate = Gate(rules)
    seen: list[tuple[int, dict[str, Any]]] = []
    for sight in sights:
        found = gate.see(**sight)
        seen.append((gate.now, sight))
        assert 500 <= found.next_look_at - gate.now <= MINUTE
        if found.state is not FileState.COMPLETE:
            continue
        equal = _equal_at_the_end(seen)
        assert len(equal) >= 3
        assert gate.now - equal[0][0] >= min(2_000 if sight["writer"] is False else 10**9, rules.settle_ms)
        assert sight["signature"].size >= rules.min_bytes
        assert sight["writer"] is not True
        assert sight["structure"] is not Structure.TRUNCATED


def _equal_at_the_end(seen: list[tuple[int, dict[str, Any]]]) -> list[tuple[int, dict[str, Any]]]:
    last = seen[-1][1]["signature"]
    for start in range(len(seen), 0, -1):
        sight = seen[start - 1][1]
        if sight["signature"] != last or sight["trouble"] or sight["temp_sibling"]:
            return seen[start:]
    return seen
