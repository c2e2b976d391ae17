"""When the files of a scope are packed, as nothing is left to do for them, and unpacked, as something is again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from chamelaion_watch.core.file import File
from chamelaion_watch.core.known import Memory
from chamelaion_watch.core.model import Millis, Pair, RelPath, Source
from chamelaion_watch.core.pairing import pair_up, scope_of

if TYPE_CHECKING:
    from chamelaion_watch.core.folder import Folder


def sleep(folder: Folder) -> None:
    """Pack the scopes of a folder in which nothing is left to do, of those where something ended."""
    for scope in folder.drowsy if folder.is_ok else ():
        if _may_sleep(folder, scope):
            files = [folder.files.pop(path) for path in sorted(folder.index.names(scope))]
            folder.asleep.put(scope, [file.source for file in files if file.source])
            folder.index.sleep(scope)
    folder.drowsy.clear()


def not_put_to_sleep(folder: Folder, appeared: Iterable[RelPath]) -> list[tuple[RelPath, list[RelPath]]]:
    """Put scopes to sleep that are as the ledger knows them, all done; return the others, with what appeared there.

    What was overwritten while nobody watched is found by one look at each file, which follow.
    """
    left: list[tuple[RelPath, list[RelPath]]] = []
    for scope, paths in _by_scope(appeared):
        if scope in folder.asleep or folder.index.names(scope) or not _is_known_as_done(folder, paths):
            left.append((scope, paths))
        else:
            known = {path: folder.known.pop(path) for path in paths}
            sources = [Source(path, signature, sha256) for path, (signature, sha256, _) in known.items()]
            folder.asleep.put(scope, sources, is_verified=False)
    return left


def wake(folder: Folder, scope: RelPath, now: Millis) -> None:
    """Unpack a scope: its files are what they were when it was packed, and its pairs are looked at again.

    What only the ledger has seen is looked at once before it counts: it may have been overwritten while nobody watched.
    """
    is_seen = not folder.asleep.awaits_look(scope)
    sources = folder.asleep.take(scope)
    for one in sources:
        content = (one.signature, one.sha256)
        file = File(one.path, source=one if is_seen else None, content=content, is_known=True, since_at=now)
        folder.files[one.path] = file
        if not is_seen:
            folder.agenda.put(one.path, file.next_look_at)
    folder.index.wake(scope, [one.path for one in sources])


def _by_scope(paths: Iterable[RelPath]) -> list[tuple[RelPath, list[RelPath]]]:
    found: dict[RelPath, list[RelPath]] = defaultdict(list)
    for path in paths:
        found[scope_of(path)].append(path)
    return sorted(found.items())


def _may_sleep(folder: Folder, scope: RelPath) -> bool:
    names = folder.index.names(scope)
    pairs = folder.index.pairs_at_rest(scope)
    if not pairs or any(folder.files[path].source is None or path in folder.vanishing for path in names):
        return False
    return all(pair.key not in folder.held and _is_over(folder, pair) for pair in pairs)


def _is_over(folder: Folder, pair: Pair) -> bool:
    sources = folder.sources(pair)
    return sources is not None and folder.is_over(pair.key, sources[0].sha256, sources[1].sha256)


def _is_known_as_done(folder: Folder, paths: Collection[RelPath]) -> bool:
    known: dict[RelPath, Memory] = {}
    for path in paths:
        memory = folder.known.get(path)
        if memory is None or not memory[2]:
            return False
        known[path] = memory
    quiet = {path.rpartition("/")[0] for path in paths}
    pairing = pair_up(paths, folder.policy.pairing, quiet_folders=quiet)
    return not pairing.unpaired and all(
        folder.is_over(pair.key, known[pair.video][1], known[pair.audio][1]) for pair in pairing.pairs
    )
