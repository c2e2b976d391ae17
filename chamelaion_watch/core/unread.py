"""Content that could not be read though its file can be looked at: a bad sector, a share that loses its middle.

It stays `unreadable`, with the reason, until it was read or is another content, and is read again after longer and
longer waits: it may be gigabytes. Says nothing of looks; `completeness` does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chamelaion_watch.core.completeness import Tracker, Verdict
from chamelaion_watch.core.model import FileState, Millis, Signature
from chamelaion_watch.core.text import printable

FIRST_MS, MAX_MS = 10_000, 600_000  # the next wait is as long as it has failed already, within these


@dataclass(frozen=True, slots=True)
class Unread:
    """What failed and since when; `signature` is of that content, None until it is known."""

    signature: Signature | None
    why: str
    since_at: Millis
    again_at: Millis


def failed(before: Unread | None, signature: Signature | None, why: str, now: Millis) -> Unread:
    """Return what is known after one more failure."""
    since_at = before.since_at if before else now
    return Unread(signature, why, since_at, now + min(max(now - since_at, FIRST_MS), MAX_MS))


def judged(
    unread: Unread | None, verdict: Verdict, tracker: Tracker, read: Signature | None, now: Millis
) -> tuple[Verdict, Unread | None]:
    """Return the verdict in this light, and what is left of it; `read` is the content that was read whole."""
    signature = tracker.signature
    if unread is None or signature is None:
        return verdict, unread
    was_read = tracker.content is not None and read == signature
    if was_read or unread.signature not in {None, signature}:
        return verdict, None
    is_due = now >= unread.again_at
    look_at = verdict.next_look_at if is_due else min(verdict.next_look_at, unread.again_at)
    reason = f"reading it fails ({printable(unread.why)}): copy it again or check the disk"
    told = Verdict(FileState.UNREADABLE, "io_error", reason, look_at, may_hash=verdict.may_hash and is_due)
    return told, replace(unread, signature=signature)
