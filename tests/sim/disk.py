"""A simulated share: media files that arrive, change and vanish; outputs, notes and temps; and its health.

`SimRoot` outlives the daemon; `SimTree` is what one process remembers of its listings, as `edges.disk.Tree` does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from chamelaion_watch.core.errors import InputProblem, OutputProblem, RootProblem
from chamelaion_watch.core.messages import RootFacts, Scan, Scanned
from chamelaion_watch.core.model import (
    Look,
    MediaInfo,
    Observation,
    RelPath,
    RootState,
    Signature,
    Source,
    Structure,
    Trouble,
)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class SimFile:
    """One media file; a rename over it makes another object, a rewrite in place changes this one."""

    content: str
    size: int
    mtime_ns: int
    is_whole: bool = True
    is_silent: bool = False

    @property
    def signature(self) -> Signature:
        return Signature(self.size, self.mtime_ns)

    @property
    def sha256(self) -> str:
        return sha(self.content if self.is_whole else f"part of {self.content} at {self.mtime_ns}")


@dataclass
class SimRoot:
    """One share."""

    name: str
    health: RootState = RootState.OK
    is_full: bool = False
    has_events: bool = True
    has_sentinel: bool = False
    media: dict[RelPath, SimFile] = field(default_factory=dict)
    outputs: dict[RelPath, str] = field(default_factory=dict)  # path → SHA-256
    notes: dict[RelPath, bytes] = field(default_factory=dict)
    temps: set[RelPath] = field(default_factory=set)

    def require_well(self) -> None:
        if self.health is not RootState.OK:
            raise RootProblem(f"simulated: {self.health}", root_state=self.health)

    def require_space(self) -> None:
        self.require_well()
        if self.is_full:
            raise OutputProblem("simulated: no space left", root_state=RootState.FULL)

    def open(self, source: Source) -> SimFile:
        """Bind a source to what it was; raises as the real tree does."""
        self.require_well()
        file = self.media.get(source.path)
        if file is None or file.signature != source.signature:
            raise InputProblem(f"{source.path}: changed or gone")
        return file

    def probe(self, source: Source) -> MediaInfo:
        file = self.open(source)
        is_video = source.path.endswith(".mp4")
        return MediaInfo(10.0, has_picture=is_video, has_sound=not file.is_silent)

    def write_note(self, path: RelPath, data: bytes) -> None:
        self.require_space()
        self.notes[path] = data

    def remove(self, path: RelPath) -> None:
        self.require_well()
        self.notes.pop(path, None)
        self.temps.discard(path)

    def publish(self, names: list[RelPath], sha256: str) -> RelPath:
        """Never over anything; what lies there with this very content is taken as ours."""
        self.require_well()
        for name in names:
            if self.outputs.setdefault(name, sha256) == sha256:
                return name
        raise OutputProblem("every name is taken", root_state=RootState.DENIED)


class SimTree:
    """One process's view of a share: what it has reported already."""

    def __init__(self, root: SimRoot) -> None:
        self.root = root
        self._known: set[RelPath] = set()

    def scan(self, action: Scan) -> Scanned:
        root = self.root
        facts = RootFacts(
            root.health,
            f"simulated: {root.health}",
            has_events=root.has_events,
            may_claim=not root.has_sentinel,
            mount_source="sim",
            mount_type="simfs",
            has_sentinel=root.has_sentinel,
        )
        if root.health is not RootState.OK:
            if not action.is_sweep:
                root.require_well()
            return Scanned(action, facts)
        appeared: set[RelPath] = set()
        vanished: set[RelPath] = set()
        if action.is_sweep:
            names = set(root.media) | root.temps
            appeared, vanished = names - self._known, self._known - names
            self._known = names
        return Scanned(
            action,
            facts,
            appeared=tuple(sorted(appeared)),
            vanished=tuple(sorted(vanished)),
            observations=tuple(self._look(look) for look in action.looks),
            missing_notes=tuple(path for path in action.notes if path not in root.notes),
            is_complete=action.is_sweep,
            took_ms=5,
        )

    def _look(self, look: Look) -> Observation:
        file = self.root.media.get(look.path)
        if file is None:
            return Observation(look.path, trouble=Trouble.GONE)
        if file.signature != look.last:
            return Observation(look.path, file.signature)
        structure = Structure.WHOLE if file.is_whole else Structure.TRUNCATED
        return Observation(look.path, file.signature, deep=True, structure=structure)
