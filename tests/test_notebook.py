"""Which notes lie on a share, and that deleting one asks again once."""

from __future__ import annotations

from dataclasses import replace

from chamelaion_watch.core import notebook
from chamelaion_watch.core.delivery import OUTPUT_RETRY_MS
from chamelaion_watch.core.errors import OutputProblem
from chamelaion_watch.core.messages import Failed, FilesRemoved, NoteWritten, Probe, RemoveFiles, WriteNote
from chamelaion_watch.core.model import JobState, RootState
from chamelaion_watch.core.world import Note, World
from tests.builders import NOW, SILENT, folder_with, job, of, probed, settle, sweep, tick, world

TEXT, DATA = "s1.lipsync-error.txt", "s1.lipsync-error.json"
S_ = 1_000


def failed() -> tuple[World, WriteNote]:
    made = world(job(state=JobState.FAILED, code="no_sound", message="the audio file has no sound"))
    (action,) = of(WriteNote, tick(made))
    return made, action


def noted() -> tuple[World, WriteNote]:
    made, action = failed()
    tick(made, NoteWritten(action, (TEXT, DATA)))
    return made, action


def missed(made: World, *paths: str, times: int = 2) -> list[object]:
    started: list[object] = []
    for _ in range(times):
        made.running = {action: at for action, at in made.running.items() if isinstance(action, WriteNote)}
        made.now += 61 * S_
        started += tick(made, sweep(missing_notes=paths))
    return started


def test_a_failure_is_noted_once_in_words_and_for_machines() -> None:
    made, action = noted()
    assert [path for path, _ in action.files] == [TEXT, DATA]
    assert b"no sound" in action.files[0][1]
    assert made.notes["a", "job:1"] == Note("a", "job:1", "error", (TEXT, DATA), action.digest)
    assert of(WriteNote, tick(made, sweep())) == []


def test_a_note_is_on_record_before_it_is_written() -> None:
    """A process that dies after writing it would leave a note that nobody removes."""
    made, action = failed()
    (record,) = made.noted
    assert record.digest == notebook.UNWRITTEN
    assert set(record.paths) >= {TEXT, DATA}
    made.running.clear()
    assert of(WriteNote, tick(made, sweep())) == [action]  # after a restart: written anew
    made.change(made.book.jobs[1], state=JobState.QUEUED)
    made.running.clear()
    (remove,) = of(RemoveFiles, tick(made, sweep()))
    assert set(remove.paths) >= {TEXT, DATA}


def test_a_note_that_was_never_written_was_not_deleted_by_hand() -> None:
    made, _ = failed()
    missed(made, TEXT, DATA, times=4)
    assert made.book.of(JobState.FAILED)


def test_it_goes_when_its_reason_goes() -> None:
    made, _ = noted()
    made.change(made.book.jobs[1], state=JobState.QUEUED)
    (remove,) = of(RemoveFiles, tick(made, sweep()))
    tick(made, FilesRemoved(remove))
    assert made.notes == {}
    assert made.unnoted == [("a", "job:1")]


def test_deleting_it_asks_again_after_two_healthy_sweeps_and_only_once() -> None:
    made, _ = noted()
    missed(made, TEXT, times=1)
    assert made.book.of(JobState.FAILED)
    missed(made, TEXT, times=1)
    (probe,) = [action for action in made.running if isinstance(action, Probe)]
    assert (made.book.jobs[1].state, made.book.jobs[1].run_no) == (JobState.QUEUED, 2)
    (remove,) = [action for action in made.running if isinstance(action, RemoveFiles)]
    tick(made, FilesRemoved(remove))
    actions = tick(made, probed(probe, audio=SILENT))
    assert made.book.of(JobState.FAILED)
    (again,) = of(WriteNote, actions)
    tick(made, NoteWritten(again, (TEXT, DATA)))
    missed(made, times=2)
    assert (made.book.jobs[1].state, made.book.jobs[1].run_no) == (JobState.FAILED, 2)


def test_a_note_whose_source_is_gone_as_well_asks_for_nothing() -> None:
    made, _ = noted()
    made.folders["a"] = folder_with()
    missed(made, TEXT, DATA)
    assert made.book.jobs[1].state is not JobState.QUEUED


def test_a_note_that_cannot_be_written_is_tried_with_the_next_scan() -> None:
    made, action = failed()
    tick(made, Failed(action, OutputProblem("read-only", root_state=RootState.READ_ONLY)))
    assert made.folders["a"].write_trouble == (RootState.READ_ONLY, "read-only")
    assert of(WriteNote, tick(made, sweep())) == [action]


def test_a_doubtful_job_gets_a_note_for_people_only() -> None:
    made = world(job(state=JobState.DOUBTFUL, code="doubtful", message="m", request_id="r"))
    (action,) = of(WriteNote, tick(made))
    assert [path for path, _ in action.files] == ["s1.lipsync-attention.txt"]


def test_an_errors_note_is_removed_before_a_doubt_takes_its_place() -> None:
    """Its share was away when the job left `failed`: the error's files stayed for ever (simulated life 94205)."""
    made, action = noted()
    doubtful = replace(made.book.jobs[1], state=JobState.DOUBTFUL, code="doubtful", changed_at=NOW + 1)
    made.put(doubtful)
    made.is_notes_due = True
    (removal,) = tick(made, sweep())[-1:]
    assert isinstance(removal, RemoveFiles)
    assert removal.paths == (TEXT, DATA)
    (written,) = of(WriteNote, tick(made, FilesRemoved(removal)))
    assert [path for path, _ in written.files] == ["s1.lipsync-attention.txt"]
    tick(made, NoteWritten(written, ("s1.lipsync-attention.txt",)))
    assert [(note.subject, note.paths) for note in made.notes.values()] == [
        (action.subject, ("s1.lipsync-attention.txt",))
    ]


def test_a_note_that_lay_elsewhere_is_removed_before_its_next_version_is_written() -> None:
    made, action = failed()
    tick(made, NoteWritten(action, ("elsewhere.txt",)))
    made.put(replace(made.book.jobs[1], message="other words", changed_at=NOW + 1))
    made.is_notes_due = True
    (removal,) = of(RemoveFiles, tick(made, sweep()))
    assert removal.paths == ("elsewhere.txt",)


def test_only_the_newest_row_of_a_pair_speaks() -> None:
    made = world(job(state=JobState.FAILED, code="x", message="m"), job(2, state=JobState.DONE))
    assert of(WriteNote, tick(made)) == []


def test_threat_30_33_files_that_only_a_person_can_sort_out_get_one_note_when_all_arrived() -> None:
    made = world()
    folder = made.folders["a"] = folder_with()
    paths = ("s.mp4", "s.wav", "s.mp3")
    signature = job().video.signature
    folder.scanned(sweep(appeared=paths), NOW)
    assert of(WriteNote, tick(made, sweep())) == []
    for path in paths:
        now = settle(folder, path, signature, NOW)
    made.running.clear()
    (action,) = of(WriteNote, tick(made, sweep(), at=now))
    assert [path for path, _ in action.files] == ["s.lipsync-attention.txt"]


def test_a_receipt_is_written_once_and_stays_away_when_a_person_deletes_it() -> None:
    done = job(state=JobState.DONE, output="s1.lipsync.mp4", output_sha256="0" * 64, output_bytes=7, request_id="r")
    made = world(done, has_receipts=True)
    (action,) = of(WriteNote, tick(made))
    assert [path for path, _ in action.files] == ["s1.lipsync.json"]
    tick(made, NoteWritten(action, ("s1.lipsync.json",)))
    assert of(WriteNote, missed(made, "s1.lipsync.json", times=4)) == []  # type: ignore[arg-type]  # what was started


def test_a_receipt_whose_write_failed_is_written_later() -> None:
    done = job(state=JobState.DONE, output="s1.lipsync.mp4", output_sha256="0" * 64, output_bytes=7, request_id="r")
    made = world(done, has_receipts=True)
    (action,) = of(WriteNote, tick(made))
    full = OutputProblem("no space", root_state=RootState.FULL)
    tick(made, Failed(action, full))
    (clean,) = of(RemoveFiles, tick(made, sweep(), at=made.now + OUTPUT_RETRY_MS))  # what it may have left
    (again,) = of(WriteNote, tick(made, FilesRemoved(clean)))
    assert again.files == action.files


def test_the_note_of_a_newer_job_is_not_removed_with_the_older_ones_at_the_same_place() -> None:
    """It was, then seemed to have been deleted by hand, and a failed run was paid for again though nobody asked."""
    made, _ = noted()
    made.put(job(2, state=JobState.FAILED, code="no_sound", message="silent"))
    actions = tick(made, sweep())
    (write,), (remove,) = of(WriteNote, actions), of(RemoveFiles, actions)
    assert (remove.subject, remove.paths) == ("job:1", ())
    tick(made, NoteWritten(write, (TEXT, DATA)), FilesRemoved(remove))
    assert set(made.notes) == {("a", "job:2")}


def test_a_note_waits_until_the_older_one_at_its_place_is_removed() -> None:
    made, _ = noted()
    made.change(made.book.jobs[1], state=JobState.QUEUED)
    (remove,) = of(RemoveFiles, tick(made, sweep()))
    made.put(job(2, state=JobState.FAILED, code="no_sound", message="silent"))
    made.running = {remove: made.now}
    assert of(WriteNote, tick(made, sweep())) == []
    assert of(WriteNote, tick(made, FilesRemoved(remove)))
