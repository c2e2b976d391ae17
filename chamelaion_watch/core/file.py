"""One media file on its way through the gate: what is known of it so far."""

from __future__ import annotations

from dataclasses import dataclass

from chamelaion_watch.core import unread
from chamelaion_watch.core.completeness import Tracker, Verdict
from chamelaion_watch.core.model import FileState, Millis, RelPath, Signature, Source


@dataclass(slots=True)
class File:
    """`tracker` and `verdict` are of this process's looks; `source` is set once the file is complete and identified."""

    path: RelPath
    tracker: Tracker | None = None
    verdict: Verdict | None = None
    content: tuple[Signature, str] | None = None  # the SHA-256 of the file when it had this signature
    is_known: bool = False  # `content` is from the ledger: it passed the gate once with this signature
    source: Source | None = None  # complete and identified
    unread: unread.Unread | None = None
    since_at: Millis = 0

    @property
    def state(self) -> FileState:
        if self.source is not None:
            return FileState.COMPLETE
        return self.verdict.state if self.verdict else FileState.ARRIVING

    @property
    def next_look_at(self) -> Millis:
        return self.verdict.next_look_at if self.verdict else 0

    @property
    def unread_signature(self) -> Signature | None:
        """What the file is now, if its content is worth reading and was not read yet."""
        signature = self.tracker.signature if self.tracker else None
        is_read = self.content is not None and self.content[0] == signature
        return None if self.verdict is None or not self.verdict.may_hash or is_read else signature
