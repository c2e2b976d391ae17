"""Which files the next scan looks at, and how closely."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from chamelaion_watch.core import completeness
from chamelaion_watch.core.file import File
from chamelaion_watch.core.model import Look, Millis, RelPath

if TYPE_CHECKING:
    from chamelaion_watch.core.folder import Folder

LOOKS_PER_SCAN = 500  # so that a hint or a stop never waits for thousands of files
RECHECK_AT_LEAST = 100  # complete files looked at again with each sweep, or 1 % where that is more


def looks(folder: Folder, now: Millis, watched: Iterable[RelPath], *, is_sweep: bool) -> tuple[Look, ...]:
    """Return the looks that are due; `watched` are the files of open jobs, which each sweep looks at again."""
    paths = _due(folder, now)
    of_jobs = [path for path in folder.rota.watched(watched, is_sweep=is_sweep) if path in folder.files]
    paths += of_jobs
    paths += folder.asleep.to_verify(LOOKS_PER_SCAN - len(paths))
    if is_sweep:
        paths += _some_complete(folder)
    # What a stat says of a share may be a minute old (nfs(5), acregmax); opening a file asks its server.
    opened = frozenset(of_jobs if folder.is_network else ())
    return tuple(_look(folder, path, opened) for path in dict.fromkeys(paths))


def _due(folder: Folder, now: Millis) -> list[RelPath]:
    """Return the files whose look is due; a hint may be the last word of any file's writer, so then all are."""
    if not folder.is_hinted:
        return folder.agenda.due(now, LOOKS_PER_SCAN)
    folder.is_hinted = False
    stale = (path for path in folder.agenda if not _is_fresh(folder.files[path], now))
    return folder.agenda.soonest(LOOKS_PER_SCAN, stale)


def _is_fresh(file: File, now: Millis) -> bool:
    """Whether it was looked at just now, and its next look is not due."""
    is_just_seen = file.tracker is not None and now - file.tracker.seen_at < completeness.MIN_STEP_MS
    return is_just_seen and file.next_look_at > now


def _some_complete(folder: Folder) -> list[RelPath]:
    count = max(RECHECK_AT_LEAST, folder.file_count // 100)
    return folder.rota.others(
        count, lambda: sorted({*folder.index.scopes(), *folder.asleep}), lambda scope: _complete_in(folder, scope)
    )


def _complete_in(folder: Folder, scope: RelPath) -> list[RelPath]:
    awake = (path for path in folder.index.names(scope) if folder.files[path].source is not None)
    return list(folder.asleep.sources(scope)) or sorted(awake)


def _look(folder: Folder, path: RelPath, opened: Collection[RelPath]) -> Look:
    file = folder.files.get(path)
    if file is None or file.source is not None or (file.is_known and file.tracker is None):
        return Look(path, is_brief=path not in opened)
    return Look(path, file.tracker.signature if file.tracker else None)
