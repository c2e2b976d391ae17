"""A start and a restart: what the ledger remembers becomes a world again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chamelaion_watch import restore as restoring
from chamelaion_watch.core.errors import Throttled
from chamelaion_watch.core.gate import Gate, refused
from chamelaion_watch.core.messages import RootFacts, Submit
from chamelaion_watch.core.model import AccountState, Attempt, JobState, RootState, Signature
from chamelaion_watch.core.policy import Policy
from chamelaion_watch.core.world import DAY_MS, Note, Pause, World
from chamelaion_watch.edges.ledger.protocol import RootRow
from chamelaion_watch.edges.ledger.sqlite import SqliteLedger
from chamelaion_watch.restore import restore
from tests.builders import NOW, folder_policy, job, looked, of, sha, sweep, tick

SIGNATURE = Signature(5_000, 1)
DAY = 86_400_000
S = JobState


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    made = SqliteLedger(tmp_path)
    yield made
    made.close()


def world(ledger: SqliteLedger, now: int = NOW) -> World:
    return restore(ledger, Policy(), [folder_policy()], now=now)


def test_an_empty_ledger_makes_an_empty_world_in_which_every_folder_is_new(ledger: SqliteLedger) -> None:
    made = world(ledger)
    assert (made.book.jobs, made.gate, made.pause) == ({}, Gate(), None)
    assert made.folders["a"].is_new


def test_all_rows_are_read_for_an_old_one_may_be_what_a_new_pair_was_paid_with(ledger: SqliteLedger) -> None:
    """Content that was done, replaced, and put back after a restart: its row was not known, and the loop was busy."""
    old = ledger.add_job(
        job(state=S.DONE, sent_at=1, request_id="r", output="x", output_sha256=sha("o"), output_bytes=1)
    )
    ledger.add_job(job(audio=job(key="other").audio, state=S.DONE, sent_at=1))
    back = ledger.add_job(job())
    made = world(ledger)
    assert list(made.book.twins(back)) == [old]


def test_history_is_read_of_what_is_open(ledger: SqliteLedger) -> None:
    for state in (S.QUEUED, S.DONE):
        added = ledger.add_job(job(key=str(state), state=state))
        ledger.add_attempt(Attempt(added.id, NOW, "queue", "queued", "x"))
    assert list(world(ledger).history) == [1]


def test_what_was_being_sent_is_sorted_out(ledger: SqliteLedger) -> None:
    ledger.add_job(job(state=S.SUBMITTING, sent_at=1))
    ledger.add_job(job(key="s2", state=S.SUBMITTING, sent_at=1, finishing_at=2))
    made = world(ledger)
    assert (made.book.jobs[1].state, made.book.jobs[2].state) == (S.QUEUED, S.SUBMITTING)
    assert made.book.jobs[2].doubt_at == NOW
    assert set(made.changed) == {1, 2}


def test_a_promise_and_a_pause_survive(ledger: SqliteLedger) -> None:
    before = World(Policy(), now=NOW)
    before.gate = refused(Gate(), Throttled("429", retry_after_s=900.0), NOW, chance=0.5, policy=Policy())
    before.pause = Pause("lunch", NOW + 5, NOW)
    ledger.save_gate(restoring.gate_row(before))
    made = world(ledger, NOW + 1)
    assert (made.gate, made.pause) == (before.gate, before.pause)


def test_what_is_remembered_of_a_root(ledger: SqliteLedger) -> None:
    ledger.save_root(RootRow("a", "/a", 1, is_paused=True, paused_until=NOW + 5, pause_reason="holiday"))
    ledger.hold("a", ["s9"])
    folder = world(ledger).folders["a"]
    assert (folder.is_new, folder.held) == (False, {"s9"})
    assert (folder.is_paused, folder.paused_until, folder.pause_reason) == (True, NOW + 5, "holiday")
    ledger.save_root(RootRow("a", "/elsewhere", 1))
    assert world(ledger).folders["a"].is_new


def test_a_root_that_was_seen_keeps_when_and_that_it_had_a_sentinel(ledger: SqliteLedger) -> None:
    folder = world(ledger).folders["a"]
    folder.scanned(sweep(), NOW)
    row = restoring.root_row(folder, RootRow("a", "/a", 5, has_sentinel=True), NOW)
    assert (row.first_seen_at, row.has_sentinel, row.mount_source) == (5, True, "sim")


UNDERNEATH = RootFacts(RootState.NOT_MOUNTED, "no sentinel", mount_source="/dev/sda1", mount_type="ext4")


def test_threat_27_what_lies_under_an_unmounted_share_is_never_remembered_as_its_place(ledger: SqliteLedger) -> None:
    folder = world(ledger).folders["a"]
    folder.scanned(sweep(), NOW)
    before = restoring.root_row(folder, None, NOW)
    folder.scanned(sweep(facts=UNDERNEATH), NOW)
    folder.is_paused = True
    assert restoring.root_row(folder, before, NOW) == replace(before, is_paused=True)


def test_a_folder_that_was_paused_before_its_first_scan_is_still_paused_and_still_new(ledger: SqliteLedger) -> None:
    folder = world(ledger).folders["a"]
    folder.is_paused = True
    ledger.save_root(restoring.root_row(folder, None, NOW))
    again = world(ledger).folders["a"]
    assert (again.is_paused, again.is_new) == (True, True)
    again.scanned(sweep(), NOW)
    assert restoring.root_row(again, ledger.roots()["a"], NOW).first_seen_at == NOW


@pytest.mark.parametrize(
    ("state", "is_over"),
    [
        (S.DONE, True),
        (S.FAILED, True),
        (S.RENDERING, True),
        (S.DOUBTFUL, True),
        (S.QUEUED, False),
        (S.SUBMITTING, False),
    ],
)
def test_only_what_is_still_to_be_sent_goes_through_the_gate_again(
    ledger: SqliteLedger, state: JobState, is_over: bool
) -> None:
    ledger.add_job(job(state=state, request_id="r"))
    ledger.remember_file("a", "s1.mp4", SIGNATURE, sha("s1.mp4"))
    folder = world(ledger).folders["a"]
    folder.scanned(sweep(appeared=("s1.mp4",)), NOW)
    folder.scanned(looked(("s1.mp4", SIGNATURE)), NOW)
    assert (folder.files["s1.mp4"].source is not None) is is_over


def test_a_video_that_is_done_in_one_language_and_queued_in_another_goes_through_the_gate(ledger: SqliteLedger) -> None:
    ledger.add_job(job(state=S.DONE))
    ledger.add_job(job(key="s1.de", video=job().video))
    ledger.remember_file("a", "s1.mp4", SIGNATURE, sha("s1.mp4"))
    assert world(ledger).folders["a"].known["s1.mp4"][2] is False


def test_notes_and_the_days_submissions_are_read(ledger: SqliteLedger) -> None:
    note = Note("a", "job:1", "error", ("x.txt",), "d")
    ledger.save_note(restoring.note_row(note, NOW))
    for at in (NOW - DAY_MS - 1, NOW - 5, NOW + 400 * DAY):
        ledger.add_attempt(Attempt(1, at, "accept", "accepted", ""))
    made = world(ledger)
    assert made.notes == {("a", "job:1"): note}
    assert list(made.accepted_at) == [NOW - 5]


def test_what_a_session_was_asked_holds_though_its_ledger_failed(ledger: SqliteLedger) -> None:
    held = Gate(AccountState.RATE_LIMITED, NOW, NOW + 40_000, is_promised=True)
    made = restore(ledger, Policy(), [], now=NOW, held=held)
    assert (made.gate.state, made.gate.until_at) == (AccountState.RATE_LIMITED, NOW + 40_000)


@pytest.mark.parametrize(("held", "tries"), [(Gate(), 3), (None, 4)])
def test_threat_10_only_a_process_that_ended_counts_against_the_pair_that_it_was_sending(
    ledger: SqliteLedger, held: Gate | None, tries: int
) -> None:
    ledger.add_job(job(state=S.SUBMITTING, sent_at=NOW - 9, sent_until=NOW, tries=3))
    made = restore(ledger, Policy(), [folder_policy()], now=NOW, held=held)
    assert [row.tries for row in made.book.of(S.QUEUED)] == [tries]


@pytest.mark.parametrize("days", [-400, 400])
def test_threat_78_a_wall_clock_that_was_set_while_the_daemon_was_down_makes_nobody_wait_for_ever(
    ledger: SqliteLedger, days: int
) -> None:
    then = NOW + days * DAY
    ledger.add_job(job(next_at=then + 5))
    ledger.add_job(job(key="s2", state=S.RENDERING, request_id="r", doubt_at=then, next_at=then))
    made = world(ledger)
    hour = 3_600_000
    assert all((one.next_at or 0) <= NOW + hour for one in made.book.jobs.values())
    assert made.book.jobs[2].doubt_at == NOW  # a grace that was over by that clock alone begins anew


def test_a_restored_world_goes_on_where_the_last_one_stopped(ledger: SqliteLedger) -> None:
    for path in ("s1.mp4", "s1.wav"):
        ledger.remember_file("a", path, SIGNATURE, sha(path))
    ledger.add_job(job())
    made = world(ledger)
    tick(made, sweep(appeared=("s1.mp4", "s1.wav")))
    made.checked.add(1)
    assert of(Submit, tick(made)) == []  # the gate of completeness comes first
