"""Keeps what of a download is there when it has to stop, in the state folder, for the next try to go on from.

A stop must leave no temporary file on the share, and must not throw gigabytes away: the part is renamed to here,
with the validators that say whether the media host still has the same file. Where the state folder is on another
file system nothing is kept, for copying takes longer than a stop may, and the download begins anew.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection
from pathlib import Path

from chamelaion_watch.core.errors import OutputProblem
from chamelaion_watch.core.model import RelPath
from chamelaion_watch.edges.outputs import Part

MAX_NOTE_BYTES = 4096
_REFERENCE = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Spool:
    """Parts by the reference id of their run; `folder` lies in the state folder and is made when it is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

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
            etag, total = note["etag"], note["total"]
            return Part.adopt(str(self._part(reference_id)), root, temp, mode=mode), str(etag), total
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OutputProblem):
            self._forget(reference_id)
            return None

    def prune(self, wanted: Collection[str]) -> None:
        """Remove what belongs to no run that is still awaited."""
        with contextlib.suppress(OSError):
            for path in list(self._folder.iterdir()):
                if path.stem not in wanted:
                    path.unlink()

    def _forget(self, reference_id: str) -> None:
        with contextlib.suppress(OSError):
            self._part(reference_id).unlink()

    def _part(self, reference_id: str) -> Path:
        return self._folder / f"{reference_id}.part"

    def _note(self, reference_id: str) -> Path:
        return self._folder / f"{reference_id}.json"
