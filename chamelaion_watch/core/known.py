"""What the ledger remembers of a root's files, packed until their names have been seen again.

Of 100,000 files it took 60 MB, for the few seconds until the first sweep, and a process does not give that back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, MutableMapping
from itertools import groupby
from typing import Any, TypeAlias

from chamelaion_watch.core.model import RelPath, Signature
from chamelaion_watch.core.packing import QUICK, pack, unpack

Memory: TypeAlias = tuple[Signature, str, bool]  # as it was, its SHA-256, and whether its job is over


class Known(MutableMapping[RelPath, Memory]):
    """Files by path; a folder is unpacked as one of its files is asked for."""

    def __init__(self, files: Iterable[tuple[RelPath, Memory]] = ()) -> None:
        self._packed: dict[RelPath, list[bytes]] = defaultdict(list)
        self._unpacked: dict[RelPath, dict[RelPath, Memory]] = {}
        self._count = 0
        for folder, group in groupby(files, key=lambda file: _folder(file[0])):
            rows = [(path, signature.size, signature.mtime_ns, *rest) for path, (signature, *rest) in group]
            self._packed[folder].append(pack(rows, QUICK))
            self._count += len(rows)

    def __getitem__(self, path: RelPath) -> Memory:
        return self._of(_folder(path))[path]

    def __setitem__(self, path: RelPath, memory: Memory) -> None:
        files = self._of(_folder(path))
        self._count += path not in files
        files[path] = memory
        self._unpacked[_folder(path)] = files

    def __delitem__(self, path: RelPath) -> None:
        files = self._of(folder := _folder(path))
        del files[path]
        self._count -= 1
        if not files:
            del self._unpacked[folder]

    def pop(self, path: RelPath, default: Any = None) -> Any:
        """Return and forget a file; `MutableMapping` has this, too, and looks for the folder twice."""
        folder = _folder(path)
        files = self._of(folder)
        if path not in files:
            return default
        self._count -= 1
        memory = files.pop(path)
        if not files:
            del self._unpacked[folder]
        return memory

    def __iter__(self) -> Iterator[RelPath]:
        for folder in [*self._packed, *self._unpacked]:
            yield from list(self._of(folder))

    def __len__(self) -> int:
        return self._count

    def _of(self, folder: RelPath) -> dict[RelPath, Memory]:
        if blobs := self._packed.pop(folder, None):
            rows = [row for blob in blobs for row in unpack(blob)]
            found = {path: (Signature(size, at), sha256, is_over) for path, size, at, sha256, is_over in rows}
            self._unpacked[folder] = self._unpacked.get(folder, {}) | found
        return self._unpacked.get(folder, {})


def _folder(path: RelPath) -> RelPath:
    return path.rpartition("/")[0]
