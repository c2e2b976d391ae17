"""What every ledger engine must keep; today there is one. Then what is SQLite's own: files, locks, damage."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from chamelaion_watch.core.errors import LedgerUnavailable
from chamelaion_watch.core.model import Attempt, JobState, Options, Signature, Source
from chamelaion_watch.edges.ledger import schema, sqlite
from chamelaion_watch.edges.ledger.protocol import EventRow, Ledger, NoteRow, RootRow
from chamelaion_watch.edges.ledger.sqlite import DaemonLock, LedgerHeld, LedgerMissing, SqliteLedger, holder
from tests.builders import NOW, job, sha
from tests.support import eventually

BAD = os.fsdecode(b"caf\xe9 \xff")  # no UTF-8
Open: TypeAlias = Callable[[], Ledger]


@pytest.fixture(params=["sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Open a connection to one and the same ledger, as often as wanted."""
    made: list[Ledger] = []

    def open_one() -> Ledger:
        made.append(SqliteLedger(tmp_path / "state"))
        return made[-1]

    yield open_one
    for ledger in made:
        ledger.close()


@pytest.fixture
def ledger(opened: Open) -> Ledger:
    return opened()


# -- jobs ---------------------------------------------------------------------------------------------


def test_a_job_comes_back_as_it_was_whatever_its_names(ledger: Ledger) -> None:
    full = job(
        key=f"{BAD}/x",
        name=BAD,
        folder=BAD,
        stem=BAD,
        lang="pt-BR",
        video=Source(f"{BAD}/x.mp4", Signature(2**40, 2**62), sha("v")),
        options=Options(disable_active_speaker_detection=True, model="lipsync-2"),
        run_no=3,
        state=JobState.RENDERED,
        priority=-4,
        sent_at=1,
        sent_until=2,
        finishing_at=3,
        doubt_at=4,
        request_id="r",
        request_status="completed",
        accepted_at=5,
        rendered_at=6,
        output=f"{BAD}.lipsync.mp4",
        output_sha256=sha("o"),
        output_bytes=7,
        tries=8,
        next_at=9,
        code="c",
        message="m é",
        http_status=500,
        is_superseded=True,
        must_look_up=True,
        owner="host:1",
        lease_until=10,
        fence=11,
    )
    for one in (full, job()):
        added = ledger.add_job(one)
        assert added == replace(one, id=added.id)
        assert ledger.job(added.id) == added
    assert ledger.job(99) is None


def test_words_with_half_a_character_are_kept_readable(ledger: Ledger) -> None:
    added = ledger.add_job(job(message=f"cannot read {BAD}", request_status=BAD))
    found = ledger.job(added.id)
    assert found is not None
    assert found.message == r"cannot read caf\udce9 \udcff"


def test_claiming_is_once(ledger: Ledger) -> None:
    queued = ledger.add_job(job())
    sending = replace(queued, state=JobState.SUBMITTING, sent_at=NOW)
    assert ledger.claim_job(sending)
    assert not ledger.claim_job(replace(sending, sent_at=NOW + 1))
    assert ledger.job(queued.id) == sending


def test_one_row_of_a_run_is_ever_marked_as_sent(ledger: Ledger) -> None:
    first, second = ledger.add_job(job()), ledger.add_job(job(key="s2", reference_id=job().reference_id))
    assert ledger.claim_job(replace(first, sent_at=NOW))
    with ledger.transaction():
        assert not ledger.claim_job(replace(second, sent_at=NOW))
    assert ledger.job(second.id) == second
    assert ledger.save_job(replace(first, sent_at=None))
    assert ledger.claim_job(replace(second, sent_at=NOW))


def test_an_owner_that_was_fenced_off_changes_nothing(ledger: Ledger) -> None:
    mine = ledger.add_job(job())
    assert ledger.save_job(mine)
    with closing(sqlite3.connect(_file(ledger))) as other, other:
        other.execute("UPDATE jobs SET fence = 1, message = 'theirs'")
    assert not ledger.save_job(replace(mine, message="mine"))
    assert not ledger.claim_job(replace(mine, sent_at=NOW))
    found = ledger.job(mine.id)
    assert found is not None
    assert (found.message, found.sent_at) == ("theirs", None)


def test_jobs_are_found_by_state_root_time_and_number(ledger: Ledger) -> None:
    one = ledger.add_job(job(changed_at=1))
    two = ledger.add_job(job(key="s2", state=JobState.DONE, changed_at=5))
    three = ledger.add_job(job(key="s2", root="b", changed_at=9))
    four = ledger.add_job(job(key="s2", changed_at=9))
    assert ledger.jobs() == [one, two, three, four]
    assert ledger.jobs(states=[JobState.DONE]) == [two]
    assert ledger.jobs(states=[]) == []
    assert ledger.jobs(root="b") == [three]
    assert ledger.jobs(since=5) == [two, three, four]
    assert ledger.jobs(limit=2) == [three, four]
    assert ledger.latest_jobs() == [one, three, four]
    assert list(ledger.each_job()) == ledger.jobs()
    assert ledger.count_jobs() == {"queued": 3, "done": 1}


def test_attempts_are_kept_in_order_and_acceptances_are_counted(ledger: Ledger) -> None:
    lines = [
        Attempt(1, 5, "accept", "accepted", BAD),
        Attempt(1, 5, "render", "x", "y", 500),
        Attempt(2, 9, "accept", "a", ""),
    ]
    for line in lines:
        ledger.add_attempt(line)
    assert [line.step for line in ledger.attempts(1)] == ["accept", "render"]
    assert ledger.attempts(1)[1] == lines[1]
    assert ledger.accepted_since(5) == [5, 9]
    assert ledger.accepted_since(6) == [9]


# -- everything else that is remembered ---------------------------------------------------------------


def test_files_are_remembered_and_forgotten_by_root(ledger: Ledger) -> None:
    ledger.remember_file("a", BAD, Signature(1, 2), sha("1"))
    ledger.remember_file("a", BAD, Signature(3, 4), sha("2"))
    ledger.remember_file("b", "x", Signature(5, 6), sha("3"))
    assert list(ledger.files("a")) == [(BAD, Signature(3, 4), sha("2"))]
    ledger.forget_files("a", [BAD, "never seen"])
    assert list(ledger.files("a")) == []
    assert {path for path, _, _ in ledger.files("b")} == {"x"}


def test_held_pairs(ledger: Ledger) -> None:
    ledger.hold("a", ["x", BAD])
    ledger.hold("a", ["x"])
    ledger.hold("b", ["y"])
    ledger.unhold("b")
    assert (ledger.held("a"), ledger.held("b")) == ({"x", BAD}, set())


def test_notes_are_kept_by_subject(ledger: Ledger) -> None:
    note = NoteRow("a", f"files:{BAD}", "error", (f"{BAD}.txt", "x.json"), "d", NOW)
    ledger.save_note(note)
    ledger.save_note(replace(note, digest="e"))
    assert ledger.notes() == [replace(note, digest="e")]
    ledger.drop_note("a", note.subject)
    assert ledger.notes() == []


def test_roots_are_replaced_whole(ledger: Ledger) -> None:
    row = RootRow("a", f"/srv/{BAD}", 1, "s", "t", True, True, True, True, 5, "why")
    ledger.save_root(row)
    assert ledger.roots() == {"a": row}
    ledger.save_root(RootRow("a", "/srv", 1))
    assert ledger.roots() == {"a": RootRow("a", "/srv", 1)}


def test_the_gate_is_one_row(ledger: Ledger) -> None:
    assert ledger.gate() is None
    ledger.save_gate({"state": "open"})
    ledger.save_gate({"state": "paused", "more": [1, None, "é"]})
    assert ledger.gate() == {"state": "paused", "more": [1, None, "é"]}


def test_a_wish_is_new_until_it_is_answered(ledger: Ledger) -> None:
    first, second = ledger.add_command("retry", {"job": "1"}, NOW), ledger.add_command("resume", {}, NOW)
    assert [row.id for row in ledger.new_commands()] == [first, second]
    ledger.finish_command(first, NOW + 5, "done")
    assert [row.verb for row in ledger.new_commands()] == ["resume"]
    answered = ledger.command(first)
    assert answered is not None
    assert (dict(answered.args), answered.applied_at, answered.result) == ({"job": "1"}, NOW + 5, "done")
    assert ledger.command(99) is None


def test_the_diary_tells_the_newest_in_order(ledger: Ledger) -> None:
    lines = [EventRow(at, "job", f"{at}", job_id=at % 2 or None, root="a") for at in range(1, 6)]
    for line in lines:
        ledger.add_event(line)
    ledger.add_event(EventRow(6, "odd", BAD))
    assert ledger.events(limit=3)[:2] == lines[3:]
    assert ledger.events(job_id=1) == [line for line in lines if line.job_id == 1]


def test_a_snapshot_replaces_the_last(ledger: Ledger) -> None:
    ledger.save_snapshot(1, "{}")
    ledger.save_snapshot(2, '{"a":1}')
    assert ledger.snapshots() == [(ledger.owner, 2, '{"a":1}')]


# -- transactions and other processes -----------------------------------------------------------------


def test_what_fails_in_the_middle_was_never_decided(ledger: Ledger, opened: Open) -> None:
    with pytest.raises(RuntimeError, match="in the middle"), ledger.transaction():  # noqa: PT012 - that is the point
        ledger.add_job(job())
        raise RuntimeError("in the middle")
    assert opened().jobs() == []
    with ledger.transaction():
        ledger.add_job(job())
    assert len(opened().jobs()) == 1


def test_a_commit_of_another_is_news_once(ledger: Ledger, opened: Open) -> None:
    other = opened()
    ledger.has_news()
    assert not ledger.has_news()
    other.add_command("resume", {}, NOW)
    assert ledger.has_news()
    assert not ledger.has_news()
    assert [row.verb for row in ledger.new_commands()] == ["resume"]
    with ledger.transaction():
        ledger.finish_command(1, NOW, "ok")
    assert not ledger.has_news()


def test_a_wish_of_another_is_there_as_soon_as_it_is_said(ledger: Ledger, opened: Open) -> None:
    """RETURNING keeps a statement open until all its rows are read: it must not keep the row to itself."""
    number = opened().add_command("pause", {}, NOW)
    assert [row.id for row in ledger.new_commands()] == [number]


def test_all_connections_see_one_ledger(opened: Open) -> None:
    assert opened().ledger_id == opened().ledger_id


def test_pruning_keeps_what_is_open_and_each_pairs_newest(ledger: Ledger) -> None:
    old = {state: ledger.add_job(job(key=str(state), state=state, changed_at=1)) for state in JobState}
    newer = {
        state: ledger.add_job(job(key=str(state), state=JobState.DONE, changed_at=1))
        for state in (JobState.DONE, JobState.CANCELLED, JobState.SUPERSEDED, JobState.FAILED)
    }
    ledger.add_attempt(Attempt(old[JobState.DONE].id, 1, "s", "c", "m"))
    ledger.add_event(EventRow(1, "k", "t"))
    assert ledger.prune(before=2) == 3
    left = {one.id for one in ledger.jobs()}
    gone = {old[state].id for state in (JobState.DONE, JobState.CANCELLED, JobState.SUPERSEDED)}
    assert left == ({one.id for one in old.values()} | {one.id for one in newer.values()}) - gone
    assert ledger.attempts(old[JobState.DONE].id) == []
    assert ledger.events() == []


def test_a_cancelled_pair_is_still_cancelled_after_pruning(ledger: Ledger) -> None:
    """Without its row it would be a new pair, and be paid for."""
    kept = ledger.add_job(job(state=JobState.CANCELLED, changed_at=1))
    assert ledger.prune(before=2) == 0
    assert ledger.jobs() == [kept]


# -- the file -----------------------------------------------------------------------------------------


def _file(ledger: Ledger) -> Path:
    assert isinstance(ledger, SqliteLedger)
    return ledger._path


def _state(tmp_path: Path) -> Path:
    """A state folder with a ledger of one job in it."""
    state = tmp_path / "state"
    with closing(SqliteLedger(state)) as made:
        made.add_job(job())
    return state


def test_it_is_readable_for_its_owner_only(tmp_path: Path) -> None:
    state = _state(tmp_path)
    assert (state / sqlite.FILE).stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o077 == 0


def test_threat_11_looking_never_creates_one(tmp_path: Path) -> None:
    with pytest.raises(LedgerMissing, match="no ledger at"):
        SqliteLedger(tmp_path / "state", must_exist=True)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("damage", [b"", b"not a database, but long enough to be looked at " * 100])
def test_threat_11_a_damaged_one_is_refused_and_left_as_it_is(tmp_path: Path, damage: bytes) -> None:
    file = _state(tmp_path) / sqlite.FILE
    file.write_bytes(damage)
    for must_exist in (False, True):
        with pytest.raises(LedgerUnavailable, match="nothing will be submitted without it"):
            SqliteLedger(file.parent, must_exist=must_exist)
    assert file.read_bytes() == damage


def test_threat_11_a_page_of_rubbish_inside_is_found_at_the_start(tmp_path: Path) -> None:
    file = _state(tmp_path) / sqlite.FILE
    content = bytearray(file.read_bytes())
    content[4096 : 4096 * 8] = os.urandom(4096 * 7)
    file.write_bytes(content)
    with pytest.raises(LedgerUnavailable, match="nothing will be submitted"):
        SqliteLedger(file.parent)


def test_threat_11_a_newer_schema_is_refused(tmp_path: Path) -> None:
    file = _state(tmp_path) / sqlite.FILE
    with closing(sqlite3.connect(file)) as db:
        db.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    with pytest.raises(LedgerUnavailable, match="written by a newer version"):
        SqliteLedger(file.parent)


def test_another_programs_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    file = tmp_path / sqlite.FILE
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    before = file.read_bytes()
    with pytest.raises(LedgerUnavailable, match="is not a ledger of chamelaion-watch"):
        SqliteLedger(tmp_path)
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [sqlite.FILE]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_threat_11_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o500)
    with pytest.raises(LedgerUnavailable):
        SqliteLedger(state)


def test_an_older_ledger_is_migrated_with_a_copy_beside_it(tmp_path: Path) -> None:
    state = _state(tmp_path)
    added = "ALTER TABLE jobs ADD COLUMN colour TEXT;"
    with closing(SqliteLedger(state, migrations=(*schema.MIGRATIONS, added))) as newer:
        assert len(newer.jobs()) == 1
        assert newer.is_sound()
    with closing(sqlite3.connect(state / sqlite.FILE)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert db.execute("SELECT colour FROM jobs").fetchall() == [(None,)]
    with closing(sqlite3.connect(state / f"{sqlite.FILE}.v1")) as copy:
        assert copy.execute("SELECT count(*) FROM jobs").fetchone() == (1,)


def test_a_draft_that_a_dying_process_left_is_no_ledger(tmp_path: Path) -> None:
    (tmp_path / f"{sqlite.FILE}.new").write_bytes(b"half")
    with closing(SqliteLedger(tmp_path)) as made:
        assert made.is_sound()
    assert not (tmp_path / f"{sqlite.FILE}.new").exists()


def test_threat_81_nothing_secret_has_a_column() -> None:
    text = " ".join(schema.MIGRATIONS).lower()
    assert not any(word in text for word in ("output_url", "api_key", "token", "bearer"))


# -- the one daemon -----------------------------------------------------------------------------------

HOLD = """
import signal, sys
from pathlib import Path
from chamelaion_watch.edges.ledger.sqlite import DaemonLock
lock = DaemonLock(Path(sys.argv[1]))
lock.take()
print("held", flush=True)
signal.pause()
"""


def test_threat_06_a_second_daemon_is_refused_with_the_firsts_pid_and_may_start_when_it_is_dead(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert holder(tmp_path) == child.pid
        with pytest.raises(LedgerHeld, match=rf"pid {child.pid}\b"):
            DaemonLock(tmp_path).take()
    finally:
        child.kill()
        child.communicate()
    assert holder(tmp_path) is None
    lock = DaemonLock(tmp_path)
    lock.take()
    assert holder(tmp_path) == os.getpid()
    lock.release()


def test_nobody_holds_a_ledger_that_is_not_there(tmp_path: Path) -> None:
    assert holder(tmp_path / "nowhere") is None


WRITE = """
import sys
from dataclasses import replace
from pathlib import Path
from chamelaion_watch.core.model import Attempt
from chamelaion_watch.edges.ledger.sqlite import SqliteLedger
from tests.builders import job
ledger = SqliteLedger(Path(sys.argv[1]))
print("writing", flush=True)
number = 0
while True:
    number += 1
    with ledger.transaction():
        added = ledger.add_job(job(key=f"s{number}"))
        ledger.save_job(replace(added, message="x" * 5000))
        ledger.add_attempt(Attempt(added.id, number, "s", "c", "m" * 500))
"""


def test_threat_01_kill_9_in_the_middle_of_transactions_leaves_whole_ones(tmp_path: Path) -> None:
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        wal = tmp_path / f"{sqlite.FILE}-wal"
        eventually(lambda: wal.exists() and wal.stat().st_size > 200_000)  # noqa: B023 - waited for here
        child.send_signal(signal.SIGKILL)
        child.communicate()
        with closing(SqliteLedger(tmp_path)) as survivor:
            assert survivor.is_sound()
            jobs = survivor.jobs()
            assert jobs
            assert all(one.message == "x" * 5000 for one in jobs)
            assert all(len(survivor.attempts(one.id)) == 1 for one in jobs[-20:])


def test_threat_11_a_ledger_that_another_process_locks_is_said_and_nothing_hangs(tmp_path: Path) -> None:
    state = _state(tmp_path)
    with closing(SqliteLedger(state)) as ours, closing(sqlite3.connect(state / sqlite.FILE)) as other:
        ours._run("PRAGMA busy_timeout = 50")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="is locked by another process"), ours.transaction():
            pass
        other.rollback()
        with ours.transaction():
            ours.add_job(job(key="s2"))


def test_threat_15_a_full_disk_is_said_and_what_was_there_stays(tmp_path: Path) -> None:
    with closing(SqliteLedger(_state(tmp_path))) as ours:
        pages = ours._run("PRAGMA page_count").fetchone()[0]
        ours._run(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LedgerUnavailable, match="no space left for the ledger"), ours.transaction():
            ours.save_gate({"filling": "x" * 200_000})
        ours._run("PRAGMA max_page_count = 100000")
        with ours.transaction():
            ours.save_gate(json.loads('{"room": 1}'))
        assert len(ours.jobs()) == 1
