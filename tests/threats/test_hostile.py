"""Rows of threats.md about hostile names and files: one life with all of them at once, and some races.

Every name is carried through upload, log, note, the commands and the output file.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from watchdog.events import FileOpenedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from chamelaion_watch.cli import cli
from chamelaion_watch.core.errors import InputProblem, RootProblem
from chamelaion_watch.core.ignore import partial_copies
from chamelaion_watch.core.model import Look, Options, Signature
from chamelaion_watch.core.naming import reference_id
from chamelaion_watch.edges.clock import monotonic_s
from chamelaion_watch.edges.disk import ScanRules, Tree
from chamelaion_watch.sandbox.media import describe, make_audio, make_video
from tests.acceptance.rig import Rig, fingerprints, outputs, slow_line, submissions, temps
from tests.lives import all_done, drop, life, settled, sha256
from tests.side_by_side import side_by_side, started
from tests.support import eventually

LONGEST = 250  # + .mp4 is less than 255
STEMS = {
    "line breaks": b"two\nlines\r2026-01-01 00:00:00.000 ERROR    forged",
    "controls": bytes(range(1, 32)) + b"\x7f",
    "escapes": b"\x1b[2J\x1b]0;owned\x07",
    "right to left": "\u202egpj.exe\u2066".encode(),
    "invalid UTF-8": b"\xff\xfe\x80 \xc3",
    "half a character": b"\xed\xa0\x80",
    "quotes": b'it\'s "quoted" `id` \\',
    "command": b"$(touch owned);&& rm -rf *",
    "options": b"--config -rf",
    "markup": b"<script>alert(1)<script>[bold]%s{0}{lang}",
    "formula": b"=cmd|' -C calc'!A0",
    "device of Windows": b"CON",
    "end of Windows": b"dot and space. ",
    "colon": b"a:b",
    "question mark": b"a?b",
    "longest": b"x" * (LONGEST - 1) + b"1",
    "longest but one character": b"x" * (LONGEST - 1) + b"2",
    "longest in Cyrillic": "\u0436".encode() * 124,
    "folders in one name": b"a_b",
}
FATES = ("done", "failed", "half")
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (DEBUG   |INFO    |WARNING ) \S")


@dataclass
class Village:
    """What is left of the life of all these names."""

    at: Rig
    service: dict[str, Any]
    before: dict[str, tuple[object, ...]]
    opened: list[str]
    told: dict[str, str]  # what the commands said
    jobs: dict[bytes, tuple[Any, ...]]  # by video: state, output, output_sha256, id

    def folder(self, fate: str) -> Path:
        return self.at.drop / fate


@pytest.fixture(scope="module")
def village(request: pytest.FixtureRequest) -> Iterator[Village]:
    started(request)  # in the meantime
    api = {"max_in_flight": 64, "uploads": 4, "downloads": 4}
    with life(api=api, folder={"backlog": "take"}) as (at, sandbox), contextlib.ExitStack() as stack:
        settle_in(at, sandbox)
        opened = stack.enter_context(traps(at))
        before = fingerprints(at.drop)
        with at.daemon("-v"):
            wanted = ["done"] * (len(STEMS) + 1) + ["failed"] * len(STEMS)
            eventually(lambda: sorted(at.states()) == wanted, 90, every=0.1)
            eventually(lambda: len(notes(at)) == len(STEMS), 20)
            told = {" ".join(words): said(at, *words) for words in COMMANDS}
            told |= {f"explain {name}": said_here(at, "explain", path_of(at, name)) for name in STEMS}
        rows = at.rows("SELECT video_path, state, output, output_sha256, id FROM jobs")
        jobs = {video: tuple(rest) for video, *rest in rows}
        told |= {f"show {job[3]}": said_here(at, "show", str(job[3])) for job in jobs.values()}
        yield Village(at, sandbox.state(), before, opened, told, jobs)


COMMANDS = (
    ("status",),
    ("status", "--json"),
    ("jobs",),
    ("jobs", "--json"),
    ("report", "--format", "csv"),
)


def settle_in(at: Rig, sandbox: Any) -> None:
    """Each name three times: one that gets its output, one that fails, one that lacks its other half."""
    orders = []
    for seed, stem in enumerate(STEMS.values(), start=1):
        for shift, fate in enumerate(FATES):
            reference = put(at, os.fsencode(fate), stem, seed + 100 * shift, has_audio=fate != "half")
            if fate == "failed":
                orders.append({"on": "submit", "kind": "fail", "message": "No face", "reference_id": reference})
    put(at, b"done/a", b"b", 999, has_audio=True)  # a/b beside a_b
    sandbox.control(faults=orders)


def put(at: Rig, folder: bytes, stem: bytes, seed: int, *, has_audio: bool) -> str:
    """Put a pair there, or its video only; return the reference of its first run."""
    stage, target = at.home / "stage", os.path.join(os.fsencode(at.drop), folder)  # noqa: PTH118 - bytes
    stage.mkdir(exist_ok=True)
    os.makedirs(target, exist_ok=True)  # noqa: PTH103 - bytes
    video, audio = stage / "a.mp4", stage / "a.wav"
    make_video(video, seconds=1, width=160, height=90, seed=seed)
    make_audio(audio, seconds=1, seed=seed)
    reference = reference_id(sha256(video), sha256(audio), Options(), 1)
    video.rename(os.fsdecode(target + b"/" + stem + b".mp4"))
    if has_audio:
        audio.rename(os.fsdecode(target + b"/" + stem + b".wav"))
    return reference


def path_of(at: Rig, name: str) -> str:
    return os.fsdecode(os.fsencode(at.drop) + b"/failed/" + STEMS[name] + b".mp4")


def notes(at: Rig) -> list[Path]:
    return sorted(at.drop.rglob("*.lipsync-error.txt"))


def said_here(at: Rig, *words: str) -> str:
    """The same without a process of its own, which takes a second: there are many names."""
    result = CliRunner().invoke(cli, ["--config", str(at.config), *words], env={"CHAMELAION_API_KEY": "none"})
    assert result.exit_code == 0, result.output
    return result.stdout_bytes.decode()


def said(at: Rig, *words: str) -> str:
    """What a command says, which must be UTF-8 strictly."""
    done = subprocess.run(at.command(*words), env=at.env(), cwd="/", capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    return done.stdout.decode()


@contextlib.contextmanager
def traps(at: Rig) -> Iterator[list[str]]:
    """Everything that is called like a video and is none; gives the paths of what is opened there and outside."""
    outside, drop_ = at.home / "outside", at.drop
    outside.mkdir()
    make_video(outside / "secret.mp4", seconds=1, seed=99)
    make_audio(outside / "secret.wav", seconds=1, seed=99)
    for name in ("link", "shadow", "loop", "gone", "fifo", "socket", "folder", "device"):
        make_audio(drop_ / f"{name}.wav", seconds=1, seed=98)
    (drop_ / "link.mp4").symlink_to(outside / "secret.mp4")
    (drop_ / "shadow.mp4").symlink_to("/etc/shadow")
    (drop_ / "loop.mp4").symlink_to("loop.mp4")
    (drop_ / "gone.mp4").symlink_to("nowhere.mp4")
    (drop_ / "way").symlink_to(outside)
    (drop_ / "round").symlink_to(".")
    (drop_ / "folder.mp4").mkdir()
    os.mkfifo(drop_ / "fifo.mp4")
    with contextlib.suppress(PermissionError):
        os.mknod(drop_ / "device.mp4", stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero: never ends
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(drop_ / "socket.mp4"))
    opened: list[str] = []

    class Handler(FileSystemEventHandler):
        def dispatch(self, event: FileSystemEvent) -> None:
            opened.append(os.fsdecode(event.src_path))

    observer = Observer()
    for folder in (outside, drop_, drop_ / "done" / "a"):
        observer.schedule(Handler(), str(folder), event_filter=[FileOpenedEvent])
    observer.start()
    try:
        yield opened
    finally:
        observer.stop()
        observer.join()
        listener.close()


@pytest.mark.parametrize("name", STEMS)
def test_threat_34_38_39_40_43_a_hostile_name_gets_its_own_output(village: Village, name: str) -> None:
    state, output, digest, _ = village.jobs[b"done/" + STEMS[name] + b".mp4"]
    assert state == "done"
    path = Path(os.fsdecode(os.fsencode(village.at.drop) + b"/" + output))
    assert sha256(path) == digest
    assert describe(path).has_audio
    assert path.parent == village.folder("done")
    assert len(os.fsencode(path.name)) <= 255
    assert not re.search(r'[\x00-\x1f\x7f-\x9f<>:"\\|?*\ud800-\udfff]', path.name)
    path.name.encode()  # strictly


def test_threat_40_43_no_two_names_share_an_output_a_reference_or_a_note(village: Village) -> None:
    made = [output for state, output, _, _ in village.jobs.values() if state == "done"]
    assert len(made) == len(set(made)) == len(STEMS) + 1
    assert len(outputs(village.at.drop)) == len(made)
    references = [one["reference_id"] for one in village.service["submissions"]]
    assert len(references) == len(set(references)) == 2 * len(STEMS) + 1
    assert len(notes(village.at)) == len(STEMS)
    assert len(list(village.at.drop.rglob("*.lipsync-error.json"))) == len(STEMS)


def test_threat_38_39_notes_are_whole_text_with_names_escaped(village: Village) -> None:
    for path in notes(village.at):
        assert path.parent == village.folder("failed")
        content = path.read_bytes()
        assert content.startswith(b"\xef\xbb\xbf")
        text = content.decode("utf-8-sig")
        assert text.endswith("\r\n")
        lines = text[:-2].split("\r\n")
        assert len(lines) <= 12
        assert all(line.isprintable() for line in lines), path
    for path in village.at.drop.rglob("*.lipsync-error.json"):
        assert json.loads(path.read_bytes())["schema_version"] == 1


def test_threat_38_39_44_commands_show_names_as_plain_text(village: Village) -> None:
    for words, text in village.told.items():
        if "--json" in words:
            assert json.loads(text)["ok"]
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2066\ud800-\udfff]", text)
        elif "csv" in words:
            rows = list(csv.reader(io.StringIO(text)))
            assert len(rows) == 1 + 2 * len(STEMS) + 1
            assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "@"))]
        else:
            assert not [line for line in text.split("\n") if not line.replace("\t", " ").isprintable()], words


@pytest.mark.parametrize("name", STEMS)
def test_threat_38_39_every_name_can_be_explained(village: Village, name: str) -> None:
    assert "No face" in village.told[f"explain {name}"]


def test_threat_38_39_the_log_has_one_plain_line_per_event(village: Village) -> None:
    for line in (village.at.home / "daemon.log").read_bytes().split(b"\n")[:-1]:
        text = line.decode()
        assert LINE.match(text), text
        assert text.isprintable(), text


def test_threat_39_41_uploads_carry_neutral_names(village: Village) -> None:
    sent = village.service["submissions"]
    assert {(one["video_filename"], one["audio_filename"]) for one in sent} == {("video.mp4", "audio.wav")}
    assert {re.fullmatch(r"cw-[a-z2-7]{26}", one["reference_id"]) is not None for one in sent} == {True}
    assert all(one["fields"] == {} for one in sent)
    assert village.service["bugs"] == []


def test_threat_36_37_nothing_that_is_no_file_was_opened_and_nothing_outside(village: Village) -> None:
    never = {"secret.mp4", "secret.wav", "shadow.mp4", "link.mp4", "loop.mp4", "fifo.mp4", "socket.mp4", "device.mp4"}
    assert not [path for path in village.opened if Path(path).name in never]
    assert any(path.endswith("/b.mp4") for path in village.opened)  # or this would prove nothing
    for name in sorted(never - {"secret.mp4", "secret.wav"}):
        if os.path.lexists(village.at.drop / name):
            lines = [line for line in village.at.log().splitlines() if name in line]
            assert len(lines) == 1, name
    assert "not followed" in next(line for line in village.at.log().splitlines() if "way" in line)
    assert not [one for one in village.service["submissions"] if one["video_sha256"] == secret(village)]


def secret(village: Village) -> str:
    return sha256(village.at.home / "outside" / "secret.mp4")


def test_threat_38_43_sources_are_untouched_and_nothing_is_left_over(village: Village) -> None:
    assert fingerprints(village.at.drop) == village.before
    assert not temps(village.at.drop)
    assert not (village.at.home / "owned").exists()
    assert village.at.rows("PRAGMA integrity_check") == [("ok",)]


# -- swapped between a check and an open ------------------------------------------------------------------


def test_threat_36_a_file_that_is_swapped_for_a_link_again_and_again_never_leads_out(tmp_path: Path) -> None:
    root, secret_file = tmp_path / "root", tmp_path / "secret.mp4"
    (root / "a").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    secret_file.write_bytes(b"secret" * 1000)
    (tmp_path / "outside" / "x.mp4").write_bytes(b"secret" * 1000)
    tree = Tree(
        str(root),
        ScanRules(recursive=True, wants=lambda name: name.endswith(".mp4"), enters=lambda _: True),
        clock=monotonic_s,
        find_partial_copies=partial_copies,
    )
    is_over = threading.Event()
    (tmp_path / "good.mp4").write_bytes(b"a film" * 1000)
    swapper = threading.Thread(target=swap, args=(root, tmp_path, is_over))
    swapper.start()
    outcomes = set[str]()
    try:
        for _ in range(3_000):
            for path in ("x.mp4", "a/x.mp4"):
                outcomes.add(attempt(tree, path))
            tree.look([Look("x.mp4"), Look("a/x.mp4")])
    finally:
        is_over.set()
        swapper.join()
    assert outcomes == {"read", "refused"}


def swap(root: Path, outside: Path, is_over: threading.Event) -> None:
    """Replace a file by a link and its folder by a link, and back, as fast as it goes."""
    good = root.parent / "good.mp4"
    while not is_over.is_set():
        os.link(good, root / "new")
        (root / "new").rename(root / "x.mp4")
        (root / "new").symlink_to(outside / "secret.mp4")
        (root / "new").rename(root / "x.mp4")
        with contextlib.suppress(FileExistsError):
            os.link(good, root / "a" / "x.mp4")
        (root / "a").rename(root / "b")
        (root / "a").symlink_to(outside / "outside")
        (root / "a").unlink()
        (root / "b").rename(root / "a")


def attempt(tree: Tree, path: str) -> str:
    """Read what an attacker may have put there."""
    mtime_ns = (Path(tree._root).parent / "good.mp4").stat().st_mtime_ns
    try:
        with tree.open(path, Signature(6_000, mtime_ns)) as source:
            assert source.file.read(6) == b"a film"
            return "read"
    except (InputProblem, RootProblem, FileNotFoundError):
        return "refused"


# -- what is no media, or too much of it ------------------------------------------------------------------


def none_but(names: set[str], status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the pairs that are shown once they are these, {} before: what is over leaves with the next snapshot."""
    shown = {pair["name"]: pair for pair in status["pairs"]}
    return shown if set(shown) == names else {}


@side_by_side
def test_threat_35_litter_and_copies_under_way_are_neither_taken_nor_mentioned() -> None:
    litter = ["~$scene.mp4", ".scene.mp4", "._scene.mp4", "scene.tmp", ".DS_Store", "Thumbs.db", "Icon\r"]
    with life() as (at, sandbox):
        drop(at.drop, "clean", seed=1)
        for name in litter:
            (at.drop / name).write_bytes((at.drop / "clean.mp4").read_bytes())
        drop(at.drop, "coming", seed=2)
        (at.drop / "coming.mp4.part").write_bytes(b"more")
        for name in ("empty.mp4", "empty.wav"):
            (at.drop / name).touch()
        with at.daemon():
            eventually(lambda: "done" in at.states(), 30)
            shown = eventually(lambda: none_but({"coming", "empty"}, at.status()), 30)
            assert "coming.mp4.part" in shown["coming"]["reason"]
            assert shown["empty"]["state"] == "arriving"
            (at.drop / "coming.mp4.part").unlink()
            eventually(all_done(at, 2), 30)
        assert not [name for name in litter if name in at.log()]
        settled(at, sandbox, sent=2)


@side_by_side
def test_threat_42_what_is_no_media_costs_nothing_and_says_so() -> None:
    with life() as (at, sandbox):
        for stem in ("text", "sparse", "empty"):
            make_audio(at.drop / f"{stem}.wav", seconds=1, seed=len(stem))
        (at.drop / "text.mp4").write_text("this is no film\n" * 500)
        (at.drop / "empty.mp4").touch()
        with (at.drop / "sparse.mp4").open("wb") as file:
            file.truncate(2**30)
        with at.daemon():
            for stem in ("text", "sparse"):  # a hole is waited for ten settle times, then judged as it is
                eventually((at.drop / f"{stem}.lipsync-error.txt").exists, 90)
                assert "Delete this note to try again." in (at.drop / f"{stem}.lipsync-error.txt").read_text(
                    "utf-8-sig"
                )
            assert {pair["name"]: pair["state"] for pair in at.status()["pairs"]}["empty"] == "arriving"
        assert not submissions(sandbox)


def test_threat_42_a_look_at_fifty_gigabytes_of_nothing_takes_no_time(tmp_path: Path) -> None:
    with (tmp_path / "x.mp4").open("wb") as file:
        file.write(b"\0\0\0\x18ftypmp42")
        file.truncate(50 * 10**9)
    rules = ScanRules(recursive=True, wants=lambda _: True, enters=lambda _: True)
    tree = Tree(str(tmp_path), rules, clock=monotonic_s, find_partial_copies=partial_copies)
    (first,) = tree.look([Look("x.mp4")])
    began = monotonic_s()
    (seen,) = tree.look([Look("x.mp4", first.signature)])
    assert monotonic_s() - began < 1
    assert (seen.has_hole, seen.has_zero_tail) == (True, True)


# -- sources that are replaced in mid-upload --------------------------------------------------------------


@side_by_side
def test_threat_31_sources_that_grow_shrink_or_change_in_mid_upload_are_sent_as_they_are_then() -> None:
    with life(api={"uploads": 3}) as (at, sandbox), slow_line(sandbox.base_url, 2_500_000) as slow:
        stems = ("grow", "shrink", "same")
        for seed, stem in enumerate(stems, start=1):
            drop(at.drop, stem, seed=seed, padding=10_000_000)  # more than the kernel takes at once
        before = {sha256(at.drop / f"{stem}.mp4") for stem in stems}
        with at.daemon(CHAMELAION_BASE_URL=slow):
            eventually(lambda: sum(entry["received_bytes"] > 300_000 for entry in sandbox.state()["log"]) >= 3, 40)
            with (at.drop / "grow.mp4").open("ab") as file:
                file.write(b"\0\0\1\0free" + bytes(248))
            make_video(at.drop / "shrink.mp4", seconds=1, seed=22)
            with (at.drop / "same.mp4").open("r+b") as file:
                file.seek(-1000, os.SEEK_END)
                file.write(b"other bytes")
            eventually(all_done(at, 3), 80)
        sent = {one["video_sha256"] for one in submissions(sandbox)}
        assert sent == {sha256(at.drop / f"{stem}.mp4") for stem in stems}
        assert not sent & before
        settled(at, sandbox, sent=3)


# -- planted files ----------------------------------------------------------------------------------------


@side_by_side
def test_threat_45_planted_notes_parts_and_links_redirect_nothing() -> None:
    with life() as (at, sandbox):
        outside = at.home / "outside"
        outside.mkdir()
        (outside / "theirs.txt").write_text("theirs")
        (outside / "theirs.mp4").write_bytes(b"theirs")
        for name in (".scene.lipsync-part", "scene.lipsync-error.txt", "scene.lipsync-attention.txt"):
            (at.drop / name).symlink_to(outside / "theirs.txt")
        (at.drop / "scene.lipsync.mp4").symlink_to(outside / "theirs.mp4")
        planted = {"schema_version": 1, "job": 1, "request_id": "../../me", "output": "/etc/passwd", "run_no": 7}
        (at.drop / "scene.lipsync-error.json").write_text(json.dumps(planted))
        (at.drop / "scene.lipsync.json").write_text("[" * 100_000)
        os.mkfifo(at.drop / ".other.lipsync-part")
        sandbox.control(faults=[{"on": "submit", "kind": "fail", "message": "No face detected"}])
        drop(at.drop)
        with at.daemon():
            eventually(lambda: at.states() == ["failed"], 30)
            eventually(lambda: not (at.drop / "scene.lipsync-error.txt").is_symlink(), 10)
            (at.drop / "scene.lipsync-error.txt").unlink()
            eventually(all_done(at), 30)
            drop(at.drop, "other", seed=2)
            eventually(all_done(at, 2), 30)
        assert (outside / "theirs.txt").read_text() == "theirs"
        assert (outside / "theirs.mp4").read_bytes() == b"theirs"
        assert describe(at.drop / "scene_v2.lipsync.mp4").has_video
        assert sorted(path.name for path in outside.iterdir()) == ["theirs.mp4", "theirs.txt"]
        assert len(submissions(sandbox)) == 3


@pytest.mark.parametrize(
    "content",
    [
        b'{"ledger": "../../elsewhere", "folder": "/etc", "host": "x\\u001b[2J"}',
        b"[" * 500_000,
        b"\0" * 5_000_000,
        b'{"ledger": 7}',
        b"",
    ],
)
def test_threat_45_a_planted_sentinel_stops_the_folder_and_says_so(content: bytes) -> None:
    with life() as (at, sandbox):
        drop(at.drop)
        (at.drop / ".lipsync-root").write_bytes(content)
        done = at.run("run", "--once", timeout=30)
        assert done.returncode in {69, 73}
        assert "adopt" in done.stderr
        assert all(line.isprintable() for line in done.stderr.splitlines())
        assert (at.drop / ".lipsync-root").read_bytes() == content
        assert not sandbox.state()["log"]
