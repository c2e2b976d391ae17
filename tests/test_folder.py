"""One root, by scripts of what its scans saw."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chamelaion_watch.core import unread
from chamelaion_watch.core.backlog import BACKLOG, release
from chamelaion_watch.core.folder import CONFIRM_MS, HINT_PAUSE_MS, UNWELL_MS, Folder
from chamelaion_watch.core.messages import Hash, RootFacts
from chamelaion_watch.core.model import FileState, Observation, RootState, Signature, Source, Trouble
from chamelaion_watch.core.reading import LARGE_BYTES
from tests.builders import FINE, NOW, folder_policy, folder_with, job, looked, settle, sha, source, sweep

SIGNATURE = Signature(5_000, 1)
GONE = RootFacts(RootState.NOT_MOUNTED, "unmounted")
S_ = 1_000


def folder(*paths: str) -> Folder:
    made = Folder(folder_policy())
    made.scanned(sweep(appeared=paths), NOW)
    return made


def identity(made: Folder, path: str) -> Source | None:
    return made.files[path].source


def with_pair(made: Folder | None = None) -> Folder:
    made = made or folder("s.mp4", "s.wav")
    for path in ("s.mp4", "s.wav"):
        now = settle(made, path, SIGNATURE, NOW)
        made.hashed(path, SIGNATURE, sha(path), now)
    made.scanned(sweep(), NOW + 60 * S_)
    return made


# -- arriving -----------------------------------------------------------------------------------------


def test_a_pair_is_ready_when_both_are_quiet_and_identified() -> None:
    made = folder("s.mp4", "s.wav")
    assert made.sources(made.pairs["s"]) is None
    made = with_pair(made)
    assert made.sources(made.pairs["s"]) == (source("s.mp4"), source("s.wav"))
    assert "s" in made.index.ready
    assert {one.path for one in made.identified} == {"s.mp4", "s.wav"}


def test_a_hash_begins_while_the_file_settles_and_only_one_large_file_is_read_at_a_time() -> None:
    sizes = {"s1.mp4": LARGE_BYTES, "s2.mp4": LARGE_BYTES + 1, "s1.wav": 5_000}
    made = folder(*sizes)
    for path, size in sizes.items():
        made.scanned(looked((path, Signature(size, 1))), NOW)
        made.scanned(looked((path, Signature(size, 1)), deep=True), NOW + S_)
    first = Hash("a", "s1.mp4", Signature(LARGE_BYTES, 1))
    assert made.hash_wanted() == first
    assert made.files["s1.mp4"].state is FileState.ARRIVING
    made.reading.begun(first.path, first.signature)
    small = Hash("a", "s1.wav", Signature(5_000, 1))
    assert made.hash_wanted() == small
    made.reading.begun(small.path, small.signature)
    assert made.hash_wanted() is None
    made.hashed(first.path, first.signature, sha("s1"), NOW + S_)
    assert made.hash_wanted() == Hash("a", "s2.mp4", Signature(LARGE_BYTES + 1, 1))


def test_a_hash_of_what_the_file_was_is_thrown_away() -> None:
    made = folder("s.mp4")
    now = settle(made, "s.mp4", SIGNATURE, NOW)
    made.scanned(looked(("s.mp4", Signature(6_000, 2))), now)
    made.hashed("s.mp4", SIGNATURE, sha("old"), now)
    assert made.files["s.mp4"].content is None
    assert made.reading.under_way == {}


def test_a_source_that_changes_goes_through_the_gate_again() -> None:
    made = with_pair()
    made.index.ready.clear()
    made.scanned(looked(("s.mp4", Signature(7_000, 9))), NOW + 90 * S_)
    assert made.files["s.mp4"].state is FileState.ARRIVING
    assert made.holding(made.pairs["s"]) is made.files["s.mp4"]


def test_a_source_that_cannot_be_looked_at_now_is_still_what_it_was() -> None:
    made = with_pair()
    made.scanned(sweep(observations=(Observation("s.mp4", trouble=Trouble.BUSY),)), NOW + 90 * S_)
    assert made.files["s.mp4"].state is FileState.COMPLETE


def test_a_recheck_opens_it_and_looks_at_once() -> None:
    made = with_pair()
    made.recheck("s.mp4", NOW + 70 * S_)
    assert made.files["s.mp4"].source is None
    assert made.scan_at(NOW + 70 * S_) <= NOW + 70 * S_
    assert made.scan(NOW + 70 * S_, [], []).is_sweep


# -- a restart ----------------------------------------------------------------------------------------


def known(*, is_over: bool) -> Folder:
    made = Folder(folder_policy(), known={"s.mp4": (SIGNATURE, sha("s.mp4"), is_over)})
    made.scanned(sweep(appeared=("s.mp4",)), NOW)
    made.scanned(looked(("s.mp4", SIGNATURE)), NOW)
    return made


def test_after_a_restart_a_file_whose_job_is_over_needs_one_look() -> None:
    made = known(is_over=True)
    assert made.files["s.mp4"].source == source("s.mp4")
    assert made.identified == []


def test_after_a_restart_a_file_that_is_still_to_be_sent_goes_through_the_gate_but_is_not_read_again() -> None:
    made = known(is_over=False)
    assert identity(made, "s.mp4") is None
    settle(made, "s.mp4", SIGNATURE, NOW)
    assert identity(made, "s.mp4") == source("s.mp4")
    assert made.hash_wanted() is None


def test_after_a_restart_a_file_that_changed_meanwhile_is_a_new_one() -> None:
    made = Folder(folder_policy(), known={"s.mp4": (Signature(1, 1), sha("old"), True)})
    made.scanned(sweep(appeared=("s.mp4",)), NOW)
    settle(made, "s.mp4", SIGNATURE, NOW)
    assert made.files["s.mp4"].source is None
    assert made.hash_wanted() == Hash("a", "s.mp4", SIGNATURE)


# -- gone ---------------------------------------------------------------------------------------------


def test_a_file_is_gone_after_two_complete_healthy_sweeps() -> None:
    made = with_pair()
    made.index.gone.clear()
    made.scanned(sweep(vanished=("s.wav",)), NOW + 61 * S_)
    assert "s.wav" in made.files
    assert made.scan_at(NOW + 61 * S_) == NOW + 61 * S_ + CONFIRM_MS
    made.scanned(sweep(), NOW + 63 * S_)
    assert "s.wav" not in made.files
    assert set(made.index.gone) == {"s"}
    assert made.forgotten == ["s.wav"]


def test_threat_27_neither_an_incomplete_sweep_nor_a_look_counts() -> None:
    made = with_pair()
    made.scanned(sweep(vanished=("s.wav",)), NOW + 61 * S_)
    made.scanned(sweep(is_complete=False), NOW + 63 * S_)
    made.scanned(looked(), NOW + 64 * S_)
    assert "s.wav" in made.files


def test_a_file_that_is_back_in_time_was_never_gone() -> None:
    made = with_pair()
    made.scanned(sweep(vanished=("s.wav",)), NOW + 61 * S_)
    made.scanned(sweep(appeared=("s.wav",)), NOW + 63 * S_)
    made.scanned(sweep(), NOW + 65 * S_)
    assert made.has(job(key="s"))


@pytest.mark.parametrize("state", [state for state in RootState if state is not RootState.OK])
def test_threat_26_27_a_root_that_is_not_well_is_frozen_as_it_was(state: RootState) -> None:
    made = with_pair()
    before = dict(made.files)
    made.scanned(sweep(vanished=("s.mp4", "s.wav"), facts=RootFacts(state, "why")), NOW + 61 * S_)
    assert (made.state, made.reason, made.state_since_at) == (state, "why", NOW + 61 * S_)
    assert made.files == before
    assert made.hash_wanted() is None
    assert made.scan_at(NOW + 61 * S_) == NOW + 61 * S_ + UNWELL_MS
    assert made.scan(NOW + 71 * S_, ["n.txt"], ["s.mp4"]).looks == ()
    made.scanned(sweep(), NOW + 72 * S_)
    assert made.is_ok
    assert made.has(job(key="s"))


def test_back_again_its_files_are_looked_at_at_once() -> None:
    """What was rewritten in place meanwhile touched no folder, and was found a sweep late (simulated life 46468)."""
    made = folder_with(job())
    made.scanned(sweep(), NOW)
    assert made.scan_at(NOW) > NOW
    made.scanned(sweep(facts=GONE), NOW + 60 * S_)
    made.scanned(sweep(), NOW + 70 * S_)
    assert made.scan_at(NOW + 70 * S_) == NOW + 70 * S_
    scan = made.scan(NOW + 70 * S_, (), ())
    assert {look.path for look in scan.looks} == {"s1.mp4", "s1.wav"}
    made.scanned(sweep(), NOW + 71 * S_)
    assert made.scan_at(NOW + 71 * S_) > NOW + 71 * S_


def test_threat_26_27_what_a_share_does_not_show_as_it_comes_back_is_looked_for_again_for_2_s() -> None:
    """The sweep that follows the return at once must not be the second that finds it gone."""
    made = with_pair()
    made.scanned(sweep(), NOW + 59 * S_)
    made.scanned(sweep(facts=GONE), NOW + 60 * S_)
    now, gone_at = NOW + 70 * S_, None
    made.scanned(sweep(vanished=("s.mp4", "s.wav")), now)
    back_at = now
    while gone_at is None:
        now = made.scan_at(now)
        made.scanned(sweep(), now)
        gone_at = now if "s.mp4" not in made.files else None
    assert gone_at - back_at == CONFIRM_MS


def test_a_note_that_was_missing_before_and_after_the_share_was_away_was_not_missing_twice_in_a_row() -> None:
    made = folder_with(job())
    made.scanned(sweep(missing_notes=("n.txt",)), NOW)
    made.scanned(sweep(facts=GONE), NOW + 2 * S_)
    made.scanned(sweep(), NOW + 12 * S_)
    made.scanned(sweep(missing_notes=("n.txt",)), NOW + 12 * S_)
    assert not made.reported_missing("n.txt")
    assert made.scan_at(NOW + 12 * S_) == NOW + 12 * S_ + CONFIRM_MS
    made.scanned(sweep(missing_notes=("n.txt",)), NOW + 14 * S_)
    assert made.reported_missing("n.txt")


def test_threat_09_26_a_hung_root_is_frozen_until_its_scan_comes_back() -> None:
    made = with_pair()
    made.hung(NOW + 61 * S_)
    assert (made.state, made.hash_wanted()) == (RootState.HUNG, None)
    made.scanned(sweep(), NOW + 300 * S_)
    assert made.is_ok


# -- what is looked at, and when ----------------------------------------------------------------------


def test_hints_bring_the_sweep_forward_but_not_at_each_of_a_thousand() -> None:
    made = with_pair()
    swept_at = NOW + 60 * S_
    for late in range(10):
        made.hinted(swept_at + late)
    assert made.scan_at(swept_at + 10) == swept_at + HINT_PAUSE_MS


def test_threat_25_a_network_share_is_listed_more_often_and_never_for_more_than_a_fifth_of_the_time() -> None:
    facts = replace(FINE, has_events=False, is_network=True)
    made = Folder(folder_policy())
    made.scanned(sweep(facts=facts), NOW)
    assert made.scan_at(NOW) == NOW + 10 * S_
    made.scanned(replace(sweep(facts=facts), took_ms=30 * S_), NOW)
    assert made.scan_at(NOW) == NOW + 120 * S_


def test_each_sweep_looks_at_the_files_of_open_jobs_and_some_that_are_complete() -> None:
    made = with_pair()
    action = made.scan(NOW + 120 * S_, ["n.txt"], ["s.mp4", "not there"])
    assert action.is_sweep
    assert [look.path for look in action.looks] == ["s.mp4", "s.wav"]
    assert all(look.is_brief for look in action.looks)
    assert action.notes == ("n.txt",)


def test_on_a_share_the_files_of_open_jobs_are_opened_for_that_look() -> None:
    """What a stat says of a share may be a minute old; opening asks its server."""
    made = with_pair()
    made.scanned(sweep(facts=replace(FINE, has_events=False, is_network=True)), NOW)
    action = made.scan(NOW + 120 * S_, [], ["s.mp4"])
    assert [(look.path, look.is_brief) for look in action.looks] == [("s.mp4", False), ("s.wav", True)]


def test_complete_files_take_turns() -> None:
    jobs = [job(number, key=f"s{number:03}") for number in range(300)]
    made = folder_with(*jobs)
    seen = [look.path for _ in range(6) for look in made.scan(NOW + 120 * S_, [], []).looks]
    assert sorted(seen) == sorted(made.files)


def test_the_files_of_many_open_jobs_are_looked_at_one_share_after_another_and_again_after_the_next_sweep() -> None:
    """A thousand queued pairs were all looked at with each sweep, 4 times a second while results arrived."""
    jobs = [job(number, key=f"s{number:04}") for number in range(250)]
    made = folder_with(*jobs)
    watched, now, seen = sorted(made.files), NOW + 120 * S_, []
    for _ in range(3):
        action = made.scan(now, [], watched)
        seen.append({look.path for look in action.looks} & set(watched[:500]))
        made.scanned(replace(sweep() if action.is_sweep else looked(), action=action), now)
        assert made.scan_at(now) == now + HINT_PAUSE_MS or len(seen) == 3
        now = made.scan_at(now)
    assert set.union(*seen) >= set(watched[:500])
    assert now >= NOW + 180 * S_


def test_a_file_that_is_arriving_is_looked_at_between_the_sweeps() -> None:
    made = folder("s.mp4")
    made.scanned(looked(("s.mp4", SIGNATURE)), NOW)
    at = made.scan_at(NOW)
    assert NOW < at < NOW + 10 * S_
    action = made.scan(at, ["n.txt"], [])
    assert not action.is_sweep
    assert [(look.path, look.last) for look in action.looks] == [("s.mp4", SIGNATURE)]
    assert action.notes == ()


# -- notes that a person deleted ----------------------------------------------------------------------


def test_a_note_is_deleted_when_two_healthy_sweeps_miss_it() -> None:
    made = with_pair()
    made.scanned(sweep(missing_notes=("n.txt",)), NOW + 61 * S_)
    assert not made.reported_missing("n.txt")
    made.scanned(sweep(facts=GONE), NOW + 62 * S_)
    made.scanned(sweep(missing_notes=("n.txt",)), NOW + 80 * S_)
    assert made.reported_missing("n.txt")
    made.forget_missing(["n.txt"])
    assert not made.reported_missing("n.txt")


def test_a_note_that_is_there_again_starts_anew() -> None:
    made = with_pair()
    for missing in (("n.txt",), (), ("n.txt",)):
        made.scanned(sweep(missing_notes=missing), NOW + 61 * S_)
    assert not made.reported_missing("n.txt")


def test_a_missing_note_is_confirmed_soon_and_then_hurries_nobody() -> None:
    """An attention note that a person deleted, and that is not written again, made a share be swept each 2 s for ever."""
    made = with_pair()
    made.scanned(sweep(missing_notes=("n.txt",)), NOW + 61 * S_)
    assert made.scan_at(NOW + 61 * S_) == NOW + 61 * S_ + CONFIRM_MS
    made.scanned(sweep(missing_notes=("n.txt",)), NOW + 63 * S_)
    assert made.scan_at(NOW + 63 * S_) == NOW + 63 * S_ + 60 * S_


# -- the backlog --------------------------------------------------------------------------------------


def archive(count: int, *, is_new: bool = True, holds: bool = True, pattern: str = "s{0}{1}") -> Folder:
    made = Folder(folder_policy(holds_backlog=holds), is_new=is_new)
    paths = tuple(pattern.format(number, ending) for number in range(count) for ending in (".mp4", ".wav"))
    made.scanned(sweep(appeared=paths), NOW)
    return made


def test_more_than_twenty_pairs_that_were_here_before_are_held() -> None:
    assert len(archive(BACKLOG + 1).held) == BACKLOG + 1
    assert archive(BACKLOG).held == set()
    assert archive(BACKLOG + 1, is_new=False).held == set()
    assert archive(BACKLOG + 1, holds=False).held == set()


def test_an_archive_of_job_folders_is_held_though_none_of_them_is_quiet_yet() -> None:
    """They are pairs only when everything in them has settled, which is after the first sweep."""
    made = Folder(folder_policy(), is_new=True)
    paths = tuple(f"job{number}/{name}" for number in range(30) for name in ("take.mp4", "voice.wav"))
    made.scanned(sweep(appeared=paths), NOW)
    assert made.pairs == {}
    assert len(made.held) == 30


def test_what_arrives_later_is_not_held_and_what_is_released_is_offered() -> None:
    made = archive(BACKLOG + 1)
    made.scanned(sweep(appeared=("new.mp4", "new.wav")), NOW + 60 * S_)
    assert "new" not in made.held
    made.index.ready.clear()
    assert len(release(made)) == BACKLOG + 1
    assert made.held == set()
    assert len(made.index.ready) == BACKLOG + 1


# -- pairs --------------------------------------------------------------------------------------------


def test_a_job_has_its_sources_only_while_they_are_its_pair() -> None:
    made = with_pair()
    assert made.has(job(key="s"))
    assert not made.has(job(key="s", audio=source("s.wav", "other content")))
    made.scanned(sweep(appeared=("s.mp3",)), NOW + 61 * S_)
    assert "s" not in made.pairs  # two audios: only a person can say
    assert not made.has(job(key="s"))
    assert not made.is_restless(job(key="s"))


def test_a_dead_processs_temp_is_told_and_is_no_media() -> None:
    made = folder(".s.lipsync-part", "s.mp4")
    assert made.temps == {".s.lipsync-part"}
    assert set(made.files) == {"s.mp4"}


def test_a_dead_processs_temp_that_a_share_did_not_show_at_first_is_told_when_it_appears() -> None:
    """The first sweep saw an empty mount point that looked well: the temp stayed for ever (simulated life 58059)."""
    made = folder()
    made.scanned(sweep(facts=GONE), NOW + S_)
    made.scanned(sweep(appeared=(".s.lipsync-part",)), NOW + 11 * S_)
    assert made.temps == {".s.lipsync-part"}


def test_a_temp_that_appears_while_all_is_well_is_our_own_at_work() -> None:
    """One of a note was removed while it was written, and its folder was taken for one that cannot be written to."""
    made = folder()
    made.scanned(sweep(appeared=(".s.lipsync-error.txt.lipsync-part",)), NOW + S_)
    assert made.temps == set()


# -- content that cannot be read ------------------------------------------------------------------------


def test_threat_17_content_that_cannot_be_read_is_said_and_read_again_after_longer_and_longer_waits() -> None:
    made = folder("s.mp4")
    now = settle(made, "s.mp4", SIGNATURE, NOW)
    waits = []
    for _ in range(8):
        failed_at = now
        made.unreadable("s.mp4", SIGNATURE, "Input/output error", now)
        while made.hash_wanted() is None:
            now = settle(made, "s.mp4", SIGNATURE, now)
            assert made.files["s.mp4"].state is FileState.UNREADABLE
        verdict = made.files["s.mp4"].verdict
        assert verdict
        assert "Input/output error" in verdict.reason
        assert verdict.next_look_at - now <= 60 * S_
        waits.append(now - failed_at)
    assert waits == sorted(waits)
    assert waits[-1] > 10 * waits[0]
    made.hashed("s.mp4", SIGNATURE, sha("s"), now)
    settle(made, "s.mp4", SIGNATURE, now)
    assert identity(made, "s.mp4") is not None


def test_threat_17_the_next_look_is_when_it_may_be_read_again() -> None:
    made = folder("s.mp4")
    now = settle(made, "s.mp4", SIGNATURE, NOW)
    made.unreadable("s.mp4", SIGNATURE, "Input/output error", now)
    again_at = now + unread.FIRST_MS
    made.scanned(looked(("s.mp4", SIGNATURE)), now)
    for seconds in (3, 6, 9):  # complete by then, which is looked at once a minute
        made.scanned(looked(("s.mp4", SIGNATURE), deep=True), now + seconds * S_)
        assert made.files["s.mp4"].next_look_at <= again_at
        assert made.hash_wanted() is None
    made.scanned(looked(("s.mp4", SIGNATURE), deep=True), again_at)
    assert made.hash_wanted() is not None


def test_threat_17_another_content_forgets_that_the_last_one_could_not_be_read() -> None:
    made = folder("s.mp4")
    now = settle(made, "s.mp4", SIGNATURE, NOW)
    made.unreadable("s.mp4", SIGNATURE, "Input/output error", now)
    other = Signature(6_000, 2)
    now = settle(made, "s.mp4", SIGNATURE, now)
    now = settle(made, "s.mp4", other, now)
    assert made.hash_wanted() == Hash("a", "s.mp4", other)


def test_threat_17_a_look_between_two_that_fail_does_not_make_it_look_well() -> None:
    """A first look is shallow and reads nothing: the state used to change with every look."""
    made = folder("s.mp4")
    bad = Observation("s.mp4", trouble=Trouble.IO, detail="Input/output error")
    now = NOW
    for seen in (SIGNATURE, None) * 5:
        now += 5 * S_
        report = looked(("s.mp4", seen)) if seen else replace(looked(), observations=(bad,))
        made.scanned(report, now)
        if now > NOW + 10 * S_:
            assert made.files["s.mp4"].state is FileState.UNREADABLE
    now = settle(made, "s.mp4", SIGNATURE, now + 60 * S_)
    made.hashed("s.mp4", SIGNATURE, sha("s"), now)
    settle(made, "s.mp4", SIGNATURE, now)
    assert identity(made, "s.mp4") is not None
