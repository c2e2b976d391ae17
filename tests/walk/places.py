"""What a call is about, in one word, and what must never be seen there.

The words name what is durable or visible of the daemon: its ledger, lock and spool, what it makes in the drop folder,
what goes to the service. A call on anything else is not counted; a path outside of both folders is told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.walk.calls import Call
from tests.walk.seccomp import Stopped
from tests.walk.sight import descriptor, path_of, port_of, sent_bytes

SENTINEL, PART, OUTPUT = ".lipsync-root", ".lipsync-part", ".lipsync.mp4"
LEDGER = "ledger.sqlite3"
UPLOAD = b"POST "
REQUEST = b"GET "
CHANGES = frozenset({"create", "write", "copy", "truncate", "allocate", "chmod", "rename", "link", "unlink"})
FILLS = frozenset({"write", "copy", "truncate", "allocate"})


@dataclass(frozen=True, slots=True)
class Target:
    """What a call is about; `place` is the word for it, `path` and `old` are whole, of files."""

    place: str
    path: str = ""
    old: str = ""  # of a rename or link: what gets the new name
    old_place: str = ""


@dataclass
class Places:
    """Knows the words; sockets get theirs from where they connect to and from what they say."""

    state: str
    drop: str
    ports: Mapping[int, str]  # "service", "media"
    elsewhere: set[str] = field(default_factory=set)
    _sockets: dict[str, str] = field(default_factory=dict)
    _written: set[int] = field(default_factory=set)  # descriptors: only of them a close can lose something

    def target(self, stopped: Stopped, call: Call) -> Target | None:
        """Say what a call is about; None if it is nothing that counts. Raises OSError."""
        if call.path is not None:
            old = path_of(stopped, call.path)
            new = path_of(stopped, call.to) if call.to else ""
            return self._file(call, new, old) if new else self._file(call, old)
        if call.word in {"connect", "send"}:
            return self._socket(stopped, call)
        assert call.fd is not None
        if call.word == "close" and stopped.args[call.fd] not in self._written:
            return None
        path = descriptor(stopped, call.fd)
        if not path.startswith("/"):  # a pipe, an eventfd
            return None
        if call.word in FILLS:
            self._written.add(stopped.args[call.fd])
        elif call.word == "close":
            self._written.discard(stopped.args[call.fd])
        return self._file(call, path)

    def _file(self, call: Call, path: str, old: str = "") -> Target | None:
        place = self._place(path)
        if place is None:
            if not path.startswith(("/dev/", "/proc/", "/memfd:")):
                self.elsewhere.add(f"{call.word} {path}")
            return None
        return Target(place, path, old, (self._place(old) if old else None) or "")

    def _place(self, path: str) -> str | None:
        for root, word in ((self.state, self._of_state), (self.drop, self._of_drop)):
            if path == root or path.startswith(f"{root}/"):
                return word(path)
        return None

    def _of_state(self, path: str) -> str:
        name = path.removeprefix(self.state).lstrip("/")
        if not name:
            return "state"
        if name.startswith("spool"):
            return "spool"
        return name.replace(LEDGER, "ledger").replace(".", "-")

    def _of_drop(self, path: str) -> str:
        name = os.path.basename(path)  # noqa: PTH119 - a text, not a Path
        if name.startswith(SENTINEL):
            return "sentinel-part" if name.endswith(PART) else "sentinel"
        if name.startswith(".") and name.endswith(PART):
            return "note-part" if ".lipsync" in name.removesuffix(PART) else "part"
        if name.endswith(OUTPUT):
            return "output"
        if ".lipsync" in name:
            return "note"
        return "source" if name.endswith((".mp4", ".wav")) else "folder"

    def _socket(self, stopped: Stopped, call: Call) -> Target | None:
        assert call.fd is not None
        socket = descriptor(stopped, call.fd)
        if call.word == "connect":
            place = self.ports.get(port_of(stopped) or 0)
            if place is not None:
                self._sockets[socket] = place
            return Target(place) if place else None
        if call.name == "sendmsg":  # a descriptor on its way to a probe child
            return Target("probe")
        place = self._sockets.get(socket)
        if place is None:
            return None
        if place != "media":
            head = sent_bytes(stopped, call, len(UPLOAD))
            if head == UPLOAD or head[: len(REQUEST)] == REQUEST:
                self._sockets[socket] = place = "upload" if head == UPLOAD else "request"
        return Target(place)


@dataclass
class Rules:
    """What no moment of a life may show: told of each call that happens, in order."""

    broken: list[str] = field(default_factory=list)
    _dirty: set[str] = field(default_factory=set)
    _unflushed: set[str] = field(default_factory=set)  # folders with a new name that is not durable yet

    def see(self, call: Call, target: Target) -> None:
        word, place = call.word, target.place
        if word in CHANGES and "source" in {place, target.old_place}:
            self._tell(f"{word} of a source: {target.old or target.path}")
        if place == "output":
            self._see_output(word, target)
        if word in FILLS:
            self._dirty.add(target.path)
        elif word == "fsync":
            self._dirty.discard(target.path)
            self._unflushed.discard(target.path)

    def at_end(self) -> None:
        """After a clean stop: nothing was announced that is not durable."""
        self.broken += [
            f"{folder}: an output got its name, and the folder was not flushed" for folder in self._unflushed
        ]

    def _see_output(self, word: str, target: Target) -> None:
        if word in {"create", "unlink", "copy", "write", "truncate", "allocate"}:
            self._tell(f"{word} under an output's name: {target.path}")
        elif word in {"rename", "link"}:
            if target.old_place != "part":
                self._tell(f"an output made of something else than a part: {target.old}")
            if target.old in self._dirty:
                self._tell(f"an output got its name before it was flushed: {target.path}")
            self._unflushed.add(os.path.dirname(target.path))  # noqa: PTH120 - a text, not a Path

    def _tell(self, text: str) -> None:
        if text not in self.broken:
            self.broken.append(text)
