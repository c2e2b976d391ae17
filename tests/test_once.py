"""`run --once`: which pairs belong to it, when it is over, and with which exit code."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from chamelaion_watch.core.folder import Folder
from chamelaion_watch.core.gate import Gate
from chamelaion_watch.core.messages import NoteWritten, Submit, WriteNote
from chamelaion_watch.core.model import AccountState, Job, JobState, RootState, Signature
from chamelaion_watch.core.once import (
    ARRIVING_MS,
    EXIT_FAILED,
    EXIT_OK,
    EXIT_TEMPORARY,
    EXIT_UNAUTHORIZED,
    EXIT_UNAVAILABLE,
    NETWORK_PATIENCE_MS,
    Once,
)
from chamelaion_watch.core.world import Pause, World
from tests.builders import NOW, folder_policy, folder_with, job, looked, of, settle, source, sweep, tick, world

S_ = 1_000
OTHER = Signature(7_000, 9)


def begun(*jobs: Job, patience_ms: int | None = None) -> tuple[World, Once]:
    """A run whose set is fixed."""
    made, once = world(*jobs), Once(patience_ms)
    once.begin(made)
    assert once.ended(made) is None
    return made, once


def code(made: World, once: Once) -> int | None:
    made.is_notes_due = False
    ended = once.ended(made)
    return ended.code if ended else None


def test_nothing_is_sent_before_the_set_is_fixed() -> None:
    made, once = world(job()), Once()
    once.begin(made)
    assert of(Submit, tick(made)) == []
    assert once.ended(made) is None
    assert of(Submit, tick(made))


def test_it_waits_for_the_first_look_at_every_folder() -> None:
    made, once = world(job()), Once()
    made.folders["b"] = Folder(folder_policy("b"))
    once.begin(made)
    assert once.ended(made) is None
    assert once.targets is None


def test_when_all_is_done_it_is_over() -> None:
    made, once = begun(job())
    assert code(made, once) is None
    made.change(made.book.jobs[1], state=JobState.DONE)
    assert code(made, once) == EXIT_OK


def test_a_failure_of_this_run_is_told_when_its_note_is_written_and_an_older_one_is_not() -> None:
    made, once = begun(job(), job(2, key="s2", state=JobState.FAILED, code="x", message="m"))
    made.change(made.book.jobs[1], state=JobState.FAILED, code="x", message="m")
    made.is_notes_due = True
    assert once.ended(made) is None
    notes = of(WriteNote, tick(made))
    assert code(made, once) is None
    tick(made, *(NoteWritten(note, tuple(path for path, _ in note.files)) for note in notes))
    assert code(made, once) == EXIT_FAILED
    made, once = begun(job(state=JobState.FAILED))
    assert code(made, once) == EXIT_OK


def test_what_comes_later_is_left_alone() -> None:
    made, once = begun(job())
    made.change(made.book.jobs[1], state=JobState.DONE)
    folder = made.folders["a"]
    folder.scanned(sweep(appeared=("new.mp4", "new.wav")), NOW)
    for path in ("new.mp4", "new.wav"):
        now = settle(folder, path, Signature(5_000, 1), NOW)
        folder.hashed(path, Signature(5_000, 1), path * 8, now)
    tick(made)
    assert list(made.book.jobs) == [1]
    assert code(made, once) == EXIT_OK


def test_files_that_are_still_arriving_are_awaited_for_ten_minutes() -> None:
    made, once = world(), Once()
    made.folders["a"] = folder_with()
    made.folders["a"].scanned(sweep(appeared=("s.mp4", "s.wav")), NOW)
    once.begin(made)
    assert code(made, once) is None
    made.now = NOW + ARRIVING_MS - 1
    assert code(made, once) is None
    made.now = NOW + ARRIVING_MS
    assert code(made, once) == EXIT_OK


def test_a_job_folder_belongs_to_the_run_though_it_is_a_pair_only_when_it_is_quiet() -> None:
    made, once = world(), Once()
    made.folders["a"] = folder_with()
    made.folders["a"].scanned(sweep(appeared=("job/take.mp4", "job/voice.wav")), NOW)
    once.begin(made)
    assert code(made, once) is None
    assert once.targets == {("a", "job/take")}
    assert code(made, once) is None


def test_what_was_overwritten_in_a_finished_folder_before_the_run_belongs_to_it() -> None:
    """Packed, it was passed over, and each run ended with exit 0 before anybody had looked."""
    made, once = world(job(state=JobState.DONE)), Once()
    known = {path: (source(path).signature, source(path).sha256, True) for path in ("s1.mp4", "s1.wav")}
    folder = made.folders["a"] = Folder(folder_policy(), known=known)
    folder.is_over = partial(made.book.is_over, "a")
    folder.scanned(sweep(appeared=("s1.mp4", "s1.wav")), NOW)
    once.begin(made)
    assert (once.ended(made), once.targets) == (None, None)
    folder.scan(NOW + S_, [], [])
    folder.scanned(looked(("s1.mp4", source("s1.mp4").signature), ("s1.wav", OTHER)), NOW + S_)
    assert code(made, once) is None
    assert once.targets == {("a", "s1")}
    assert code(made, once) is None
    now = settle(folder, "s1.wav", OTHER, NOW + S_)
    folder.hashed("s1.wav", OTHER, "5" * 64, now)
    tick(made, at=now)
    assert [one.state for one in made.book.of(JobState.QUEUED)] == [JobState.QUEUED]
    assert code(made, once) is None


def test_half_a_pair_holds_nothing_up() -> None:
    made, once = world(), Once()
    made.folders["a"] = folder_with()
    made.folders["a"].scanned(sweep(appeared=("s.mp4",)), NOW)
    once.begin(made)
    once.ended(made)
    assert code(made, once) == EXIT_OK


def test_a_persons_pause_ends_it_at_once() -> None:
    made, once = begun(job())
    made.pause = Pause("lunch")
    assert code(made, once) == EXIT_TEMPORARY
    made, once = begun(job())
    made.folders["a"].is_paused = True
    assert code(made, once) == EXIT_TEMPORARY


def test_a_rejected_key_ends_it_at_once() -> None:
    made, once = begun(job())
    made.gate = Gate(AccountState.UNAUTHORIZED, since_at=NOW, until_at=NOW + 60 * S_)
    assert code(made, once) == EXIT_UNAUTHORIZED


def test_threat_57_a_used_up_quota_ends_it_when_what_is_paid_for_is_finished() -> None:
    made, once = begun(job(), job(2, key="s2", state=JobState.RENDERING, request_id="r"))
    made.gate = Gate(AccountState.QUOTA_EXHAUSTED, since_at=NOW, until_at=NOW + 900 * S_)
    assert code(made, once) is None
    made.change(made.book.jobs[2], state=JobState.DONE)
    assert code(made, once) == EXIT_TEMPORARY


@pytest.mark.parametrize(("patience_ms", "lasts_ms"), [(None, NETWORK_PATIENCE_MS), (7 * S_, 7 * S_)])
def test_a_dead_network_is_waited_out_as_long_as_was_said(patience_ms: int | None, lasts_ms: int) -> None:
    made, once = begun(job(), patience_ms=patience_ms)
    made.gate = Gate(AccountState.UNREACHABLE, since_at=NOW, until_at=NOW + 10**9)
    made.now = NOW + lasts_ms - 1
    assert code(made, once) is None
    made.now = NOW + lasts_ms
    assert code(made, once) == EXIT_TEMPORARY


def test_threat_55_a_429_is_waited_out_however_long_it_takes() -> None:
    made, once = begun(job())
    made.gate = Gate(AccountState.RATE_LIMITED, since_at=NOW, until_at=NOW + 3_600 * S_)
    made.now = NOW + 3_599 * S_
    assert code(made, once) is None


def test_no_folder_that_can_be_used_is_said() -> None:
    made, once = world(job()), Once()
    made.folders["a"].state, made.folders["a"].reason = RootState.MISSING, "not there"
    once.begin(made)
    ended = once.ended(made)
    assert ended is not None
    assert (ended.code, ended.reason) == (EXIT_UNAVAILABLE, "no folder can be used: a: missing: not there")


def test_todays_limit_ends_it() -> None:
    made, once = begun(job())
    made.policy = replace(made.policy, max_jobs_per_day=1)
    made.accepted_at.append(NOW)
    assert code(made, once) == EXIT_TEMPORARY


def test_another_run_that_was_left_behind_holds_nothing_up() -> None:
    """A queued job that is not of this run, and stands for the same content, blocked its twin for ever."""
    left = job(1, key="gone", video=job().video, audio=job().audio)
    made, once = world(left, job(2)), Once()
    del made.folders["a"].index.pairs["s1"]
    made.folders["a"] = folder_with(job(2))
    once.begin(made)
    once.ended(made)
    made.checked.add(2)
    assert [action.job.id for action in of(Submit, tick(made))] == [2]
