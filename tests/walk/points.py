"""Where to strike, and how: `MODE|CALL|PLACE|NTH`, the NTH call of this kind in a life."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Self


class Mode(enum.StrEnum):
    """What happens at a point."""

    KILL = "kill"  # SIGKILL, and the call has not happened
    KILL_AFTER = "kill-after"  # SIGKILL, and the call has happened
    EIO = "eio"  # it fails, once
    ENOSPC = "enospc"  # it fails, once
    FULL = "full"  # it fails, and so does every later call that needs room in that folder, until the restart


NEEDS_ROOM = frozenset(
    {"create", "write", "copy", "truncate", "allocate", "fsync", "fdatasync", "rename", "link", "mkdir"}
)
ON_SOCKETS = frozenset({"connect", "send"})
WITHOUT_TRACE = frozenset({"flock", "close"})  # to be killed after them is to be killed before the next


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """Calls that are counted together."""

    call: str
    place: str

    @property
    def modes(self) -> tuple[Mode, ...]:
        """How such a call can be struck."""
        modes = [Mode.EIO]
        if self.call != "close":
            modes.append(Mode.KILL)
        if self.call not in WITHOUT_TRACE and self.place != "probe":
            modes.append(Mode.KILL_AFTER)
        if self.call in NEEDS_ROOM or self.call == "close":
            modes.append(Mode.ENOSPC)
        if self.call in NEEDS_ROOM:
            modes.append(Mode.FULL)
        return tuple(mode for mode in Mode if mode in modes)


@dataclass(frozen=True, slots=True, order=True)
class Point:
    mode: Mode
    kind: Kind
    nth: int

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Read what `str` writes; raises ValueError."""
        mode, call, place, nth = text.split("|")
        return cls(Mode(mode), Kind(call, place), int(nth))

    def __str__(self) -> str:
        return f"{self.mode}|{self.kind.call}|{self.kind.place}|{self.nth}"
