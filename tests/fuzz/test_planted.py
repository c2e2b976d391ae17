"""Whatever people plant on the share or in the state folder: no crash, nothing believed unchecked, nothing outside touched."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example

from chamelaion_watch.core.errors import OutputProblem
from chamelaion_watch.core.messages import Action
from chamelaion_watch.core.model import Pair, RootState
from chamelaion_watch.core.naming import Ours, note_path, output_path, temp_path, versions
from chamelaion_watch.core.policy import Policy
from chamelaion_watch.daemon import Daemon
from chamelaion_watch.edges import outputs
from chamelaion_watch.edges.ledger.sqlite import SqliteLedger
from chamelaion_watch.edges.mountinfo import Places
from chamelaion_watch.edges.mounts import KnownRoot, inspect_root
from chamelaion_watch.edges.outputs import Part
from chamelaion_watch.edges.sentinel import NAME, read_sentinel
from chamelaion_watch.edges.spool import Spool
from chamelaion_watch.restore import restore
from chamelaion_watch.status import snapshot
from tests.builders import NOW, folder_policy, job
from tests.fuzz import dice
from tests.fuzz.dice import Dice, briefly, campaign
from tests.fuzz.test_names import DEFAULT

LEDGER = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
REFERENCE = "cw-abcdefghijklmnopqrstuvwxyz"


# -- the sentinel -------------------------------------------------------------------------------------

SENTINEL = {
    "note": "chamelaion-watch serves this folder.",
    "schema_version": 1,
    "ledger": LEDGER,
    "host": "nas",
    "folder": "/srv/a",
    "written_at": "2026-11-22T10:00:00.000+00:00",
}
NO_TABLES = Places("/nowhere", "/nowhere", ())
TIMES = [
    "0001-01-01T00:00:00",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    "2026-11-22",
    "",
    "now",
    "20261122T1",
]


def sentinel(chosen: Dice) -> bytes:
    content = dice.mutated(chosen, SENTINEL)
    if isinstance(content, dict) and chosen.often(3):
        content["written_at"] = chosen.pick(TIMES)
    if isinstance(content, dict) and chosen.often(3):
        content["ledger"] = dice.twin(chosen, LEDGER)
    return dice.as_bytes(chosen, content)


@campaign(sentinel)
@example(thrown=b" " * 16_384 + json.dumps(SENTINEL).encode())
def test_a_sentinel_says_whose_the_folder_is_and_nothing_else(thrown: bytes, memory: Path) -> None:
    root = memory / "root"
    root.mkdir(exist_ok=True)
    (root / NAME).unlink(missing_ok=True)
    (root / NAME).write_bytes(thrown)
    known = KnownRoot("unknown", "unknown", has_sentinel=True)
    with briefly():
        found = read_sentinel(str(root))
        report = inspect_root(str(root), ledger_id=LEDGER, known=known, places=NO_TABLES)
    assert found is not None
    for text in (found.ledger, found.host, found.folder, report.reason):
        assert text.isprintable(), text
        assert len(text) <= 1_000
    assert isinstance(found.written_at, int)
    assert report.state is (RootState.OK if found.ledger == LEDGER and not found.is_damaged else RootState.FOREIGN)
    assert LEDGER.encode() in thrown or report.state is RootState.FOREIGN or b"\\u" in thrown or b"\0" in thrown
    assert not report.may_claim
    assert (root / NAME).read_bytes() == thrown


# -- commands -----------------------------------------------------------------------------------------


class Hands:
    """Effects that do nothing."""

    def start(self, action: Action) -> None: ...
    def grant(self, job_id: int, until: int) -> None: ...
    def deny(self, job_id: int, why: str) -> None: ...
    def stop(self) -> None: ...


class Clock:
    def now(self) -> int:
        return NOW

    def chance(self) -> float:
        return 0.5


@dataclass(frozen=True)
class Wish:
    verb: str
    args: str


VERBS = ["retry", "cancel", "pause", "resume", "adopt", "", "drop table jobs", "PAUSE"]


def wish(chosen: Dice) -> Wish:
    valid: list[Any] = [{"job": "1"}, {"folder": "a", "until": str(NOW + 1), "reason": "lunch"}, {"failed": "1"}, {}]
    args = dice.mutated(chosen, chosen.pick(valid)) if chosen.often(7) else dice.value(chosen)
    if isinstance(args, dict) and chosen.often(3):
        args[chosen.pick(["job", "until", "folder", "reason"])] = dice.value(chosen)
    verb = chosen.pick(VERBS) if chosen.often(9) else dice.text(chosen)
    return Wish(verb.replace("\0", ""), dice.as_bytes(chosen, args).decode("utf-8", "replace").replace("\0", ""))


@pytest.fixture
def ledger(memory: Path) -> Iterator[SqliteLedger]:
    made = SqliteLedger(memory / "state")
    made.add_job(job())
    yield made
    made.close()


@campaign(wish)
@example(thrown=Wish("pause", '{"until": "soon"}'))
@example(thrown=Wish("retry", '{"job": "x"}'))
@example(thrown=Wish("pause", "[1]"))
@example(thrown=Wish("pause", "not JSON"))
@example(thrown=Wish("cancel", '{"job": "99999999999999999999"}'))
@example(thrown=Wish("pause", '{"folder": ["a"]}'))
def test_a_wish_of_any_shape_is_answered_and_never_ends_the_loop(thrown: Wish, ledger: SqliteLedger) -> None:
    verb = thrown.verb.encode("utf-8", "replace").decode()
    with ledger.transaction():
        ledger._db.execute("DELETE FROM commands")
        ledger._db.execute("DELETE FROM gate")
        ledger._db.execute("DELETE FROM roots")
        ledger._db.execute("INSERT INTO commands (at, verb, args) VALUES (?, ?, ?)", (NOW, verb, thrown.args))
    with briefly():
        world = restore(ledger, Policy(), [folder_policy()], now=NOW)
        folder = world.folders["a"]
        folder.is_scanned = True
        daemon = Daemon(world, ledger, Clock())
        daemon.effects = Hands()
        daemon.tick([])
        (row,) = ledger._db.execute("SELECT applied_at, result FROM commands").fetchall()
        assert row["applied_at"] == NOW
        assert row["result"]
        if world.pause or folder.is_paused:
            json.dumps(snapshot(world, pid=1, started_at=NOW))
            restored = restore(ledger, Policy(), [folder_policy()], now=NOW)
            assert restored.pause == world.pause
            assert restored.folders["a"].paused_until == folder.paused_until


# -- the spool ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Left:
    """What lies in the spool."""

    note: bytes | None
    part: str
    name: str


def left(chosen: Dice) -> Left:
    note = dice.mutated(chosen, {"etag": '"v1"', "total": 100})
    kinds = ["file", "file", "file", "none", "link", "folder", "fifo"]
    return Left(dice.as_bytes(chosen, note) if chosen.often(9) else None, chosen.pick(kinds), dice.stem(chosen))


# -- the folder ---------------------------------------------------------------------------------------

PLANTED = b"somebody's own"
KINDS = [
    "nothing",
    "nothing",
    "file",
    "folder",
    "full folder",
    "link",
    "link to folder",
    "dangling",
    "fifo",
    "hard link",
]


@dataclass(frozen=True)
class Trap:
    """A pair's name, and what lies where its output, its part, a note and the note's part belong."""

    stem: str
    folder: str
    note: Ours
    kinds: tuple[str, ...]


def trap(chosen: Dice) -> Trap:
    folder = chosen.pick(["", "ep01", dice.stem(chosen, 100)])
    kinds = tuple(chosen.pick(KINDS) for _ in range(5))
    return Trap(
        dice.stem(chosen), folder, chosen.pick([Ours.ERROR, Ours.ERROR_JSON, Ours.ATTENTION, Ours.RECEIPT]), kinds
    )


@campaign(lambda chosen: trap(chosen) if chosen.often(5) else left(chosen))
@example(thrown=Left(b'{"etag": "\\"v1\\"", "total": "100"}', "file", "a"))  # was handed on as it was
@example(thrown=Left(b'{"etag": ["x"], "total": -1}', "file", "a"))
@example(thrown=Left(b'{"etag": "\\"v1\\"", "total": 100}', "folder", "a"))  # was moved to the share, and stayed there
def test_what_is_planted_is_not_followed_or_believed_and_nothing_else_is_harmed(
    thrown: Trap | Left, memory: Path
) -> None:
    if isinstance(thrown, Left):
        assert_is_taken_only_if_it_makes_sense(thrown, memory)
    else:
        assert_is_not_followed(thrown, memory)


def assert_is_taken_only_if_it_makes_sense(thrown: Left, memory: Path) -> None:
    with fresh(memory) as home:
        share, folder, outside = home / "share", home / "spool", home / "outside"
        plant(f"{folder}/{REFERENCE}.part", thrown.part, str(outside))
        plant(f"{folder}/{thrown.name}", "file", str(outside))
        if thrown.note is not None:
            (folder / f"{REFERENCE}.json").write_bytes(thrown.note)
        spool = Spool(folder)
        taken = spool.take(REFERENCE, str(share), ".a.lipsync-part", mode=0o664)
        if taken is not None:
            part, etag, total = taken
            assert thrown.part == "file"
            assert isinstance(etag, str)
            assert re.fullmatch(r'"[!#-~]{1,256}"', etag)
            assert total is None or (type(total) is int and 0 <= total < 2**63)
            assert part.size == len(PLANTED)
            part.discard()
        again = Part.create(str(share), ".a.lipsync-part", mode=0o664)
        again.discard()
        spool.prune(set())
        assert (outside / "secret").read_bytes() == PLANTED
        assert list(share.iterdir()) == []


def assert_is_not_followed(thrown: Trap, memory: Path) -> None:
    pair = Pair("v.mp4", "a.wav", thrown.folder, thrown.stem, None, "")
    output = output_path(DEFAULT, pair, date="")
    note = note_path(output, pair.name, thrown.note)
    names = versions(output)
    where = [next(names), next(names), temp_path(output), note, beside(note)]
    with fresh(memory) as home:
        share, outside = f"{home}/share", f"{home}/outside"
        Path(share, thrown.folder).mkdir(exist_ok=True)
        for path, kind in zip(where, thrown.kinds, strict=True):
            plant(f"{share}/{path}", kind, outside)
        before = inode(f"{share}/{output}")
        with briefly():
            delivered = publish(share, output)
            write_note(share, note)
        if delivered is not None:
            assert content_of(f"{share}/{delivered}") == b"result"
        assert before in (None, inode(f"{share}/{output}"))
        with briefly():
            with contextlib.suppress(OutputProblem):
                outputs.remove_note(share, note)
            outputs.remove_parts(share, where)
        assert before in (None, inode(f"{share}/{output}"))
        assert sorted(path.name for path in Path(outside).iterdir()) == ["inner", "secret"]
        assert content_of(f"{outside}/secret") == content_of(f"{outside}/inner") == PLANTED


def inode(path: str) -> int | None:
    return os.lstat(path).st_ino if os.path.lexists(path) else None


def content_of(path: str) -> bytes:
    """What is in a file that is no link."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


def publish(share: str, output: str) -> str | None:
    """Deliver a result; None if the folder does not let us."""
    part = None
    try:
        part = Part.create(share, temp_path(output), mode=0o664)
        part.write(b"result")
        return part.publish(path for path, _ in zip(versions(output), range(9), strict=False))
    except OutputProblem:
        if part is not None:
            part.discard()
        return None


def write_note(share: str, note: str) -> None:
    try:
        outputs.write_note(share, note, b"note", mode=0o664)
    except OutputProblem:
        return
    assert content_of(f"{share}/{note}") == b"note"


def beside(note: str) -> str:
    folder, slash, name = note.rpartition("/")
    return f"{folder}{slash}{outputs.part_name(name)}"


def plant(path: str, kind: str, outside: str) -> None:
    match kind:
        case "file":
            Path(path).write_bytes(PLANTED)
        case "folder" | "full folder":
            Path(path).mkdir()
            if kind == "full folder":
                Path(path, "inner").mkdir()
        case "link":
            Path(path).symlink_to(f"{outside}/secret")
        case "link to folder":
            Path(path).symlink_to(outside)
        case "dangling":
            Path(path).symlink_to(f"{outside}/none")
        case "fifo":
            os.mkfifo(path)
        case "hard link":
            os.link(f"{outside}/secret", path)
        case _:
            pass


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: it is not the disk that is tried here, and each result is flushed."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@contextlib.contextmanager
def fresh(folder: Path) -> Iterator[Path]:
    """A share and a spool for one example, beside what lies outside for all."""
    outside = folder / "outside"
    if not outside.exists():
        outside.mkdir()
        for name in ("secret", "inner"):
            (outside / name).write_bytes(PLANTED)
    for name in ("share", "spool"):
        (folder / name).mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder / "share")
        shutil.rmtree(folder / "spool")
