"""What comes of fetching a result: it is paid for, and nothing loses it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chamelaion_watch.core import delivery
from chamelaion_watch.core.errors import (
    InputProblem,
    LinkExpired,
    NotFound,
    OutputProblem,
    Rejected,
    RootProblem,
    Throttled,
    Transient,
    WatchError,
)
from chamelaion_watch.core.messages import (
    Deliver,
    Delivered,
    Failed,
    FilesRemoved,
    LookedUp,
    LookUp,
    NoteWritten,
    RemoveFiles,
    SpoolResult,
    Submit,
    WriteNote,
)
from chamelaion_watch.core.model import Job, JobState, Request, RootState
from chamelaion_watch.core.world import World
from tests.builders import NOW, job, of, sha, sweep, tick, world

S_ = 1_000


def delivering(**changes: Any) -> tuple[World, Deliver]:
    made = world(job(state=JobState.RENDERED, sent_at=1, request_id="r", rendered_at=NOW, **changes))
    (action,) = of(Deliver, tick(made))
    return made, action


def failed(error: WatchError) -> tuple[World, Job]:
    made, action = delivering()
    tick(made, Failed(action, error))
    return made, made.book.jobs[1]


def test_delivered_it_is_done_and_its_output_is_on_record() -> None:
    made, action = delivering()
    tick(made, Delivered(action, "s1.lipsync.mp4", sha("o"), 7))
    now = made.book.jobs[1]
    assert (now.state, now.output, now.output_sha256, now.output_bytes) == (
        JobState.DONE,
        "s1.lipsync.mp4",
        sha("o"),
        7,
    )
    assert now.sent_at == 1


def test_what_newer_content_overtook_is_kept_aside() -> None:
    made, action = delivering(is_superseded=True)
    assert action.output == "s1_superseded.lipsync.mp4"
    tick(made, Delivered(action, action.output, sha("o"), 7))
    assert made.book.jobs[1].state is JobState.SUPERSEDED


def test_threat_14_a_full_folder_delays_and_loses_nothing() -> None:
    made, now = failed(OutputProblem("no space", root_state=RootState.FULL))
    assert (now.state, now.tries, now.next_at) == (JobState.RENDERED, 0, NOW + delivery.OUTPUT_RETRY_MS)
    assert made.folders["a"].write_trouble == (RootState.FULL, "no space")
    made.book.put(job(2, key="s2", state=JobState.QUEUED))
    made.checked.add(2)
    assert of(Submit, tick(made, at=NOW + S_)) == []
    (home,) = of(SpoolResult, tick(made, at=NOW + delivery.OUTPUT_RETRY_MS))
    no_room = OutputProblem("nor here", root_state=RootState.FULL, code="spool_full")
    (again,) = of(Deliver, tick(made, Failed(home, no_room)))
    tick(made, Delivered(again, "s1.lipsync.mp4", sha("o"), 7))
    assert made.folders["a"].write_trouble is None


def test_a_full_folder_is_tried_for_ever() -> None:
    made, action = delivering()
    for _ in range(50):
        made.running.clear()
        tick(made, Failed(action, OutputProblem("no space", root_state=RootState.FULL)))
        assert made.book.of(JobState.RENDERED)


def test_a_share_that_went_away_freezes_its_folder_and_the_result_waits() -> None:
    made, now = failed(RootProblem("gone", root_state=RootState.STALE))
    assert now.state is JobState.RENDERED
    assert made.folders["a"].state is RootState.STALE
    assert of(Deliver, tick(made, at=NOW + 9 * S_)) == []
    made.running.clear()
    (clean,) = of(RemoveFiles, tick(made, sweep(), at=NOW + 50 * S_))
    assert clean.paths == (".s1.lipsync-part",)  # what had to be left there
    assert of(Deliver, tick(made, FilesRemoved(clean)))


def test_an_account_problem_is_not_the_jobs() -> None:
    made, now = failed(Throttled("429", retry_after_s=60.0))
    assert (now.state, now.tries) == (JobState.RENDERED, 0)
    assert not made.gate.is_open


def test_threat_72_an_old_link_is_asked_for_anew_within_a_second() -> None:
    _, now = failed(LinkExpired("403"))
    assert (now.state, now.next_at) == (JobState.RENDERED, NOW + S_)


def test_threat_63_unknown_to_the_service_it_is_looked_up_for_the_grace_and_then_doubtful() -> None:
    made, now = failed(NotFound("404"))
    assert (now.state, now.doubt_at) == (JobState.RENDERED, NOW)
    (look_up,) = of(LookUp, tick(made, at=NOW + 2 * S_))
    tick(made, Failed(look_up, NotFound("404")), at=NOW + 2 * S_)
    tick(made, Failed(look_up, NotFound("404")), at=NOW + 121 * S_)
    assert made.book.jobs[1].state is JobState.DOUBTFUL


def test_threat_70_a_refused_link_fails_with_its_reason_and_can_be_fetched_again() -> None:
    _, now = failed(Rejected("file:// is refused", code="output_url_refused"))
    assert (now.state, now.code, now.rendered_at) == (JobState.FAILED, "output_url_refused", NOW)


@pytest.mark.parametrize("error", [Transient("cut"), InputProblem("stopping"), WatchError("a bug")])
def test_threat_73_74_a_broken_download_is_tried_eight_times(error: WatchError) -> None:
    made, action = delivering()
    for tries in range(1, delivery.MAX_TRIES):
        made.running.clear()
        tick(made, Failed(action, error))
        assert (made.book.jobs[1].state, made.book.jobs[1].tries) == (JobState.RENDERED, tries)
    tick(made, Failed(action, error))
    assert made.book.jobs[1].state is JobState.FAILED


def test_threat_65_a_result_without_a_link_is_asked_for_eight_times_and_then_noted() -> None:
    made, action = delivering()
    error = Transient("the service said completed, but names no output", code="no_output")
    for _ in range(delivery.MAX_TRIES):
        assert made.book.of(JobState.RENDERED)
        tick(made, Failed(action, error))
    (note,) = [action for action in made.running if isinstance(action, WriteNote)]
    assert b"names no video" in note.files[0][1]
    assert made.book.jobs[1].sent_at == 1  # paid for, and never sent again by itself


def test_threat_72_trouble_of_the_media_host_stops_nobody_else_and_its_time_is_kept() -> None:
    """A storage that said 503 and an hour closed the whole account."""
    made, action = delivering()
    for _ in range(delivery.MAX_TRIES - 1):
        tick(made, Failed(action, Transient("503", code="media_host", http_status=503, retry_after_s=3600.0)))
        assert made.gate.is_open
        assert made.gate.failures == 0
    assert made.book.jobs[1].next_at == NOW + 3600 * S_


def test_threat_66_a_result_of_another_pair_is_looked_up_anew() -> None:
    made, now = failed(NotFound("request r is of another pair"))
    (look_up,) = of(LookUp, tick(made, at=now.next_at))
    tick(made, LookedUp(look_up, Request("r2", "completed", now.reference_id)))
    assert (made.book.jobs[1].request_id, made.book.jobs[1].doubt_at) == ("r2", None)


def test_the_result_of_an_earlier_run_of_the_row_is_not_this_ones() -> None:
    made, action = delivering()
    made.change(made.book.jobs[1], reference_id="cw-of-another-run")
    tick(made, Delivered(action, "s1.lipsync.mp4", sha("o"), 7))
    tick(made, Failed(action, Rejected("no")))
    assert made.book.of(JobState.RENDERED)


def test_a_dead_processs_temp_is_removed_before_a_new_one_takes_its_name() -> None:
    """Both at once, and the new download lost the file that it was writing."""
    made = world(job(state=JobState.RENDERED, sent_at=1, request_id="r", rendered_at=NOW))
    made.folders["a"].temps = {".s1.lipsync-part", ".other.lipsync-part"}
    actions = tick(made)
    (clean,) = of(RemoveFiles, actions)
    assert clean.paths == (".other.lipsync-part", ".s1.lipsync-part")
    assert of(Deliver, actions) == []
    assert of(Deliver, tick(made, at=NOW + 5)) == []
    del made.running[clean]
    assert of(Deliver, tick(made, at=NOW + 6))


def test_a_temp_that_is_being_written_is_left_alone() -> None:
    made, _ = delivering()
    made.folders["a"].temps = {".s1.lipsync-part"}
    assert of(RemoveFiles, tick(made)) == []


def test_while_a_note_is_written_no_temp_is_removed() -> None:
    made = world()
    note = WriteNote("a", "error", "job:1", (("s1.lipsync-error.txt", b""),), "digest")
    made.running[note] = NOW
    made.folders["a"].temps = {".s1.lipsync-error.txt.lipsync-part"}
    assert of(RemoveFiles, tick(made)) == []
    assert of(RemoveFiles, tick(made, NoteWritten(note, ())))


def test_a_note_waits_until_a_dead_processs_temps_are_removed() -> None:
    """Removed while it was written anew, its folder waited 30 s as one that cannot be written to."""
    made = world(job(state=JobState.FAILED, code="x", message="y"))
    made.folders["a"].temps = {".s1.lipsync-error.txt.lipsync-part"}
    actions = tick(made)
    (clean,) = of(RemoveFiles, actions)
    assert of(WriteNote, actions) == []
    assert of(WriteNote, tick(made, FilesRemoved(clean)))


def test_what_a_failed_note_may_have_left_is_removed() -> None:
    """A share that went away while a note was written keeps its temp, and no later scan need tell of it once more."""
    made = world(job(state=JobState.FAILED, code="x", message="y"))
    (note,) = of(WriteNote, tick(made))
    tick(made, Failed(note, RootProblem("stale", root_state=RootState.STALE)))
    (clean,) = of(RemoveFiles, tick(made, sweep(), at=NOW + 31 * S_))
    assert ".s1.lipsync-error.txt.lipsync-part" in clean.paths


@pytest.mark.parametrize(
    "why", [OutputProblem("full", root_state=RootState.FULL), RootProblem("stale", root_state=RootState.STALE)], ids=str
)
def test_a_dead_processs_temp_that_could_not_be_removed_is_removed_when_that_may_go_again(why: WatchError) -> None:
    """No later scan names it: it stayed for ever (simulated lives 8628 and 13459)."""
    made = world()
    made.folders["a"].temps = {".s1.lipsync-part"}
    (clean,) = of(RemoveFiles, tick(made))
    assert of(RemoveFiles, tick(made, Failed(clean, why))) == []
    (again,) = of(RemoveFiles, tick(made, sweep(), at=NOW + 31 * S_))
    assert again.paths == clean.paths


def test_no_more_downloads_at_once_than_allowed() -> None:
    jobs = [
        job(number, key=f"s{number}", state=JobState.RENDERED, request_id="r", rendered_at=NOW)
        for number in range(1, 6)
    ]
    made = world(*jobs, policy=None)
    made.policy = replace(made.policy, downloads=2)
    assert len(of(Deliver, tick(made))) == 2
    assert of(Deliver, tick(made)) == []


def test_two_results_of_one_name_are_fetched_one_after_the_other() -> None:
    """Both were overtaken by newer content: they would write into one temp."""
    first, second = (
        job(
            number, state=JobState.RENDERED, request_id=f"r{number}", rendered_at=NOW, is_superseded=True, run_no=number
        )
        for number in (1, 2)
    )
    made = world(first, second, job(3, run_no=3, state=JobState.DONE))
    (action,) = of(Deliver, tick(made))
    assert of(Deliver, tick(made)) == []
    (other,) = of(Deliver, tick(made, Delivered(action, action.output, sha("o"), 7)))
    assert (other.job.id, other.output) == (2, action.output)
