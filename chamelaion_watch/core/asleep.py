"""Folders in which all is done, packed: for each file what it was when it was taken, by which a change is noticed.

A file that is watched takes 1 kB, here 70 bytes. The unit is a scope of `pairing`, for only as a whole can it be paired
anew when something in it changes; then it is woken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from chamelaion_watch.core.model import RelPath, Signature, Source
from chamelaion_watch.core.packing import pack, unpack


@dataclass(slots=True)
class Asleep:
    """Packed scopes; `files` counts what is in them."""

    files: int = 0
    _packed: dict[RelPath, bytes] = field(default_factory=dict)
    _unverified: dict[RelPath, None] = field(default_factory=dict)  # known from the ledger, and not looked at yet
    _under_way: tuple[RelPath, ...] = ()  # those of them that are being looked at
    _last: tuple[RelPath, dict[RelPath, Source]] | None = None

    def put(self, scope: RelPath, sources: Iterable[Source], *, is_verified: bool = True) -> None:
        """Pack a scope that is not here."""
        rows = [(one.path, one.signature.size, one.signature.mtime_ns, one.sha256) for one in sources]
        self._packed[scope] = pack(rows)
        self.files += len(rows)
        if not is_verified:
            self._unverified[scope] = None

    def take(self, scope: RelPath) -> list[Source]:
        """Unpack a scope for good."""
        sources = list(self.sources(scope).values())
        del self._packed[scope]
        self._unverified.pop(scope, None)
        self.files -= len(sources)
        self._last = None
        return sources

    def sources(self, scope: RelPath) -> dict[RelPath, Source]:
        """Return the files of a scope by path; {} if it is not here. Looks come scope by scope: the last is kept."""
        if self._last is None or self._last[0] != scope:
            packed = self._packed.get(scope)
            self._last = None if packed is None else (scope, _unpacked(packed))
        return self._last[1] if self._last else {}

    def to_verify(self, most: int) -> list[RelPath]:
        """Return files that are to be looked at once: of as many whole scopes as fit, one at least."""
        paths: list[RelPath] = []
        scopes: list[RelPath] = []
        for scope in self._unverified:
            found = list(self.sources(scope))
            if paths and len(paths) + len(found) > most:
                break
            paths += found
            scopes.append(scope)
        self._under_way = tuple(scopes)
        return paths

    def verified(self, looked_at: Collection[RelPath]) -> None:
        """Take in what was looked at: the scopes that were to be, if that is what this scan did."""
        under_way, self._under_way = self._under_way, ()
        if all(path in looked_at for scope in under_way for path in self.sources(scope)):
            for scope in under_way:
                self._unverified.pop(scope, None)

    def awaits_look(self, scope: RelPath) -> bool:
        """Say whether nobody has looked at a scope yet since the ledger named it."""
        return scope in self._unverified

    @property
    def is_verified(self) -> bool:
        return not self._unverified

    def __contains__(self, scope: RelPath) -> bool:
        return scope in self._packed

    def __iter__(self) -> Iterator[RelPath]:
        return iter(self._packed)


def _unpacked(packed: bytes) -> dict[RelPath, Source]:
    return {path: Source(path, Signature(size, mtime_ns), sha256) for path, size, mtime_ns, sha256 in unpack(packed)}
