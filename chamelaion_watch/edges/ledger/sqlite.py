"""The ledger on SQLite: one file on a local disk, WAL, synchronous=FULL (NORMAL lost a committed row on power loss).

The daemon holds a lock on the file beside it (`daemon.lock`); commands of other processes open the ledger without
it and only look, or append to `commands`. A ledger that is damaged, newer than this version or not ours is refused
loudly and never replaced: an empty ledger would pay for everything again.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chamelaion_watch.core.errors import LedgerUnavailable
from chamelaion_watch.core.model import Attempt, Job, JobState, Millis, RelPath, Signature
from chamelaion_watch.edges.ledger.lock import DaemonLock, LedgerHeld, holder
from chamelaion_watch.edges.ledger.protocol import CommandRow, EventRow, NoteRow, RootRow
from chamelaion_watch.edges.ledger.rows import (
    COLUMNS,
    command_from_row,
    encode,
    job_from_row,
    job_to_row,
    root_from_row,
    storable,
)
from chamelaion_watch.edges.ledger.schema import MIGRATIONS

__all__ = ["DaemonLock", "LedgerHeld", "LedgerMissing", "SqliteLedger", "holder"]

FILE = "ledger.sqlite3"
APPLICATION_ID = 0x63776C31  # "cwl1": not some other program's database
BUSY_TIMEOUT_S = 10.0
_JOB = f"id, {', '.join(COLUMNS)}"
_INSERT_JOB = f"INSERT INTO jobs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) RETURNING id"
_UPDATE_JOB = f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in COLUMNS)} WHERE id = ? AND fence = ?"


class LedgerMissing(LedgerUnavailable):
    """There is no ledger yet."""

    code = "no_ledger"


class SqliteLedger:
    """The engine for one host; `must_exist` is for commands that look and must never create a ledger."""

    def __init__(self, folder: Path, *, must_exist: bool = False, migrations: Sequence[str] = MIGRATIONS) -> None:
        self._path = folder / FILE
        if must_exist and not _is_there(self._path):
            raise LedgerMissing(
                f"no ledger at {self._path}: the daemon has not run with this configuration yet; "
                "start `chamelaion-watch run`, or name the right --config"
            )
        with _translated(self._path):
            if not must_exist:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._path.exists():
                _refuse_empty(self._path)
            else:
                _create(self._path, migrations)
            self._db = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        try:
            with _translated(self._path):
                _check(self._db, self._path, len(migrations))
                _configure(self._db)
                _migrate(self._db, self._path, migrations)
                self.ledger_id = str(self._run("SELECT value FROM meta WHERE name = 'ledger_id'").fetchone()[0])
        except BaseException:
            self._db.close()
            raise
        self.owner = f"{socket.gethostname()}:{os.getpid()}"
        self._seen_version = -1

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what happens inside, durably, or nothing of it."""
        with _translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite rolls back by itself when the disk is full
                    self._db.execute("ROLLBACK")
                raise

    # -- jobs -----------------------------------------------------------------------------------------

    def add_job(self, job: Job) -> Job:
        """Store a new job and return it with its id."""
        found = self._run(_INSERT_JOB, job_to_row(job)).fetchone()
        return replace(job, id=found["id"])

    def save_job(self, job: Job) -> bool:
        """Store a changed job; False, and nothing is stored, if another owner has fenced us off."""
        return self._run(_UPDATE_JOB, (*job_to_row(job), job.id, job.fence)).rowcount == 1

    def claim_job(self, job: Job) -> bool:
        """Store a job that is about to be sent, if it is not marked as sent yet, nor any other row of its run."""
        values = storable((*job_to_row(job), job.id, job.fence))
        try:
            cursor = self._db.execute(f"{_UPDATE_JOB} AND sent_at IS NULL", values)
        except sqlite3.IntegrityError:  # one_sender
            return False
        return cursor.rowcount == 1

    def job(self, job_id: int) -> Job | None:
        row = self._run(f"SELECT {_JOB} FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return job_from_row(row) if row else None

    def jobs(
        self,
        *,
        states: Iterable[JobState] | None = None,
        root: str | None = None,
        since: Millis | None = None,
        limit: int | None = None,
    ) -> list[Job]:
        """Return jobs, oldest first; with a limit the newest of them."""
        wheres, values = ["1"], list[Any]()
        if states is not None:
            names = [str(state) for state in states]
            wheres.append(f"state IN ({', '.join('?' * len(names))})")
            values += names
        if root is not None:
            wheres.append("root = ?")
            values.append(root)
        if since is not None:
            wheres.append("changed_at >= ?")
            values.append(since)
        sql = f"SELECT {_JOB} FROM jobs WHERE {' AND '.join(wheres)} ORDER BY id DESC LIMIT ?"
        rows = self._run(sql, (*values, -1 if limit is None else limit)).fetchall()
        return [job_from_row(row) for row in reversed(rows)]

    def each_job(self) -> Iterator[Job]:
        """Yield all jobs, oldest first: tens of thousands need not be held at once."""
        with _translated(self._path):
            yield from map(job_from_row, self._db.execute(f"SELECT {_JOB} FROM jobs ORDER BY id"))

    def latest_jobs(self) -> list[Job]:
        """Return the newest job of each pair."""
        sql = f"SELECT {_JOB} FROM jobs WHERE id IN (SELECT max(id) FROM jobs GROUP BY root, key) ORDER BY id"
        return [job_from_row(row) for row in self._run(sql)]

    def count_jobs(self) -> dict[str, int]:
        rows = self._run("SELECT state, count(*) AS n FROM jobs GROUP BY state").fetchall()
        return {row["state"]: row["n"] for row in rows}

    def accepted_since(self, since: Millis) -> list[Millis]:
        """Return when the service took each submission since then: what `max_jobs_per_day` brakes."""
        rows = self._run("SELECT at FROM attempts WHERE step = 'accept' AND at >= ? ORDER BY at", (since,))
        return [row["at"] for row in rows]

    def add_attempt(self, attempt: Attempt) -> None:
        self._run(
            "INSERT INTO attempts (job_id, at, step, code, message, http_status) VALUES (?, ?, ?, ?, ?, ?)",
            (attempt.job_id, attempt.at, attempt.step, attempt.code, attempt.message, attempt.http_status),
        )

    def attempts(self, job_id: int) -> list[Attempt]:
        sql = "SELECT job_id, at, step, code, message, http_status FROM attempts WHERE job_id = ? ORDER BY at, rowid"
        return [Attempt(**dict(row)) for row in self._run(sql, (job_id,))]

    # -- what the disk was seen to hold -----------------------------------------------------------------

    def remember_file(self, root: str, path: RelPath, signature: Signature, sha256: str) -> None:
        self._run(
            "INSERT OR REPLACE INTO files (root, path, size, mtime_ns, sha256) VALUES (?, ?, ?, ?, ?)",
            (root, encode(path), signature.size, signature.mtime_ns, sha256),
        )

    def forget_files(self, root: str, paths: Sequence[RelPath]) -> None:
        rows = [(root, encode(path)) for path in paths]
        with _translated(self._path):
            self._db.executemany("DELETE FROM files WHERE root = ? AND path = ?", rows)

    def files(self, root: str) -> Iterator[tuple[RelPath, Signature, str]]:
        """Yield the content identities that were taken under this root, in the order of the paths."""
        sql = "SELECT path, size, mtime_ns, sha256 FROM files WHERE root = ? ORDER BY path"
        for path, size, mtime_ns, sha256 in self._run(sql, (root,)):
            yield os.fsdecode(path), Signature(size, mtime_ns), sha256

    def hold(self, root: str, keys: Sequence[RelPath]) -> None:
        rows = [(root, encode(key)) for key in keys]
        with _translated(self._path):
            self._db.executemany("INSERT OR IGNORE INTO held (root, key) VALUES (?, ?)", rows)

    def unhold(self, root: str) -> None:
        self._run("DELETE FROM held WHERE root = ?", (root,))

    def held(self, root: str) -> set[RelPath]:
        return {os.fsdecode(row["key"]) for row in self._run("SELECT key FROM held WHERE root = ?", (root,))}

    # -- roots, notes, gate -----------------------------------------------------------------------------

    def roots(self) -> dict[str, RootRow]:
        return {row["name"]: root_from_row(row) for row in self._run("SELECT * FROM roots")}

    def save_root(self, root: RootRow) -> None:
        row = {name: getattr(root, name) for name in RootRow.__slots__} | {"path": encode(root.path)}
        marks = ", ".join(f":{name}" for name in row)
        self._run(f"INSERT OR REPLACE INTO roots ({', '.join(row)}) VALUES ({marks})", row)

    def notes(self) -> list[NoteRow]:
        return [
            NoteRow(
                root=row["root"],
                subject=os.fsdecode(row["subject"]),
                kind=row["kind"],
                paths=tuple(os.fsdecode(path) for path in bytes(row["paths"]).split(b"\0")),
                digest=row["digest"],
                written_at=row["written_at"],
            )
            for row in self._run("SELECT * FROM notes")
        ]

    def save_note(self, note: NoteRow) -> None:
        paths = b"\0".join(os.fsencode(path) for path in note.paths)
        self._run(
            "INSERT OR REPLACE INTO notes (root, subject, kind, paths, digest, written_at) VALUES (?, ?, ?, ?, ?, ?)",
            (note.root, encode(note.subject), note.kind, paths, note.digest, note.written_at),
        )

    def drop_note(self, root: str, subject: str) -> None:
        self._run("DELETE FROM notes WHERE root = ? AND subject = ?", (root, encode(subject)))

    def gate(self) -> dict[str, Any] | None:
        row = self._run("SELECT body FROM gate").fetchone()
        return dict(json.loads(row["body"])) if row else None

    def save_gate(self, row: Mapping[str, Any]) -> None:
        self._run("INSERT OR REPLACE INTO gate (id, body) VALUES (1, ?)", (json.dumps(dict(row)),))

    # -- people -----------------------------------------------------------------------------------------

    def add_command(self, verb: str, args: Mapping[str, str], at: Millis) -> int:
        """Append a person's wish; the daemon applies it within a second of seeing it, or when it is up again."""
        sql = "INSERT INTO commands (at, verb, args) VALUES (?, ?, ?) RETURNING id"
        return int(self._run(sql, (at, verb, json.dumps(dict(args)))).fetchone()["id"])

    def new_commands(self) -> list[CommandRow]:
        rows = self._run("SELECT * FROM commands WHERE applied_at IS NULL ORDER BY id").fetchall()
        return [command_from_row(row) for row in rows]

    def command(self, command_id: int) -> CommandRow | None:
        row = self._run("SELECT * FROM commands WHERE id = ?", (command_id,)).fetchone()
        return command_from_row(row) if row else None

    def finish_command(self, command_id: int, at: Millis, result: str) -> None:
        self._run("UPDATE commands SET applied_at = ?, result = ? WHERE id = ?", (at, result, command_id))

    def has_news(self) -> bool:
        """Say whether another process has committed since the last call: cheap enough for once a second."""
        version = int(self._run("PRAGMA data_version").fetchone()[0])
        is_news, self._seen_version = version != self._seen_version, version
        return is_news

    # -- telling ----------------------------------------------------------------------------------------

    def add_event(self, event: EventRow) -> None:
        self._run(
            "INSERT INTO events (at, kind, text, job_id, root) VALUES (?, ?, ?, ?, ?)",
            (event.at, event.kind, event.text, event.job_id, event.root),
        )

    def events(self, *, job_id: int | None = None, limit: int = 100) -> list[EventRow]:
        where = "job_id IS ?" if job_id is not None else "? IS NULL"
        sql = f"SELECT at, kind, text, job_id, root FROM events WHERE {where} ORDER BY id DESC LIMIT ?"
        return [EventRow(**dict(row)) for row in reversed(self._run(sql, (job_id, limit)).fetchall())]

    def save_snapshot(self, at: Millis, body: str) -> None:
        """Store what `status` shows; one row, for one daemon serves this ledger."""
        self._run("DELETE FROM snapshots WHERE owner != ?", (self.owner,))
        self._run("INSERT OR REPLACE INTO snapshots (owner, at, body) VALUES (?, ?, ?)", (self.owner, at, body))

    def snapshots(self) -> list[tuple[str, Millis, str]]:
        return [tuple(row) for row in self._run("SELECT owner, at, body FROM snapshots ORDER BY at DESC")]

    def prune(self, before: Millis) -> int:
        """Drop history from before then: rows that are over, but each pair's newest: without it the pair is new."""
        old = (
            "SELECT id FROM jobs WHERE changed_at < :before AND state IN ('done', 'superseded', 'cancelled')"
            " AND id NOT IN (SELECT max(id) FROM jobs GROUP BY root, key)"
        )
        with self.transaction():
            self._run(f"DELETE FROM attempts WHERE job_id IN ({old})", {"before": before})
            count = self._run(f"DELETE FROM jobs WHERE id IN ({old})", {"before": before}).rowcount
            self._run("DELETE FROM events WHERE at < ?", (before,))
            self._run("DELETE FROM commands WHERE applied_at < ?", (before,))
        return count

    def is_sound(self) -> bool:
        """Run SQLite's integrity check."""
        return bool(self._run("PRAGMA integrity_check").fetchone()[0] == "ok")

    def _run(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        with _translated(self._path):
            return self._db.execute(sql, storable(values))


def _is_there(path: Path) -> bool:
    """Say whether there is a ledger; raises LedgerUnavailable where this user may not even look."""
    try:
        return path.exists()
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise LedgerUnavailable(f"the ledger {path}: {words}: do this as the user of the daemon, or as root") from error


def _create(path: Path, migrations: Sequence[str]) -> None:
    """A new ledger gets its name when it is whole: an empty file of that name can then only be a damaged one."""
    draft = path.with_name(f"{FILE}.new")
    draft.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as db:
        _migrate(db, draft, migrations)
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _refuse_empty(path: Path) -> None:
    """An empty file is what is left of a ledger; SQLite would take it for a new one, and pay for everything again."""
    if path.stat().st_size == 0:
        raise LedgerUnavailable(f"the ledger {path} is empty, so it is damaged; {RESTORE}")


def _configure(db: sqlite3.Connection) -> None:
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA trusted_schema = OFF")


def _check(db: sqlite3.Connection, path: Path, known: int) -> None:
    """Refuse what is not a sound ledger of ours, before anything is written to it."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise LedgerUnavailable(f"{path} is not a ledger of chamelaion-watch; move it away, or set another `state`")
    if version > known:
        raise LedgerUnavailable(
            f"the ledger {path} has schema version {version}, this program knows up to {known}: it was "
            "written by a newer version; install that version again"
        )
    if tables and (finding := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise LedgerUnavailable(f"the ledger {path} is damaged ({finding}); {RESTORE}")


def _migrate(db: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    """Bring the schema to this version, one step per transaction; a copy of an older ledger is kept beside it."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if 0 < version < len(migrations):
        with contextlib.closing(sqlite3.connect(path.with_name(f"{FILE}.v{version}"))) as copy:
            db.backup(copy)
    for number, script in enumerate(migrations[version:], start=version + 1):
        db.executescript(
            f"BEGIN IMMEDIATE; {script} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number}; "
            f"INSERT OR IGNORE INTO meta VALUES ('ledger_id', '{uuid.uuid4()}'); COMMIT;"
        )
    path.chmod(0o600)


RESTORE = (
    "nothing will be submitted without it; restore it from a backup, or, if it is truly lost, move it away and start "
    "again: pairs that are already paid for are then found at the service by their reference ids"
)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            raise LedgerUnavailable(f"the ledger {path} is locked by another process for over 10 s: {text}") from error
        if "full" in text:
            raise LedgerUnavailable(f"no space left for the ledger {path}: free some, then start again") from error
        if "readonly" in text or "unable to open" in text:
            raise LedgerUnavailable(f"cannot write the ledger {path}: {text}; check its owner and mode") from error
        raise LedgerUnavailable(f"the ledger {path} cannot be used: {text}; {RESTORE}") from error
    except OSError as error:
        raise LedgerUnavailable(f"cannot use the ledger {path}: {error.strerror}") from error
