"""When files are packed, and what wakes them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chamelaion_watch.core import intake
from chamelaion_watch.core.folder import Folder
from chamelaion_watch.core.lifecycle import Step
from chamelaion_watch.core.messages import RootFacts
from chamelaion_watch.core.model import JobState, Observation, RootState, Signature, Trouble
from chamelaion_watch.core.naming import temp_path
from chamelaion_watch.core.resting import rest
from chamelaion_watch.core.world import World
from tests.builders import NOW, folder_policy, job, looked, sha, source, sweep, tick, world

S_ = 1_000
OTHER = Signature(7_000, 9)


def asleep() -> tuple[World, Folder]:
    """A world in which the only pair is done, and sleeps."""
    made = world(replace(job(), state=JobState.RENDERED, request_id="r"))
    folder = made.folders["a"]
    folder.is_over = lambda key, *_: made.book.newest("a", key) is not None
    made.step(made.book.jobs[1], Step.DELIVER, output="s1.lipsync.mp4", output_sha256=sha("o"), output_bytes=1)
    rest(made)
    assert (folder.files, folder.file_count, "" in folder.asleep) == ({}, 2, True)
    return made, folder


def test_a_pair_that_is_done_sleeps_and_is_looked_at_in_its_turn() -> None:
    _, folder = asleep()
    action = folder.scan(NOW + 120 * S_, [], [])
    assert [(look.path, look.is_brief) for look in action.looks] == [("s1.mp4", True), ("s1.wav", True)]
    seen = tuple(Observation(look.path, source(look.path).signature) for look in action.looks)
    folder.scanned(replace(sweep(observations=seen), action=action), NOW + 120 * S_)
    assert "" in folder.asleep


def test_overwritten_in_place_it_wakes_and_goes_through_the_gate() -> None:
    made, folder = asleep()
    folder.scanned(looked(("s1.mp4", OTHER)), NOW + 60 * S_)
    assert "" not in folder.asleep
    assert folder.files["s1.mp4"].source is None
    assert folder.files["s1.wav"].source == source("s1.wav")
    assert folder.holding(folder.pairs["s1"]) is folder.files["s1.mp4"]
    rest(made)
    assert "" not in folder.asleep


def test_what_cannot_be_looked_at_now_is_still_what_it_was() -> None:
    _, folder = asleep()
    folder.scanned(sweep(observations=(Observation("s1.mp4", trouble=Trouble.BUSY),)), NOW + 60 * S_)
    assert "" in folder.asleep


def test_a_new_name_beside_it_wakes_it_and_is_paired_with_all_there_is() -> None:
    _, folder = asleep()
    folder.scanned(sweep(appeared=("s1.mp3",)), NOW + 60 * S_)
    assert {item.code for item in folder.index.disputed.values()} == {"two_audios"}


def test_a_name_that_goes_for_good_wakes_it() -> None:
    _, folder = asleep()
    folder.scanned(sweep(vanished=("s1.wav",)), NOW + 60 * S_)
    assert "" in folder.asleep
    folder.scanned(sweep(), NOW + 62 * S_)
    assert (set(folder.files), folder.forgotten) == ({"s1.mp4"}, ["s1.wav"])


def test_an_output_that_was_being_written_goes_and_nobody_wakes() -> None:
    """Each output takes its temporary name away: a folder of thousands was unpacked and packed again for it."""
    _, folder = asleep()
    temp = temp_path("s1.lipsync.mp4")
    folder.scanned(sweep(appeared=(temp,)), NOW + 60 * S_)
    folder.scanned(sweep(vanished=(temp,)), NOW + 62 * S_)
    folder.scanned(sweep(), NOW + 64 * S_)
    assert ("" in folder.asleep, folder.forgotten, folder.vanishing) == (True, [], {})


def test_a_name_that_is_told_again_is_no_news() -> None:
    _, folder = asleep()
    folder.scanned(sweep(appeared=("s1.wav", "s1.mp4")), NOW + 60 * S_)
    assert folder.file_count == 2
    assert "" in folder.asleep


def test_asked_for_again_it_wakes_so_that_it_can_be_sent() -> None:
    made, folder = asleep()
    done = made.book.newest("a", "s1")
    assert done is not None
    intake.again(made, done, "a person asks")
    tick(made)
    newest = made.book.newest("a", "s1")
    assert newest is not None
    assert (newest.id, newest.state, folder.has(newest)) == (2, JobState.QUEUED, True)


@pytest.mark.parametrize("kind", ["waiting", "held", "arriving", "vanishing", "open"])
def test_where_something_is_left_to_do_nobody_sleeps(kind: str) -> None:
    made, folder = asleep()
    folder.wake("s1", NOW)
    tick(made)
    match kind:
        case "waiting":
            folder.scanned(sweep(appeared=("lonely.wav",)), NOW)
        case "held":
            folder.held = {"s1"}
        case "arriving":
            folder.scanned(looked(("s1.mp4", OTHER)), NOW)
        case "vanishing":
            folder.scanned(sweep(vanished=("s1.wav",)), NOW)
        case _:
            folder.is_over = lambda *_: False
    folder.drowse("s1")
    made.now += 60 * S_
    rest(made)
    assert "" not in folder.asleep


def test_without_a_reason_not_to_it_sleeps_again() -> None:
    made, folder = asleep()
    folder.wake("s1", NOW)
    tick(made)
    folder.drowse("s1")
    made.now += 60 * S_
    rest(made)
    assert "" in folder.asleep


# -- a start ------------------------------------------------------------------------------------------


def started(**changes: object) -> Folder:
    """A folder as it is after its first sweep, when the ledger knows both files and has one job for them."""
    made = World(world().policy, now=NOW)
    one = replace(job(), **({"state": JobState.DONE} | changes))  # type: ignore[arg-type]
    made.book.put(one)
    known = {path: (source(path).signature, source(path).sha256, True) for path in ("s1.mp4", "s1.wav")}
    folder = Folder(folder_policy(), known=known)
    folder.is_over = lambda key, video, audio: is_over(made, key, video, audio)
    folder.scanned(sweep(appeared=("s1.mp4", "s1.wav")), NOW)
    return folder


def is_over(made: World, key: str, video: str, audio: str) -> bool:
    return made.book.is_over("a", key, video, audio)


def test_after_a_start_what_is_done_sleeps_at_once_and_each_file_is_looked_at_once() -> None:
    folder = started()
    assert "" in folder.asleep
    at = folder.scan_at(NOW)
    assert at < NOW + 10 * S_
    action = folder.scan(at, [], [])
    assert {look.path for look in action.looks} == {"s1.mp4", "s1.wav"}
    folder.scanned(looked(*((path, source(path).signature) for path in ("s1.mp4", "s1.wav"))), at)
    assert folder.asleep.is_verified


def test_a_look_that_did_not_happen_is_asked_for_again() -> None:
    folder = started()
    at = folder.scan_at(NOW)
    folder.scan(at, [], [])
    folder.scanned(sweep(facts=RootFacts(RootState.STALE, "EIO")), at)
    folder.scanned(sweep(), at + 10 * S_)
    assert {look.path for look in folder.scan(at + 11 * S_, [], []).looks} == {"s1.mp4", "s1.wav"}


def test_touched_and_asked_for_again_it_is_sent_as_it_lies_there_now() -> None:
    """The row had the old time of the file, and waited for ever."""
    made, folder = asleep()
    folder.wake("s1", NOW)
    touched = replace(source("s1.mp4"), signature=OTHER)
    folder.files["s1.mp4"].source = touched
    tick(made)
    folder.drowse("s1")
    made.now += 60 * S_
    rest(made)
    assert "" in folder.asleep
    done = made.book.newest("a", "s1")
    assert done is not None
    intake.again(made, done, "a person asks")
    tick(made)
    newest = made.book.newest("a", "s1")
    assert newest is not None
    assert (newest.video, folder.has(newest)) == (touched, True)


def test_an_older_failure_of_a_pair_that_sleeps_is_not_lost_with_another_pair() -> None:
    """A pair that was gone woke the scope of the next one, and the tick ended in a KeyError, after each restart anew."""
    made = World(world().policy, now=NOW)
    gone = replace(job(1, key="gone"), state=JobState.FAILED)
    failed = replace(job(2, video=source("s1.mp4", "older")), state=JobState.FAILED, request_id="r2")
    for one in (gone, failed, replace(job(3), state=JobState.DONE)):
        made.book.put(one)
    rest(made)
    known = {path: (source(path).signature, source(path).sha256, True) for path in ("s1.mp4", "s1.wav")}
    folder = made.folders["a"] = Folder(folder_policy(), known=known)
    folder.is_over = lambda key, video, audio: is_over(made, key, video, audio)
    for _ in range(3):
        tick(made, sweep(appeared=() if folder.is_scanned else ("s1.mp4", "s1.wav")), at=made.now + 60 * S_)
    states = {number: (made.book.get(number) or gone).state for number in (1, 2, 3)}
    assert states == {1: JobState.CANCELLED, 2: JobState.FAILED, 3: JobState.DONE}


def test_overwritten_while_nobody_watched_it_is_found_by_that_look() -> None:
    folder = started()
    folder.scan(folder.scan_at(NOW), [], [])
    folder.scanned(looked(("s1.wav", OTHER)), NOW + S_)
    assert folder.files["s1.wav"].source is None


@pytest.mark.parametrize("waker", ["a new name", "a person"])
def test_woken_before_its_look_each_file_is_looked_at_all_the_same(waker: str) -> None:
    """What was overwritten while nobody watched was noticed in its turn only: after an hour and a half in a large folder."""
    folder = started()
    if waker == "a new name":
        folder.scanned(sweep(appeared=("s1.de.wav",)), NOW)
    else:
        folder.wake("s1", NOW)
    assert (folder.asleep.is_verified, folder.files["s1.mp4"].source) == (True, None)
    at = folder.scan_at(NOW)
    assert at < NOW + 10 * S_
    assert {look.path for look in folder.scan(at, [], []).looks} >= {"s1.mp4", "s1.wav"}
    folder.scanned(looked(("s1.mp4", source("s1.mp4").signature), ("s1.wav", OTHER)), at)
    assert folder.files["s1.mp4"].source == source("s1.mp4")
    assert folder.files["s1.wav"].source is None


@pytest.mark.parametrize(
    "changes",
    [
        {"state": JobState.FAILED},
        {"state": JobState.QUEUED},
        {"state": JobState.CANCELLED, "code": "source_gone"},  # the source is back (simulated life 436)
        {"video": source("s1.mp4", "older content")},
    ],
)
def test_after_a_start_what_may_ask_for_something_is_watched(changes: dict[str, object]) -> None:
    assert "" not in started(**changes).asleep
