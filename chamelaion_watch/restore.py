"""The world as a ledger remembers it: what a start and a restart begin with.

Nothing here is special to a crash: rows are read, what was being sent when the process died is sorted out by
`submission.recovered`, and everything else is planned again from the rows as they are.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from chamelaion_watch.core import gate, submission
from chamelaion_watch.core.folder import Folder
from chamelaion_watch.core.gate import Gate
from chamelaion_watch.core.known import Known
from chamelaion_watch.core.lifecycle import FINAL
from chamelaion_watch.core.model import Job, JobState, Millis, RelPath
from chamelaion_watch.core.policy import FolderPolicy, Policy
from chamelaion_watch.core.polling import OLD_POLL_MS
from chamelaion_watch.core.world import DAY_MS, HISTORY, Note, Pause, World
from chamelaion_watch.edges import mounts
from chamelaion_watch.edges.ledger.protocol import Ledger, NoteRow, RootRow

NEVER: Millis = 0  # seen: a folder that was paused before its first complete scan
KNOWN_SAMPLE = 20  # files by which a root is known again when its sentinel was lost
LONGEST_WAIT_MS = 3_600_000  # what a server may ask for; our own waits are shorter


def restore(
    ledger: Ledger,
    policy: Policy,
    folders: Iterable[FolderPolicy],
    *,
    now: Millis,
    utc_offset_s: int = 0,
    held: Gate | None = None,
) -> World:
    """Read the ledger into a world; rows that were being sent are sorted out, to be written by the first tick.

    `held` is the gate of a session of this process whose ledger failed: what the service asked for then still holds,
    and the failure was not the doing of a pair that was being sent.
    """
    world = World(policy, now=now, utc_offset_s=utc_offset_s)
    folders = list(folders)
    over = _read_jobs(world, ledger, {folder.name for folder in folders if folder.has_receipts})
    _read_gate(world, ledger.gate())
    if held is not None:
        world.gate = gate.restored(held, now, policy)
    roots = ledger.roots()
    for folder_policy in folders:
        folder = _folder(ledger, folder_policy, roots.get(folder_policy.name), over[folder_policy.name])
        folder.is_over = partial(world.book.is_over, folder_policy.name)
        world.folders[folder_policy.name] = folder
    for row in ledger.notes():
        world.notes[row.root, row.subject] = Note(row.root, row.subject, row.kind, row.paths, row.digest)
    world.accepted_at.extend(at for at in ledger.accepted_since(now - DAY_MS) if at <= now)
    for job in world.book.of(JobState.SUBMITTING):
        submission.recovered(world, job, did_end=held is None)
    return world


def gate_row(world: World) -> dict[str, Any]:
    """Return the account's state as the ledger keeps it: the gate, and a person's pause."""
    pause = world.pause
    paused = None if pause is None else [pause.reason, pause.until_at, pause.since_at]
    return {"gate": gate.to_row(world.gate), "pause": paused}


def root_row(folder: Folder, before: RootRow | None, now: Millis) -> RootRow:
    """Return what is to be remembered of a root; where it is mounted is believed only while it is well.

    What lies under an unmounted share is another file system, and must never be taken for the share.
    """
    if before is None or before.path != folder.policy.path:
        before = RootRow(folder.policy.name, folder.policy.path, NEVER)
    facts = folder.facts if folder.is_ok and folder.is_scanned else None
    return replace(
        before,
        first_seen_at=before.first_seen_at or (now if folder.is_scanned else NEVER),
        mount_source=facts.mount_source if facts else before.mount_source,
        mount_type=facts.mount_type if facts else before.mount_type,
        has_sentinel=bool(facts and facts.has_sentinel) or before.has_sentinel,
        is_read_only=facts.is_read_only if facts else before.is_read_only,
        is_held=bool(folder.held),
        is_paused=folder.is_paused,
        paused_until=folder.paused_until,
        pause_reason=folder.pause_reason,
    )


def known_root(ledger: Ledger, name: str, path: str) -> mounts.KnownRoot | None:
    """Return by what a root is known again, or None if this ledger has never seen it well."""
    row = ledger.roots().get(name)
    if row is None or row.path != path or not (row.mount_source and row.mount_type):
        return None
    sample = tuple(path for path, _, _ in islice(ledger.files(name), KNOWN_SAMPLE))
    return mounts.KnownRoot(row.mount_source, row.mount_type, row.has_sentinel, row.is_read_only, sample)


def note_row(note: Note, now: Millis) -> NoteRow:
    return NoteRow(note.root, note.subject, note.kind, note.paths, note.digest, now)


def _read_jobs(world: World, ledger: Ledger, with_receipts: Collection[str]) -> Mapping[str, set[RelPath]]:
    """Read all jobs: one that is long done may be the row that a new pair's run was paid with.

    Returns, by root, the sources whose job is over: they need no second gate if they are as they were.
    """
    over: dict[str, set[RelPath]] = defaultdict(set)
    still: dict[str, set[RelPath]] = defaultdict(set)
    for row in ledger.each_job():
        job = _within_reach(row, world.now)
        may_rest = job.state in FINAL and job.root not in with_receipts
        (world.book.shelve if may_rest else world.book.put)(job)
        paths = still if job.state in (JobState.QUEUED, JobState.SUBMITTING) else over
        paths[job.root].update((job.video.path, job.audio.path))
    for job in world.book.open():
        world.history[job.id] = deque(ledger.attempts(job.id), maxlen=HISTORY)
    for root, paths_of_root in still.items():
        over[root] -= paths_of_root
    return over


def _within_reach(job: Job, now: Millis) -> Job:
    """No wait is longer than any that we would set, whatever the wall clock did while the daemon was down.

    And no grace is over sooner: a doubt begins anew, for by a clock that was put forward it may be years old.
    """
    longest_ms = OLD_POLL_MS if job.state is JobState.RENDERING else LONGEST_WAIT_MS
    next_at = None if job.next_at is None else min(job.next_at, now + longest_ms)
    doubt_at = None if job.doubt_at is None else now
    return (
        job if (next_at, doubt_at) == (job.next_at, job.doubt_at) else replace(job, next_at=next_at, doubt_at=doubt_at)
    )


def _read_gate(world: World, row: dict[str, Any] | None) -> None:
    if row is None:
        return
    world.gate = gate.restored(gate.from_row(row["gate"]), world.now, world.policy)
    if row["pause"] is not None:
        world.pause = Pause(*row["pause"])


def _folder(ledger: Ledger, policy: FolderPolicy, row: RootRow | None, over: Collection[RelPath]) -> Folder:
    files = ledger.files(policy.name)
    known = Known((path, (signature, sha256, path in over)) for path, signature, sha256 in files)
    is_new = row is None or row.path != policy.path or row.first_seen_at == NEVER
    folder = Folder(policy, known=known, held=ledger.held(policy.name), is_new=is_new)
    if row is not None:
        folder.is_paused, folder.paused_until, folder.pause_reason = row.is_paused, row.paused_until, row.pause_reason
    return folder
