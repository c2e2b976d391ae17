"""A simulated share: media files that arrive, change and vanish; outputs, notes and temps; and its health.

`SimRoot` outlives the daemon; `SimTree` is what one process remembers of its listings, as `edges.disk.Tree` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
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
from tests.sim.broken import Broken

READABLE = (RootState.OK, RootState.READ_ONLY, RootState.FOREIGN)


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
    is_bare: bool = False  # not mounted: what is there is an empty folder
    is_hung: bool = False  # no call comes back
    media: dict[RelPath, SimFile] = field(default_factory=dict)
    outputs: dict[RelPath, str] = field(default_factory=dict)  # path → SHA-256
    notes: dict[RelPath, bytes] = field(default_factory=dict)
    temps: set[RelPath] = field(default_factory=set)
    writers: dict[RelPath, object] = field(default_factory=dict)  # temp → the session that writes it
    trouble: Callable[[], None] = lambda: None  # raises now and then: a single write fails, or says so
    on_publish: Callable[[RelPath, str], None] = lambda _path, _sha256: None

    def unmount(self) -> bool:
        """Leave an empty folder behind; False if the share is not well as it is."""
        if self.health is not RootState.OK:
            return False
        self.health, self.is_bare = RootState.NOT_MOUNTED, True
        return True

    def mount(self) -> None:
        self.health, self.is_bare = RootState.OK, False

    def require_well(self) -> None:
        if self.health is not RootState.OK:
            raise RootProblem(f"simulated: {self.health}", root_state=self.health)

    def require_space(self) -> None:
        self.require_well()
        if self.is_full:
            raise OutputProblem("simulated: no space left", root_state=RootState.FULL)

    def require_readable(self) -> None:
        """What another ledger serves, or nobody may write, can still be read; a bare mount point is no error."""
        if not self.is_bare and self.health not in READABLE:
            self.require_well()

    def find(self, path: RelPath) -> SimFile | None:
        self.require_readable()
        return None if self.is_bare else self.media.get(path)

    def open(self, source: Source) -> SimFile:
        """Bind a source to what it was; raises as the real tree does."""
        file = self.find(source.path)
        if file is None or file.signature != source.signature:
            raise InputProblem(f"{source.path}: changed or gone")
        return file

    def probe(self, source: Source) -> MediaInfo:
        file = self.open(source)
        is_video = source.path.endswith(".mp4")
        return MediaInfo(10.0, has_picture=is_video, has_sound=not file.is_silent)

    def write_note(self, path: RelPath, data: bytes) -> None:
        self.require_space()
        self._require_ours(path)
        self.trouble()
        self.notes[path] = data
        self.trouble()

    def remove(self, path: RelPath) -> None:
        self.require_well()
        self._require_ours(path)
        self.trouble()
        self.notes.pop(path, None)
        self.temps.discard(path)

    def publish(self, names: list[RelPath], sha256: str) -> RelPath:
        """Never over anything; what lies there with this very content is taken as ours."""
        self.require_well()
        self.trouble()
        for name in names:
            self._require_ours(name)
            if self.outputs.setdefault(name, sha256) == sha256:
                self.on_publish(name, sha256)
                self.trouble()
                return name
        raise OutputProblem("every name is taken", root_state=RootState.DENIED)

    def _require_ours(self, path: RelPath) -> None:
        """I3, I11: what people put there is neither written nor removed."""
        if path in self.media or ".lipsync" not in path:
            raise Broken(f"{self.name}/{path} is not ours to touch")


class SimTree:
    """One process's view of a share: what it has reported already."""

    def __init__(self, root: SimRoot) -> None:
        self.root = root
        self._known: set[RelPath] = set()

    def inspect(self, action: Scan) -> RootFacts:
        """What a sweep looks at first; a scan of single files takes it as it was."""
        root = self.root
        return RootFacts(
            root.health if action.is_sweep else RootState.OK,
            f"simulated: {root.health}",
            has_events=root.has_events,
            may_claim=not root.has_sentinel,
            mount_source="sim",
            mount_type="simfs",
            has_sentinel=root.has_sentinel,
        )

    def scan(self, action: Scan, facts: RootFacts) -> Scanned:
        root = self.root
        if facts.state is not RootState.OK:
            return Scanned(action, facts)
        root.require_readable()
        appeared: set[RelPath] = set()
        vanished: set[RelPath] = set()
        if action.is_sweep:
            names = set() if root.is_bare else set(root.media) | root.temps
            appeared, vanished = names - self._known, self._known - names
            self._known = names
        return Scanned(
            action,
            facts,
            appeared=tuple(sorted(appeared)),
            vanished=tuple(sorted(vanished)),
            observations=tuple(self._look(look) for look in action.looks),
            missing_notes=tuple(path for path in action.notes if root.is_bare or path not in root.notes),
            is_complete=action.is_sweep,
            took_ms=5,
        )

    def _look(self, look: Look) -> Observation:
        file = self.root.find(look.path)
        if file is None:
            return Observation(look.path, trouble=Trouble.GONE)
        if file.signature != look.last:
            return Observation(look.path, file.signature)
        structure = Structure.WHOLE if file.is_whole else Structure.TRUNCATED
        return Observation(look.path, file.signature, deep=True, structure=structure)
