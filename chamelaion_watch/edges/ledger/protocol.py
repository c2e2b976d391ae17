"""What the daemon asks of a ledger, whatever engine keeps it; `test_contract_ledger` holds every engine to it.

Writes happen inside `transaction()`; leaving it commits durably (what is not committed was never decided).
Rows that finish work are fenced: `save` of a job whose fence another owner has raised since changes nothing.
All errors are LedgerUnavailable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from chamelaion_watch.core.model import Attempt, Job, JobState, Millis, RelPath, Signature

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class RootRow:
    """What is remembered of a root."""

    name: str
    path: str
    first_seen_at: Millis
    mount_source: str | None = None
    mount_type: str | None = None
    has_sentinel: bool = False
    is_read_only: bool = False
    is_held: bool = False  # its backlog waits for a person
    is_paused: bool = False
    paused_until: Millis | None = None
    pause_reason: str = ""


@dataclass(frozen=True, slots=True)
class NoteRow:
    """A note of ours on a share: where, which, and a digest of what it says."""

    root: str
    subject: str
    kind: str
    paths: tuple[RelPath, ...]
    digest: str
    written_at: Millis


@dataclass(frozen=True, slots=True)
class CommandRow:
    id: int
    at: Millis
    verb: str
    args: Mapping[str, str]
    applied_at: Millis | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class EventRow:
    """One line of the diary: transitions of jobs, roots and the account."""

    at: Millis
    kind: str
    text: str
    job_id: int | None = None
    root: str | None = None


class Ledger(Protocol):
    """The memory of the daemon."""

    ledger_id: str
    owner: str

    def transaction(self) -> AbstractContextManager[None]: ...
    def close(self) -> None: ...

    # jobs
    def add_job(self, job: Job) -> Job: ...
    def save_job(self, job: Job) -> bool: ...
    def claim_job(self, job: Job) -> bool: ...
    def job(self, job_id: int) -> Job | None: ...
    def jobs(
        self,
        *,
        states: Iterable[JobState] | None = None,
        root: str | None = None,
        since: Millis | None = None,
        limit: int | None = None,
    ) -> list[Job]: ...
    def each_job(self) -> Iterator[Job]: ...
    def latest_jobs(self) -> list[Job]: ...
    def count_jobs(self) -> dict[str, int]: ...
    def accepted_since(self, since: Millis) -> list[Millis]: ...
    def add_attempt(self, attempt: Attempt) -> None: ...
    def attempts(self, job_id: int) -> list[Attempt]: ...

    # what the disk was seen to hold
    def remember_file(self, root: str, path: RelPath, signature: Signature, sha256: str) -> None: ...
    def forget_files(self, root: str, paths: Sequence[RelPath]) -> None: ...
    def files(self, root: str) -> Iterator[tuple[RelPath, Signature, str]]: ...
    def hold(self, root: str, keys: Sequence[RelPath]) -> None: ...
    def unhold(self, root: str) -> None: ...
    def held(self, root: str) -> set[RelPath]: ...

    # roots, notes, gate
    def roots(self) -> dict[str, RootRow]: ...
    def save_root(self, root: RootRow) -> None: ...
    def notes(self) -> list[NoteRow]: ...
    def save_note(self, note: NoteRow) -> None: ...
    def drop_note(self, root: str, subject: str) -> None: ...
    def gate(self) -> dict[str, Any] | None: ...
    def save_gate(self, row: Mapping[str, Any]) -> None: ...

    # people
    def add_command(self, verb: str, args: Mapping[str, str], at: Millis) -> int: ...
    def new_commands(self) -> list[CommandRow]: ...
    def command(self, command_id: int) -> CommandRow | None: ...
    def finish_command(self, command_id: int, at: Millis, result: str) -> None: ...
    def has_news(self) -> bool: ...

    # telling
    def add_event(self, event: EventRow) -> None: ...
    def events(self, *, job_id: int | None = None, limit: int = 100) -> list[EventRow]: ...
    def save_snapshot(self, at: Millis, body: str) -> None: ...
    def snapshots(self) -> list[tuple[str, Millis, str]]: ...
    def prune(self, before: Millis) -> int: ...
