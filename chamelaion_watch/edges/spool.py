"""Keeps results in the state folder: whole ones whose own folder is away, and what is there of a broken download.

A whole result is called REFERENCE.SHA256.mp4: the name says all that must be known of it after a restart.
A stop must leave no temporary file on the share, and must not throw gigabytes away: the part is renamed to here,
with the validators that say whether the media host still has the same file. Where the state folder is on another
file system nothing is kept, for copying takes longer than a stop may, and the download begins anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from chamelaion_watch.core.errors import OutputProblem
from chamelaion_watch.core.messages import Spooled
from chamelaion_watch.core.model import RelPath, RootState
from chamelaion_watch.edges.outputs import Part

MAX_NOTE_BYTES = 4096
LEAVE_FREE_BYTES = 2**30  # the ledger lives on this disk: without room for it nothing goes on at all
_RESULT = re.compile(r"([A-Za-z0-9_-]{1,128})\.([0-9a-f]{64})\.mp4")
_ETAG = re.compile(r'"[!#-~]{1,256}"')  # a strong one: nothing else allows to go on
_REFERENCE = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Spool:
    """Parts by the reference id of their run; `folder` lies in the state folder and is made when it is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    # -- whole results --------------------------------------------------------------------------------

    def folder(self) -> str:
        """Return where parts of results grow; the folder is made if need be. Raises OutputProblem."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            message = f"{self._folder}: cannot be made: {error.strerror}"
            raise OutputProblem(message, root_state=RootState.DENIED) from error
        return str(self._folder)

    def free_bytes(self) -> int:
        """Return how much may be written here; raises OutputProblem."""
        try:
            space = os.statvfs(self._folder)
        except OSError as error:
            message = f"{self._folder}: {error.strerror}"
            raise OutputProblem(message, root_state=RootState.MISSING) from error
        return max(0, space.f_bavail * space.f_frsize - LEAVE_FREE_BYTES)

    def put(self, reference_id: str, sha256: str, part: Part) -> None:
        """Give a part that grew in `folder` its name, durably; raises OutputProblem."""
        try:
            part.publish([self.result(reference_id, sha256)[1]])
        except BaseException:
            part.discard()
            raise

    def result(self, reference_id: str, sha256: str) -> tuple[str, RelPath]:
        """Return where a whole result lies, as folder and name."""
        name = f"{reference_id}.{sha256}.mp4"
        if not _RESULT.fullmatch(name):
            raise ValueError(f"not the name of a result: {name!r}")
        return str(self._folder), name

    def results(self) -> dict[str, Spooled]:
        """Return the whole results that are here, by reference id."""
        found = {}
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if match := _RESULT.fullmatch(path.name):
                    found[match[1]] = Spooled(match[2], path.lstat().st_size)
        return found

    def forget(self, reference_id: str) -> None:
        """Remove all that belongs to a run; never raises."""
        with contextlib.suppress(OSError):
            for path in list(self._folder.iterdir()):
                if path.name.partition(".")[0] == reference_id:
                    path.unlink()

    # -- what is there of a download ------------------------------------------------------------------

    def keep(self, reference_id: str, part: Part, etag: str | None, total: int | None) -> bool:
        """Put a part aside; False if there is nothing worth it or it cannot be renamed to here: it stays."""
        if not etag or not part.size or not _REFERENCE.fullmatch(reference_id):
            return False
        with contextlib.suppress(OSError, OutputProblem):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._note(reference_id).write_text(json.dumps({"etag": etag, "total": total}))
            return part.move_to(str(self._part(reference_id)))
        return False

    def take(
        self, reference_id: str, root: str, temp: RelPath, *, mode: int
    ) -> tuple[Part, str | None, int | None] | None:
        """Return the part that was put aside, as the temp of a root, with its validators; None if there is none."""
        try:
            with self._note(reference_id).open("rb") as file:
                note = json.loads(file.read(MAX_NOTE_BYTES))
            self._note(reference_id).unlink()
            etag, total = _validators(note)
            return Part.adopt(str(self._part(reference_id)), root, temp, mode=mode), etag, total
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OutputProblem):
            self._forget(reference_id)
            return None

    def prune(self, wanted: Collection[str]) -> None:
        """Remove what belongs to no run that is still awaited."""
        with contextlib.suppress(OSError):
            for path in list(self._folder.iterdir()):
                if path.name.partition(".")[0] not in wanted:
                    path.unlink()

    def _forget(self, reference_id: str) -> None:
        with contextlib.suppress(OSError):
            self._part(reference_id).unlink()

    def _part(self, reference_id: str) -> Path:
        return self._folder / f"{reference_id}.part"

    def _note(self, reference_id: str) -> Path:
        return self._folder / f"{reference_id}.json"


def _validators(note: Any) -> tuple[str, int | None]:
    """Return what is known of a part; raises KeyError, TypeError or ValueError for what `keep` did not write."""
    etag, total = note["etag"], note["total"]
    if not isinstance(etag, str) or type(total) not in (int, type(None)):
        raise TypeError("neither a tag nor a length")
    if not _ETAG.fullmatch(etag) or (total is not None and not 0 <= total < 2**63):
        raise ValueError("neither a tag nor a length")
    return etag, total
