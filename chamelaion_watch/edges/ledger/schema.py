"""The tables, and how an older ledger becomes a newer one: one script per version, applied in order.

Instants are INTEGER milliseconds (SQLite 3.40 evaluates REAL columns wrongly in RETURNING). Paths are BLOBs: the
bytes that were listed, valid UTF-8 or not. `one_sender`: of all rows that stand for the same paid run, one at most
is ever marked as sent. Nothing secret has a column: no key, no output link.
"""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY,
        root TEXT NOT NULL, key BLOB NOT NULL, name BLOB NOT NULL, folder BLOB NOT NULL, stem BLOB NOT NULL, lang TEXT,
        video_path BLOB NOT NULL, video_size INTEGER NOT NULL, video_mtime_ns INTEGER NOT NULL,
        video_sha256 TEXT NOT NULL,
        audio_path BLOB NOT NULL, audio_size INTEGER NOT NULL, audio_mtime_ns INTEGER NOT NULL,
        audio_sha256 TEXT NOT NULL,
        options TEXT NOT NULL, run_no INTEGER NOT NULL, reference_id TEXT NOT NULL,
        state TEXT NOT NULL, created_at INTEGER NOT NULL, changed_at INTEGER NOT NULL, priority INTEGER NOT NULL,
        sent_at INTEGER, sent_until INTEGER, finishing_at INTEGER, doubt_at INTEGER,
        request_id TEXT, request_status TEXT, accepted_at INTEGER, rendered_at INTEGER,
        output BLOB, output_sha256 TEXT, output_bytes INTEGER,
        tries INTEGER NOT NULL, next_at INTEGER, code TEXT, message TEXT, http_status INTEGER,
        is_superseded INTEGER NOT NULL, must_look_up INTEGER NOT NULL,
        owner TEXT, lease_until INTEGER, fence INTEGER NOT NULL
    );
    CREATE INDEX jobs_of_pair ON jobs (root, key, id);
    CREATE INDEX jobs_by_state ON jobs (state);
    CREATE INDEX jobs_by_reference ON jobs (reference_id);
    CREATE INDEX jobs_by_content ON jobs (video_sha256, audio_sha256);
    CREATE UNIQUE INDEX one_sender ON jobs (reference_id) WHERE sent_at IS NOT NULL;

    CREATE TABLE attempts (
        job_id INTEGER NOT NULL, at INTEGER NOT NULL, step TEXT NOT NULL, code TEXT NOT NULL,
        message TEXT NOT NULL, http_status INTEGER
    );
    CREATE INDEX attempts_of_job ON attempts (job_id, at);

    CREATE TABLE files (
        root TEXT NOT NULL, path BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL,
        PRIMARY KEY (root, path)
    ) WITHOUT ROWID;
    CREATE TABLE held (root TEXT NOT NULL, key BLOB NOT NULL, PRIMARY KEY (root, key)) WITHOUT ROWID;

    CREATE TABLE roots (
        name TEXT PRIMARY KEY, path BLOB NOT NULL, first_seen_at INTEGER NOT NULL, mount_source TEXT, mount_type TEXT,
        has_sentinel INTEGER NOT NULL, is_read_only INTEGER NOT NULL,
        is_held INTEGER NOT NULL, is_paused INTEGER NOT NULL, paused_until INTEGER,
        pause_reason TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE notes (
        root TEXT NOT NULL, subject BLOB NOT NULL, kind TEXT NOT NULL, paths BLOB NOT NULL, digest TEXT NOT NULL,
        written_at INTEGER NOT NULL, PRIMARY KEY (root, subject)
    ) WITHOUT ROWID;
    CREATE TABLE gate (id INTEGER PRIMARY KEY CHECK (id = 1), body TEXT NOT NULL);

    CREATE TABLE commands (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, verb TEXT NOT NULL, args TEXT NOT NULL,
        applied_at INTEGER, result TEXT
    );
    CREATE TABLE events (
        id INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, job_id INTEGER, root TEXT
    );
    CREATE INDEX events_of_job ON events (job_id) WHERE job_id IS NOT NULL;
    CREATE TABLE snapshots (owner TEXT PRIMARY KEY, at INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
    """,
)
