"""Which notes ought to lie on the shares, compared with those that do: write, rewrite, remove.

An error note stands for a failed job, an attention note for a doubtful one or for files that only a person can
sort out. They go when their reason goes. A note that a person deleted is not written again: deleting it asks again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from chamelaion_watch.core import naming, notes
from chamelaion_watch.core.folder import Folder
from chamelaion_watch.core.messages import RemoveFiles, WriteNote
from chamelaion_watch.core.model import Job, JobState, Pair, RelPath, Unpaired
from chamelaion_watch.core.naming import Ours
from chamelaion_watch.core.pairindex import RESTLESS
from chamelaion_watch.core.target import local_date, output_of
from chamelaion_watch.core.world import Note, World

UNEVENTFUL = frozenset({"queued", "accepted", "completed", "delivered", "again"})  # attempts that did not fail
ERROR, ATTENTION, RECEIPT = "error", "attention", "receipt"
UNWRITTEN = ""  # the digest of a note that is being written


def due(world: World) -> Iterator[WriteNote | RemoveFiles]:
    """Yield what must be written or removed so that the notes tell the truth."""
    wanted: set[tuple[str, str]] = set()
    kept: set[tuple[str, RelPath]] = set()  # an older job's note may lie where the newer one's does
    for action in _wanted(world):
        where = (action.root, action.subject)
        there = world.notes.get(where)
        if there is not None and there.digest == action.digest:
            wanted.add(where)
            kept |= {(action.root, path) for path in there.paths}
        elif there is not None and not (places := _places(action, there)).issuperset(there.paths):
            kept |= {(action.root, path) for path in places}  # what lies elsewhere is removed before it is forgotten
        else:
            wanted.add(where)
            kept |= {(action.root, path) for path in paths_of(action)}
            yield action
    for where, note in list(world.notes.items()):
        if where not in wanted and note.kind != RECEIPT and note.root in world.folders:
            paths = tuple(path for path in note.paths if (note.root, path) not in kept)
            yield RemoveFiles(note.root, paths, note.subject)


def _places(action: WriteNote, there: Note) -> set[RelPath]:
    """Where a note may lie that this one will replace: one that is told lies where it was told."""
    return paths_of(action) if there.digest == UNWRITTEN else {path for path, _ in action.files}


def paths_of(action: WriteNote | RemoveFiles) -> set[RelPath]:
    """Return every path that an action may touch."""
    if isinstance(action, RemoveFiles):
        return set(action.paths)
    return {path for path, _ in action.files} | set(action.elsewhere)


def begun(world: World, action: WriteNote) -> None:
    """Remember a note before it is written: what a dying process left is then written anew, or goes with its reason."""
    known = world.notes.get((action.root, action.subject))
    paths = (*(known.paths if known else ()), *(path for path, _ in action.files), *action.elsewhere)
    note = Note(action.root, action.subject, action.kind, tuple(dict.fromkeys(paths)), UNWRITTEN)
    world.notes[note.root, note.subject] = note
    world.noted.append(note)


def written(world: World, action: WriteNote, paths: Sequence[RelPath]) -> None:
    """Remember a note that now lies on the share."""
    world.folders[action.root].forget_missing(paths)
    note = Note(action.root, action.subject, action.kind, tuple(paths), action.digest)
    world.notes[note.root, note.subject] = note
    world.noted.append(note)
    world.is_notes_due = True


def removed(world: World, action: RemoveFiles) -> None:
    """Forget a note that is gone; what waited for a dead process's temps to go is due as well."""
    where = (action.root, action.subject or "")
    if note := world.notes.pop(where, None):
        world.unnoted.append(where)
        world.folders[action.root].forget_missing(note.paths)
    world.is_notes_due = True


def to_look_for(world: World, root: str) -> Iterator[RelPath]:
    """Yield where a root's notes lie; a receipt that is missing asks for nothing."""
    for (its_root, _), note in world.notes.items():
        if its_root == root and note.kind != RECEIPT and note.digest != UNWRITTEN:
            yield from note.paths


def deleted_by_hand(world: World, folder: Folder) -> list[Job]:
    """Return the jobs whose note a person deleted: they are asked for again."""
    jobs = []
    for (root, subject), note in list(world.notes.items()):
        if root != folder.policy.name or note.digest == UNWRITTEN:
            continue
        if not any(folder.reported_missing(path) for path in note.paths):
            continue
        job = _job_of(world, subject)
        if job is not None and job.state in (JobState.FAILED, JobState.DOUBTFUL):
            jobs.append(job)
    return jobs


def is_receipt_due(world: World, job: Job) -> bool:
    """Whether a job's receipt is wanted and was not written yet."""
    folder = world.folders.get(job.root)
    if folder is None or not folder.policy.has_receipts or job.state is not JobState.DONE or not job.output:
        return False
    there = world.notes.get((job.root, f"job:{job.id}"))
    return there is None or there.digest == UNWRITTEN


# -- inside -------------------------------------------------------------------------------------------


def _wanted(world: World) -> Iterator[WriteNote]:
    for job in world.book.of(JobState.FAILED, JobState.DOUBTFUL):
        folder = world.folders.get(job.root)
        if folder and world.book.newest(job.root, job.key) is job:
            yield _as_told(world, job) or _about_job(world, folder, job)
    for folder in world.folders.values():
        for items in _ambiguous(folder):
            yield _about_files(world, folder, items)
        if folder.policy.has_receipts:
            yield from _receipts(world, folder)


def _as_told(world: World, job: Job) -> WriteNote | None:
    """The note that lies there as it should: its words, the dear part, are not needed once more."""
    there = world.notes.get((job.root, f"job:{job.id}"))
    is_told = there is not None and there.digest == _digest(job)
    return WriteNote(job.root, there.kind, there.subject, (), there.digest) if there and is_told else None


def _digest(job: Job) -> str:
    return f"{job.id}.{job.changed_at}"


def _about_job(world: World, folder: Folder, job: Job) -> WriteNote:
    output = output_of(world, folder, job)
    beside = f"{job.folder}/{job.name}" if job.folder else job.name
    if job.state is JobState.DOUBTFUL:
        text = notes.doubtful_note(job, now=job.changed_at, utc_offset_s=world.utc_offset_s)
        kinds: list[tuple[Ours, bytes]] = [(Ours.ATTENTION, text)]
    else:
        attempts = [line for line in world.history.get(job.id, ()) if line.code not in UNEVENTFUL]
        note = notes.error_note(job, attempts, now=job.changed_at, utc_offset_s=world.utc_offset_s)
        kinds = [(Ours.ERROR, note.text), (Ours.ERROR_JSON, note.data)]
    return WriteNote(
        root=job.root,
        kind=ATTENTION if job.state is JobState.DOUBTFUL else ERROR,
        subject=f"job:{job.id}",
        files=tuple((naming.note_path(output, job.name, kind), content) for kind, content in kinds),
        digest=_digest(job),
        elsewhere=tuple(naming.note_path(f"{beside}.lipsync.mp4", job.name, kind) for kind, _ in kinds),
    )


def _ambiguous(folder: Folder) -> list[list[Unpaired]]:
    """Group the files that only a person can sort out, each group once, when all of it has arrived."""
    groups: dict[RelPath, list[Unpaired]] = {}
    for item in folder.index.disputed.values():
        groups.setdefault(min(item.path, *item.candidates, item.path), []).append(item)
    return [
        sorted(items, key=lambda item: item.path)
        for _, items in sorted(groups.items())
        if not any(folder.files[item.path].state in RESTLESS for item in items if item.path in folder.files)
    ]


def _about_files(world: World, folder: Folder, items: list[Unpaired]) -> WriteNote:
    first = items[0].path
    stem = first.rpartition("/")[2].rpartition(".")[0]
    digest = hashlib.sha256(repr(items).encode("utf-8", "backslashreplace")).hexdigest()[:16]
    beside = naming.note_path(f"{first.rpartition('.')[0]}.lipsync.mp4", stem, Ours.ATTENTION)
    parent = first.rpartition("/")[0]
    pair = Pair(first, first, parent, stem, None, "")
    output = naming.output_path(folder.policy.output, pair, date=local_date(world, world.now))
    since = folder.index.unpaired_since.get(first, world.now)
    text = notes.attention_note(stem, items, now=since, utc_offset_s=world.utc_offset_s)
    return WriteNote(
        root=folder.policy.name,
        kind=ATTENTION,
        subject=f"files:{first}",
        files=((naming.note_path(output, stem, Ours.ATTENTION), text),),
        digest=digest,
        elsewhere=(beside,),
    )


def _receipts(world: World, folder: Folder) -> Iterator[WriteNote]:
    for job in world.book.of(JobState.DONE):
        if job.root == folder.policy.name and job.output and is_receipt_due(world, job):
            path = naming.note_path(job.output, job.name, Ours.RECEIPT)
            content = notes.receipt(job, now=job.changed_at)
            yield WriteNote(job.root, RECEIPT, f"job:{job.id}", ((path, content),), digest=str(job.id))


def _job_of(world: World, subject: str) -> Job | None:
    kind, _, number = subject.partition(":")
    return world.book.get(int(number)) if kind == "job" else None
