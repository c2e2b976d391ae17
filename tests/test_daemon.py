"""The control thread: what is written before what is started, and what a tick does with the ledger."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chamelaion_watch.core.errors import InputProblem, LedgerUnavailable
from chamelaion_watch.core.messages import (
    Action,
    Deliver,
    LeaveAsked,
    Probe,
    Probed,
    Scan,
    Submit,
    SubmitFailed,
    Submitted,
)
from chamelaion_watch.core.model import Job, JobState, Millis, RootState
from chamelaion_watch.core.policy import Policy
from chamelaion_watch.core.submission import WITHDRAWN
from chamelaion_watch.core.world import World
from chamelaion_watch.daemon import Daemon, stop
from chamelaion_watch.edges.ledger.sqlite import SqliteLedger
from chamelaion_watch.restore import restore
from tests.builders import AUDIO_INFO, NOW, VIDEO_INFO, folder_policy, folder_with, job, of, sweep
from tests.support import eventually


class Clock:
    def __init__(self) -> None:
        self.at: Millis = NOW
        self.jumps_in = 0  # calls

    def now(self) -> Millis:
        self.jumps_in -= 1
        self.at += 600_000 if self.jumps_in == 0 else 0
        return self.at

    def chance(self) -> float:
        return 0.5


class Hands:
    """Remembers what it was told, and what the ledger said at that time."""

    def __init__(self, look: Callable[[], Any] = lambda: None) -> None:
        self.started: list[Action] = []
        self.told: list[tuple[str, int]] = []
        self.seen: list[Any] = []
        self.is_stopped = False
        self._look = look

    def start(self, action: Action) -> None:
        self.started.append(action)
        self.seen.append(self._look())

    def grant(self, job_id: int, until: Millis) -> None:
        self.told.append(("grant", job_id))
        self.seen.append(self._look())

    def deny(self, job_id: int, why: str) -> None:
        self.told.append(("deny", job_id))

    def stop(self) -> None:
        self.is_stopped = True


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def ledger(state: Path) -> Iterator[SqliteLedger]:
    made = SqliteLedger(state)
    yield made
    made.close()


def daemon(ledger: SqliteLedger, *jobs: Job, policy: Policy | None = None) -> tuple[Daemon, Hands, Clock]:
    """A daemon whose folder holds the pairs of these jobs, stored, complete and probed."""
    stored = [ledger.add_job(one) for one in jobs]
    clock = Clock()
    world = restore(ledger, policy or Policy(), [folder_policy()], now=NOW)
    world.folders["a"] = folder_with(*stored)
    world.checked = {one.id for one in stored}
    hands = Hands(lambda: [one.state for one in ledger.jobs()])
    made = Daemon(world, ledger, clock)
    made.effects = hands
    return made, hands, clock


def drained(made: Daemon) -> list[Any]:
    return made._taken()


def test_threat_13_15_what_is_about_to_be_done_is_durable_before_it_begins(ledger: SqliteLedger, state: Path) -> None:
    made, hands, _ = daemon(ledger, job())
    with_another = SqliteLedger(state)
    hands._look = lambda: [(one.state, one.sent_at) for one in with_another.jobs()]
    made.tick([])
    assert of(Submit, hands.started)
    assert hands.seen[hands.started.index(of(Submit, hands.started)[0])] == [(JobState.SUBMITTING, NOW)]
    with_another.close()


def test_threat_13_leave_is_given_when_it_is_committed_and_not_before(ledger: SqliteLedger, state: Path) -> None:
    made, hands, clock = daemon(ledger, job())
    made.tick([])
    other = SqliteLedger(state)
    hands.seen.clear()
    hands._look = lambda: [one.finishing_at for one in other.jobs()]
    clock.at += 5
    made.tick([LeaveAsked(1)])
    assert hands.told == [("grant", 1)]
    assert hands.seen == [[NOW + 5]]
    made.tick([])
    assert hands.told == [("grant", 1)]  # once
    other.close()


def test_new_jobs_get_their_ids_their_attempt_and_their_line(ledger: SqliteLedger) -> None:
    made, hands, _ = daemon(ledger)
    made.world.folders["a"] = folder_with(job())
    made.tick([])
    assert [one.id for one in ledger.jobs()] == [1]
    assert [line.step for line in ledger.attempts(1)] == ["queue"]
    assert ledger.events()[0].text == "a/s1: queued"
    (probe,) = of(Probe, hands.started)
    assert probe.job.id == 1


def test_a_claim_that_another_row_has_is_withdrawn_and_never_sent(ledger: SqliteLedger) -> None:
    made, hands, _ = daemon(ledger, job())
    ledger.add_job(job(key="unknown to the world", reference_id=job().reference_id, sent_at=5, state=JobState.DONE))
    made.tick([])
    assert of(Submit, hands.started) == []
    (event,) = drained(made)
    assert isinstance(event, SubmitFailed)
    assert event.error.code == WITHDRAWN
    assert not event.may_be_taken
    stored = ledger.job(1)
    assert stored is not None
    assert stored.sent_at is None


def test_threat_15_a_tick_that_cannot_write_starts_nothing(ledger: SqliteLedger) -> None:
    made, hands, _ = daemon(ledger, job())
    pages = ledger._run("PRAGMA page_count").fetchone()[0]
    ledger._run(f"PRAGMA max_page_count = {pages + 1}")
    made.world.say("odd", "x" * 500_000)
    with pytest.raises(LedgerUnavailable, match="no space left"):
        made.tick([])
    assert hands.started == []
    assert [(one.state, one.sent_at) for one in ledger.jobs()] == [(JobState.QUEUED, None)]


def test_a_wish_is_applied_once_and_answered(ledger: SqliteLedger, state: Path) -> None:
    made, _, _ = daemon(ledger, job(state=JobState.FAILED))
    other = SqliteLedger(state)
    number = other.add_command("retry", {"job": "1"}, NOW)
    made.tick([])
    made.tick([])
    answered = other.command(number)
    assert answered is not None
    assert answered.result == "job 1: queued again, run 2"
    stored = other.job(1)
    assert stored is not None
    assert stored.run_no == 2
    other.close()


def test_files_notes_roots_and_the_gate_are_written_when_they_change(ledger: SqliteLedger) -> None:
    made, _, clock = daemon(ledger)
    folder = made.world.folders["a"]
    folder.identified.append(job().video)
    folder.held = {"s9"}
    made.world.is_roots_changed = True
    made.world.pause = None
    made.tick([])
    assert {path for path, _, _ in ledger.files("a")} == {"s1.mp4"}
    assert set(ledger.roots()) == {"a"}
    assert ledger.held("a") == {"s9"}
    assert ledger.gate() is not None
    clock.at += 60_000
    folder.forgotten.append("s1.mp4")
    made.tick([])
    assert list(ledger.files("a")) == []


def test_a_life_from_queue_to_output_is_told_to_the_ledger_step_by_step(ledger: SqliteLedger) -> None:
    made, hands, clock = daemon(ledger)
    made.world.folders["a"] = folder_with(job())
    made.tick([])
    (probe,) = of(Probe, hands.started)
    made.tick([Probed(probe, VIDEO_INFO, AUDIO_INFO)])
    (submit,) = of(Submit, hands.started)
    made.tick([Submitted(submit, "r")])
    clock.at += 5_000
    assert [line.step for line in ledger.attempts(1)] == ["queue", "accept"]
    stored = ledger.job(1)
    assert stored is not None
    assert (stored.state, stored.request_id) == (JobState.RENDERING, "r")


# -- the loop -----------------------------------------------------------------------------------------


def test_the_loop_ends_at_once_when_nothing_leaves_traces(ledger: SqliteLedger) -> None:
    made, hands, _ = daemon(ledger)
    stop(made, "test")
    made.run()
    assert hands.is_stopped
    assert of(Scan, hands.started) == []


def test_the_loop_waits_for_an_upload_to_stop_and_releases_its_job(ledger: SqliteLedger) -> None:
    made, hands, _ = daemon(ledger, job())
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        (submit,) = eventually(lambda: of(Submit, hands.started))
        stop(made, "test")
        assert eventually(lambda: hands.is_stopped)
        assert thread.is_alive()
    finally:
        made.post(SubmitFailed(submit, InputProblem("stopping", code=WITHDRAWN), may_be_taken=False))
        thread.join(10)
    assert not thread.is_alive()
    assert [(one.state, one.sent_at) for one in ledger.jobs()] == [(JobState.QUEUED, None)]


def test_threat_09_the_loop_leaves_after_eight_seconds_whatever_still_runs(ledger: SqliteLedger) -> None:
    made, hands, clock = daemon(ledger, job(state=JobState.RENDERED, request_id="r", rendered_at=NOW))
    hands.stop = lambda: setattr(clock, "at", clock.at + 8_000)  # type: ignore[method-assign]  # time passes meanwhile
    made.tick([])
    assert of(Deliver, hands.started)
    stop(made, "test")
    made.run()
    assert made.world.running


def test_an_upload_on_a_slow_line_that_no_stop_ends_in_time_goes_back_to_the_queue(ledger: SqliteLedger) -> None:
    """A piece took longer than the stop; each reload counted as a crash of its pair, and six of them set it aside."""
    made, hands, clock = daemon(ledger, job(tries=2))
    hands.stop = lambda: setattr(clock, "at", clock.at + 8_000)  # type: ignore[method-assign]  # time passes meanwhile
    made.tick([])
    assert of(Submit, hands.started)
    stop(made, "test")
    made.run()
    assert [(one.state, one.sent_at, one.tries) for one in ledger.jobs()] == [(JobState.QUEUED, None, 2)]


def test_an_upload_that_has_leave_is_no_such_upload(ledger: SqliteLedger) -> None:
    made, hands, clock = daemon(ledger, job())
    hands.stop = lambda: setattr(clock, "at", clock.at + 8_000)  # type: ignore[method-assign]  # time passes meanwhile
    made.tick([])
    made.tick([LeaveAsked(1)])
    stop(made, "test")
    made.run()
    assert [(one.state, one.finishing_at) for one in ledger.jobs()] == [(JobState.SUBMITTING, NOW)]


def test_threat_09_83_the_heart_beats_with_each_turn(ledger: SqliteLedger) -> None:
    beats: list[int] = []
    made, _, _ = daemon(ledger)
    made._heartbeat = lambda: beats.append(1)
    stop(made, "test")
    made.run()
    assert beats


def test_threat_05_a_process_that_stood_still_takes_no_folder_for_hung(ledger: SqliteLedger) -> None:
    """SIGSTOP for ten minutes, with a scan under way: its thread did not run either."""
    made, hands, clock = daemon(ledger)
    clock.at += 60_000
    made.tick([])
    assert of(Scan, hands.started)
    clock.jumps_in = 3  # the loop asks before it waits, in its wait, and after it
    made._heartbeat = lambda: stop(made, "test") if clock.at > NOW + 600_000 else None
    made.run()
    assert clock.at > NOW + 600_000
    assert made.world.running
    assert made.world.folders["a"].state is RootState.OK


def test_whoever_looks_after_a_tick_sees_what_is_committed(ledger: SqliteLedger) -> None:
    made, _, _ = daemon(ledger, job())
    seen: list[tuple[JobState, JobState]] = []

    def look(world: World) -> None:
        stored = ledger.job(1)
        assert stored is not None
        seen.append((world.book.jobs[1].state, stored.state))

    made._after_tick = look
    made.tick([])
    assert seen == [(JobState.SUBMITTING, JobState.SUBMITTING)]


def test_a_scan_is_started_again_when_the_last_one_was_answered(ledger: SqliteLedger) -> None:
    made, hands, clock = daemon(ledger)
    clock.at += 60_000
    made.tick([])
    (scan,) = of(Scan, hands.started)
    made.tick([replace(sweep(), action=scan)])
    clock.at += 60_000
    made.tick([])
    assert len(of(Scan, hands.started)) == 2
