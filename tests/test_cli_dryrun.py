"""`run --dry-run`: what it lists, and that it neither writes nor asks anybody."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import replace
from pathlib import Path

from chamelaion_watch.core.model import Job, JobState, Signature, Source
from chamelaion_watch.edges import mounts
from chamelaion_watch.edges.ledger.protocol import RootRow
from chamelaion_watch.sandbox.media import make_audio, make_video
from tests.test_cli_looking import AT, JOB, Place, place

__all__ = ["place"]


def rows(place: Place) -> dict[str, tuple[str, str]]:
    """Return what would become of each name, and why."""
    result = place.run("run", "--dry-run")
    assert result.exit_code == 0, result.stderr
    lines = [line.split("\t") for line in result.stdout.splitlines() if "\t" in line]
    return {name: (what, why) for what, name, _, why in lines[1:]}


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def media(place: Place, *names: str) -> None:
    for name in names:
        make = make_video if name.endswith(".mp4") else make_audio
        make(place.drop / name, seconds=0.2)


def job_of(place: Place, stem: str, state: JobState) -> Job:
    """Have the ledger know both files of a pair, and return a job of just their content."""
    sources = []
    with place.ledger() as ledger:
        for name in (f"{stem}.mp4", f"{stem}.wav"):
            path = place.drop / name
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            source = Source(name, Signature(path.stat().st_size, path.stat().st_mtime_ns), sha256)
            ledger.remember_file("drop", name, source.signature, sha256)
            sources.append(source)
    return replace(
        JOB,
        key=stem,
        name=stem,
        stem=stem,
        lang=None,
        state=state,
        video=sources[0],
        audio=sources[1],
        output="out.mp4",
    )


def test_pairs_that_would_be_submitted_and_files_that_wait(place: Place) -> None:
    media(place, "one.mp4", "one.wav", "one.de.mp3", "lone.mp4", "cut.mp4", "cut.wav")
    whole = (place.drop / "cut.mp4").read_bytes()
    (place.drop / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (place.drop / "x.tmp").write_bytes(b"")
    (place.drop / "notes.txt").write_bytes(b"")
    before = tree(place.drop)
    result = place.run("run", "--dry-run")
    found = rows(place)
    assert found["one"][0] == found["one.de"][0] == "would be submitted"
    assert "same_stem" in found["one"][1]
    assert "language" in found["one.de"][1]
    assert found["cut"][0] == "incomplete"
    assert found["lone.mp4"][0] == "waiting"
    assert "2 would be submitted" in result.stdout
    assert "1 ignored" in result.stdout
    assert tree(place.drop) == before
    assert not place.state.exists()


def test_it_needs_no_key_and_asks_nobody(place: Place) -> None:
    media(place, "one.mp4", "one.wav")
    nowhere = {"CHAMELAION_BASE_URL": "http://127.0.0.1:9/api"}
    assert place.run("run", "--dry-run", env=dict(nowhere)).exit_code == 0


def test_what_is_done_is_not_done_again_and_new_content_is(place: Place) -> None:
    media(place, "one.mp4", "one.wav", "two.mp4", "two.wav", "bad.mp4", "bad.wav")
    place.add(
        job_of(place, "one", JobState.DONE),
        job_of(place, "two", JobState.DONE),
        replace(job_of(place, "bad", JobState.FAILED), code="no_face", message="No face"),
    )
    status = (place.drop / "two.wav").stat()
    os.utime(place.drop / "two.wav", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    before = tree(place.state)
    found = rows(place)
    assert found["one"] == ("done already", "job 1: out.mp4")
    assert found["two"][0] == "would be submitted"
    assert found["bad"] == ("failed", "job 3: no_face: No face")
    assert tree(place.state) == before


def test_held_and_paused_pairs_wait(place: Place) -> None:
    media(place, "one.mp4", "one.wav", "two.mp4", "two.wav")
    mount = mounts.mount_of(str(place.drop))
    row = RootRow("drop", str(place.drop), AT, mount.source, mount.fstype, is_paused=True, pause_reason="lunch")
    with place.ledger() as ledger:
        ledger.save_root(row)
        ledger.hold("drop", ["one"])
        ledger.save_gate({"gate": {"state": "open"}, "pause": ["dinner", None, AT]})
    found = rows(place)
    assert found["one"][0] == "held"
    assert found["two"] == ("paused", "the folder is paused: lunch")
    assert "everything is paused: dinner" in place.run("run", "--dry-run").stderr


def test_the_archive_of_a_folder_that_is_new_would_be_held(place: Place) -> None:
    make_video(place.drop / "s0.mp4", seconds=0.2)
    make_audio(place.drop / "s0.wav", seconds=0.2)
    for number in range(1, 21):
        for ending in ("mp4", "wav"):
            (place.drop / f"s{number}.{ending}").write_bytes((place.drop / f"s0.{ending}").read_bytes())
    found = rows(place)
    assert {what for what, _ in found.values()} == {"held"}
    assert len(found) == 21


def test_a_copy_that_grows_between_two_looks_is_still_arriving(place: Place) -> None:
    media(place, "one.mp4", "one.wav")
    is_over = threading.Event()

    def copy() -> None:
        with (place.drop / "one.wav").open("ab") as file:
            while not is_over.wait(0.02):
                file.write(b"x" * 100)
                file.flush()

    copying = threading.Thread(target=copy)
    copying.start()
    try:
        what, why = rows(place)["one"]
    finally:
        is_over.set()
        copying.join()
    assert what in ("arriving", "busy")
    assert why.startswith("one.wav: ")


def test_no_usable_folder_is_69(place: Place) -> None:
    place.drop.rmdir()
    result = place.run("run", "--dry-run")
    assert result.exit_code == 69
    assert "drop: missing" in result.stdout
    assert not place.drop.exists()


def test_a_folder_of_another_ledger_is_refused_with_a_ledger_and_pointed_out_without(place: Place) -> None:
    mounts.claim_root(str(place.drop), "11111111-2222-3333-4444-555555555555", "edit-2", now=AT)
    without = place.run("run", "--dry-run")
    assert without.exit_code == 0
    assert "a run would refuse this folder" in without.stdout
    place.add(JOB)
    assert place.run("run", "--dry-run").exit_code == 69
