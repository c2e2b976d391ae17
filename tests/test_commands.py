"""What people ask for, and the answers that they get."""

from __future__ import annotations

import pytest

from chamelaion_watch.core import gate
from chamelaion_watch.core.errors import QuotaExhausted
from chamelaion_watch.core.gate import Gate
from chamelaion_watch.core.messages import Command
from chamelaion_watch.core.model import Job, JobState
from chamelaion_watch.core.world import Pause, World
from tests.builders import NOW, job, tick, world


def asked(made: World, verb: str, job_: Job | None = None, **args: str) -> str:
    tick(made, Command(7, verb, args, job_))
    ((number, answer),) = made.finished_commands
    assert number == 7
    made.finished_commands.clear()
    return answer


def paused(made: World) -> Pause | None:
    return made.pause


def test_retry_of_one_and_of_all_that_failed() -> None:
    made = world(
        job(state=JobState.FAILED), job(2, key="s2", state=JobState.FAILED), job(3, key="s3", state=JobState.DONE)
    )
    assert "run 2" in asked(made, "retry", made.book.jobs[1], job="1")
    assert asked(made, "retry", failed="1").startswith("job 2:")
    assert asked(made, "retry", failed="1") == "none failed"
    assert made.book.jobs[3].state is JobState.DONE


def test_a_retry_of_all_leaves_rows_alone_that_newer_content_overtook() -> None:
    made = world(job(state=JobState.FAILED), job(2, state=JobState.DONE))
    assert "job 2 is newer" in asked(made, "retry", failed="1")
    assert made.book.jobs[1].state is JobState.FAILED


def test_cancel() -> None:
    made = world(job())
    assert asked(made, "cancel", made.book.jobs[1], job="1") == "job 1: cancelled"
    assert made.book.jobs[1].code == "by_request"


def test_pause_and_resume_of_everything() -> None:
    made = world(job())
    assert asked(made, "pause", reason="lunch", until=str(NOW + 5)).startswith("paused")
    assert paused(made) == Pause("lunch", NOW + 5, NOW)
    assert asked(made, "resume") == "resumed"
    assert paused(made) is None
    assert asked(made, "resume") == "nothing was paused"


def test_pause_and_resume_of_a_folder_and_of_what_it_holds() -> None:
    made = world(job())
    assert asked(made, "pause", folder="a", reason="holiday") == "folder a is paused"
    assert made.folders["a"].is_paused
    assert asked(made, "resume", folder="a") == "folder a is resumed"
    assert asked(made, "resume", folder="a") == "folder a was not paused"
    made.folders["a"].held = {"s1"}
    assert asked(made, "resume", folder="a") == "folder a: 1 held pairs are taken"
    assert made.is_roots_changed


@pytest.mark.parametrize(("wait_s", "is_urged"), [(None, True), (900.0, False)])
def test_resume_sends_the_canary_now_but_never_inside_a_promise(wait_s: float | None, is_urged: bool) -> None:
    made = world()
    refusal = QuotaExhausted("412", retry_after_s=wait_s)
    made.gate = closed = gate.refused(Gate(), refusal, NOW, chance=0, policy=made.policy)
    answer = asked(made, "resume")
    assert (made.gate.until_at < closed.until_at) is is_urged
    assert ("one probe goes now" in answer) is is_urged
    assert ("named a time" in answer) is not is_urged


def test_what_makes_no_sense_is_answered_too() -> None:
    made = world()
    assert asked(made, "dance") == "unknown command 'dance' or no such job"
    assert asked(made, "retry", job="99") == "unknown command 'retry' or no such job"
    assert asked(made, "pause", folder="zz") == "no folder 'zz' in the configuration"
