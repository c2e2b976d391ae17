"""`explain` on real files: what is never taken, what holds the others, and what became of them."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chamelaion_watch.core.model import Job, JobState, Signature
from chamelaion_watch.edges import mounts
from chamelaion_watch.sandbox.media import make_audio, make_video
from tests.test_cli_looking import AT, JOB, Place, make_place, place, snapshot

__all__ = ["place"]


def told(place: Place, name: str) -> Any:
    return place.json("explain", str(place.drop / name))["data"]


def write(place: Place, *names: str) -> None:
    """Write files that only their names matter of."""
    for name in names:
        path = place.drop / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0" * 10)


def media(place: Place, *names: str) -> None:
    for name in names:
        path = place.drop / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make = make_video if name.endswith(".mp4") else make_audio
        make(path, seconds=0.2)


def know(place: Place, *names: str) -> None:
    """Have the ledger know files as they are, as after a scan that found them complete."""
    with place.ledger() as ledger:
        for name in names:
            status = (place.drop / name).stat()
            ledger.remember_file("drop", name, Signature(status.st_size, status.st_mtime_ns), "a" * 64)


# -- where --------------------------------------------------------------------------------------------


def test_a_path_outside_is_inside_no_watched_folder(place: Place) -> None:
    result = place.run("explain", str(place.config))
    assert result.exit_code == 0
    assert "is not inside any watched folder" in result.stdout
    assert str(place.drop) in result.stdout


def test_a_folder_whose_name_only_begins_alike_is_outside(place: Place) -> None:
    (place.folder / "drop2").mkdir()
    assert place.json("explain", str(place.folder / "drop2"))["data"]["rule"] == "no_folder"


@pytest.mark.parametrize("name", ["drop/none.mp4", "elsewhere/none.mp4"])
def test_what_is_not_there_is_66(place: Place, name: str) -> None:
    result = place.run("explain", str(place.folder / name))
    assert result.exit_code == 66
    assert "no such file" in result.stdout
    assert place.json("explain", str(place.folder / name))["ok"] is False


def test_what_became_of_a_file_that_is_gone_is_still_known(place: Place) -> None:
    place.add(replace(JOB, state=JobState.DONE))
    result = place.run("explain", str(place.drop / "scene01.mp4"))
    assert result.exit_code == 66
    assert "job 1 was made from it: done" in result.stdout


def test_a_folder_that_is_reached_through_a_link_is_recognised(place: Place) -> None:
    write(place, "a.tmp")
    (place.folder / "link").symlink_to(place.drop)
    for path in ("link/a.tmp", "link"):
        assert place.json("explain", str(place.folder / path))["data"]["folder"] == "drop"


def test_without_a_ledger_it_works_and_creates_none(place: Place) -> None:
    media(place, "scene01.mp4", "scene01.wav")
    before = sorted(place.drop.iterdir())
    facts = told(place, "scene01.mp4")
    assert (facts["state"], facts["rule"], facts["is_daemon_up"]) == ("arriving", "unseen", False)
    assert facts["pairs"][0]["rule"] == "same_stem"
    assert "the daemon is not running" in facts["more"][-1]
    assert not place.state.exists()
    assert sorted(place.drop.iterdir()) == before


# -- never taken --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rule", "words"),
    [
        ("a.mp4.part", "ignored", "`*.part` (built in)"),
        (".DS_Store", "ignored", "`.*` (built in)"),
        ("a_proxy.mp4", "ignored", "`*_proxy.*` (`ignore` of the folder)"),
        ("notes.txt", "extension", ".mp4, .wav, .mp3"),
        ("a.lipsync.mp4", "ours", "chamelaion-watch itself"),
        ("a.lipsync-error.txt", "ours", "chamelaion-watch itself"),
        ("@eaDir/a.mp4", "ignored_folder", "@eaDir"),
        ("sub/@eaDir/deeper/a.mp4", "ignored_folder", "sub/@eaDir"),
    ],
)
def test_the_rule_that_leaves_a_file_alone_is_named(tmp_path: Path, name: str, rule: str, words: str) -> None:
    place = make_place(tmp_path, '    ignore: ["*_proxy.*"]\n')
    write(place, name)
    facts = told(place, name)
    assert facts["rule"] == rule
    assert words in facts["reason"]


def test_an_output_names_its_job(place: Place) -> None:
    place.add(replace(JOB, state=JobState.DONE, output="scene01.de.lipsync.mp4"))
    write(place, "scene01.de.lipsync.mp4")
    assert "it is the output of job 1" in told(place, "scene01.de.lipsync.mp4")["more"]


def test_threat_36_37_links_pipes_and_what_lies_behind_links_are_never_taken(place: Place) -> None:
    (place.drop / "link.mp4").symlink_to("/etc/hostname")
    os.mkfifo(place.drop / "pipe.mp4")
    (place.folder / "real").mkdir()
    (place.folder / "real" / "a.mp4").write_bytes(b"")
    (place.drop / "sub").symlink_to(place.folder / "real")
    for name, words in (("link.mp4", "symbolic link"), ("pipe.mp4", "a pipe"), ("sub/a.mp4", "sub is a symbolic link")):
        facts = told(place, name)
        assert facts["rule"] == "not_regular"
        assert words in facts["reason"]


def test_a_subfolder_is_not_looked_at_when_the_folder_is_not_recursive(tmp_path: Path) -> None:
    place = make_place(tmp_path, "    recursive: false\n")
    write(place, "sub/a.mp4")
    assert told(place, "sub/a.mp4")["rule"] == "not_recursive"
    assert told(place, "sub")["rule"] == "not_recursive"


# -- what holds a file, as seen from here -------------------------------------------------------------


def test_a_small_file_and_a_cut_one_are_told_apart(place: Place) -> None:
    write(place, "small.mp4")
    box = struct.pack(">I4s", 16, b"ftyp") + b"isom\0\0\0\0" + struct.pack(">I4s", 1_000_000, b"mdat")
    (place.drop / "cut.mp4").write_bytes(box + b"x" * 5000)
    small, cut = told(place, "small.mp4"), told(place, "cut.mp4")
    assert (small["state"], small["rule"]) == ("arriving", "too_small")
    assert (cut["state"], cut["rule"]) == ("incomplete", "truncated")
    assert "seen from here" in cut["reason"]


def test_a_video_without_an_audio_waits_and_the_near_miss_is_named(place: Place) -> None:
    media(place, "scene01.mp4", "scene1.wav")
    know(place, "scene01.mp4", "scene1.wav")
    facts = told(place, "scene01.mp4")
    assert (facts["state"], facts["rule"]) == ("waiting", "no_audio")
    assert facts["candidates"] == ["scene1.wav"]
    assert "did you mean scene01.wav?" in facts["reason"]


def test_an_ambiguous_file_needs_attention(place: Place) -> None:
    names = ("scene01.mp4", "scene01.wav", "scene01.mp3")
    write(place, *names)
    know(place, *names)
    facts = told(place, "scene01.wav")
    assert (facts["state"], facts["rule"]) == ("attention", "two_audios")


def test_split_folders_are_paired_across(place: Place) -> None:
    names = ("show/video/e1.mp4", "show/audio/e1.de.wav", "show/other/e2.mp4")
    write(place, *names)
    know(place, *names)
    (pair,) = told(place, "show/audio/e1.de.wav")["pairs"]
    assert (pair["rule"], pair["other"]["path"], pair["lang"]) == ("split_folders", "show/video/e1.mp4", "de")


def test_a_complete_file_waits_for_its_half_that_is_still_arriving(place: Place) -> None:
    write(place, "scene01.mp4", "scene01.wav")
    know(place, "scene01.mp4")
    facts = told(place, "scene01.mp4")
    assert (facts["state"], facts["rule"]) == ("waiting", "other_half")
    assert facts["reason"].startswith("waits for scene01.wav: arriving: 10 bytes so far")


def test_a_held_pair_says_how_to_release_it(place: Place) -> None:
    write(place, "scene01.mp4", "scene01.wav")
    know(place, "scene01.mp4", "scene01.wav")
    with place.ledger() as ledger:
        ledger.hold("drop", ["scene01"])
    facts = told(place, "scene01.wav")
    assert (facts["state"], facts["pairs"][0]["is_held"]) == ("held", True)
    assert "resume --folder drop" in facts["reason"]


def test_a_paused_account_and_a_folder_of_another_ledger_are_mentioned(place: Place) -> None:
    write(place, "scene01.mp4", "scene01.wav")
    know(place, "scene01.mp4", "scene01.wav")
    with place.ledger() as ledger:
        ledger.save_gate({"gate": {"state": "open"}, "pause": ["lunch", None, AT]})
    mounts.claim_root(str(place.drop), "11111111-2222-3333-4444-555555555555", "edit-2", now=AT)
    facts = told(place, "scene01.wav")
    assert (facts["state"], facts["rule"]) == ("foreign", "root")
    assert "edit-2" in facts["reason"]
    assert any("everything is paused: lunch" in line for line in facts["more"])


# -- what became of it --------------------------------------------------------------------------------


def job(**changes: Any) -> Job:
    return replace(JOB, key="scene01", name="scene01", lang=None, **changes)


def test_a_file_whose_job_is_done_names_the_output(place: Place) -> None:
    write(place, "scene01.mp4", "scene01.wav")
    know(place, "scene01.mp4", "scene01.wav")
    place.add(job(state=JobState.DONE, output="scene01.lipsync.mp4"))
    facts = told(place, "scene01.mp4")
    assert (facts["state"], facts["rule"], facts["pairs"][0]["job"]["id"]) == ("done", "job", 1)
    assert "its output is scene01.lipsync.mp4" in facts["reason"]


def test_a_file_whose_job_failed_says_what_to_do(place: Place) -> None:
    write(place, "scene01.mp4", "scene01.wav")
    know(place, "scene01.mp4", "scene01.wav")
    place.add(job(state=JobState.FAILED, code="no_face", message="No face detected"))
    facts = told(place, "scene01.mp4")
    assert facts["state"] == "failed"
    assert "no_face: No face detected" in facts["reason"]
    assert any(line.startswith("what to do: ") for line in facts["more"])


# -- as the daemon says -------------------------------------------------------------------------------


def test_what_a_running_daemon_says_comes_first(place: Place) -> None:
    write(place, "scene01.mp4", "scene01.wav")
    know(place, "scene01.wav")
    file = {"root": "drop", "path": "scene01.mp4", "state": "busy", "rule": "open_for_writing", "reason": "open"}
    place.tell(snapshot(files=[file | {"next_look_at": AT}]))
    with place.daemon():
        facts = told(place, "scene01.mp4")
        other = told(place, "scene01.wav")
    assert (facts["state"], facts["rule"], facts["is_daemon_up"]) == ("busy", "open_for_writing", True)
    assert facts["next_look_at"] == "2026-11-18T11:06:40.000+00:00"
    assert other["reason"] == "waits for scene01.mp4: busy: open"


def test_the_state_of_the_root_is_the_daemons_word(place: Place) -> None:
    write(place, "scene01.mp4", "scene01.wav")
    know(place, "scene01.mp4", "scene01.wav")
    root = {"name": "drop", "path": "/drop", "state": "hung", "reason": "no answer", "last_scan_at": AT, "files": 2}
    place.tell(snapshot(roots=[root]))
    with place.daemon():
        assert told(place, "scene01.mp4")["reason"] == "the folder drop is hung: no answer"


def test_a_folder_that_the_running_daemon_does_not_know_says_so(place: Place) -> None:
    write(place, "scene01.mp4", "scene01.wav")
    know(place, "scene01.mp4", "scene01.wav")
    place.tell(snapshot(roots=[]))
    with place.daemon():
        facts = told(place, "scene01.mp4")
    assert facts["state"] == "not_watched"
    assert "reload" in facts["reason"]


# -- folders ------------------------------------------------------------------------------------------


def test_a_folder_is_summed_up(place: Place) -> None:
    write(place, "a/one.mp4", "a/one.wav", "a/two.mp4", "a/two.wav", "a/lone.mp4", "b/other.mp4", "a/notes.txt")
    done = replace(JOB, key="a/one", folder="a", state=JobState.DONE)
    place.add(done)
    facts = told(place, "a")
    assert facts["counts"] == {"files": 5, "pairs": 2, "done": 1, "without a job yet": 1, "waiting": 1}
    assert any(line.startswith("waiting: a/lone.mp4: no audio yet") for line in facts["more"])
    assert told(place, "")["counts"]["files"] == 6


def test_one_side_of_split_folders_is_summed_up_with_its_pairs(place: Place) -> None:
    write(place, "show/video/e1.mp4", "show/audio/e1.wav")
    assert told(place, "show/video")["counts"] == {"files": 1, "pairs": 1, "without a job yet": 1}


def test_threat_38_a_hostile_name_is_shown_harmless(place: Place) -> None:
    name = os.fsdecode(b"a\n\x1b[31m\xff.mp4")
    write(place, name)
    result = place.run("explain", str(place.drop / name))
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert told(place, name)["rule"] == "too_small"
