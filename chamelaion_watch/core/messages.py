"""Actions (what the core wants done) and events (what happened): the two sides of `tick`.

An action is carried out by `effects` on a thread of its own, which posts events back, the last of them naming
the action, so that the planner knows what is under way. Values only; callables and handles stay in the edges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from chamelaion_watch.core.errors import WatchError
from chamelaion_watch.core.model import (
    Job,
    Look,
    MediaInfo,
    Millis,
    Observation,
    RelPath,
    Request,
    RootState,
    Signature,
)

# -- actions ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scan:
    """Look at a root: its health, its names if `is_sweep`, these files, and whether these notes still lie there."""

    root: str
    is_sweep: bool
    looks: tuple[Look, ...] = ()
    notes: tuple[RelPath, ...] = ()


@dataclass(frozen=True, slots=True)
class Hash:
    root: str
    path: RelPath
    signature: Signature


@dataclass(frozen=True, slots=True)
class Probe:
    """Probe both files of a queued job."""

    job: Job


@dataclass(frozen=True, slots=True)
class Submit:
    """Upload a claimed job; void if it does not begin within 5 s of `decided_at`."""

    job: Job
    decided_at: Millis


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask for the request by our reference_id."""

    job: Job


@dataclass(frozen=True, slots=True)
class Poll:
    """Ask how these requests are: (job id, request id); by themselves only those whose job ids are in `singly`."""

    requests: tuple[tuple[int, str], ...]
    singly: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """An output of the same content that may still lie in a folder: taken instead of a download."""

    root: str
    path: RelPath
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Spooled:
    """A whole and checked result that lies in the state folder until its own folder can take it."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Deliver:
    """Bring a rendered job's output into its place: from a copy on a share, from the spool, else from the service."""

    job: Job
    output: RelPath
    copies: tuple[LocalCopy, ...] = ()
    spooled: Spooled | None = None


@dataclass(frozen=True, slots=True)
class SpoolResult:
    """Fetch a rendered job's output into the state folder, for its own cannot take it; at most `room_bytes`."""

    job: Job
    room_bytes: int


@dataclass(frozen=True, slots=True)
class Unspool:
    """Remove from the spool the results of these runs, by reference id: nothing waits for them any more."""

    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WriteNote:
    """Write a note; `kind` and `subject` say which, for the ledger; `files` are (path, content)."""

    root: str
    kind: str
    subject: str
    files: tuple[tuple[RelPath, bytes], ...]
    digest: str
    elsewhere: tuple[RelPath, ...] = ()  # the paths to take where those of `files` cannot be written


@dataclass(frozen=True, slots=True)
class RemoveFiles:
    """Remove files of ours: notes whose reason is gone (`subject` set), or temps that a dead process left."""

    root: str
    paths: tuple[RelPath, ...]
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeAccount:
    """Ask `GET /v1/users/me` (`unauthorized`, the key read again) or `GET /health` (`unreachable`)."""

    asks_me: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """Write our sentinel into a root that nobody serves yet."""

    root: str


Action: TypeAlias = (
    Scan
    | Hash
    | Probe
    | Submit
    | LookUp
    | Poll
    | Deliver
    | SpoolResult
    | Unspool
    | WriteNote
    | RemoveFiles
    | ProbeAccount
    | Claim
)

# -- events -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hint:
    """Something may have changed under a root: look sooner."""

    root: str


@dataclass(frozen=True, slots=True)
class RootFacts:
    """What a scan found out about the root itself."""

    state: RootState
    reason: str = ""
    is_network: bool = False
    has_events: bool = False  # changes wake us; else only the rescan finds them
    may_claim: bool = False
    mount_source: str | None = None
    mount_type: str | None = None
    has_sentinel: bool = False
    is_read_only: bool = False


@dataclass(frozen=True, slots=True)
class Scanned:
    action: Scan
    facts: RootFacts
    appeared: tuple[RelPath, ...] = ()
    vanished: tuple[RelPath, ...] = ()
    skipped: tuple[tuple[RelPath, str], ...] = ()
    observations: tuple[Observation, ...] = ()
    missing_notes: tuple[RelPath, ...] = ()
    is_complete: bool = True
    took_ms: int = 0


@dataclass(frozen=True, slots=True)
class Hashed:
    action: Hash
    sha256: str


@dataclass(frozen=True, slots=True)
class Probed:
    action: Probe
    video: MediaInfo
    audio: MediaInfo


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes moved for a job: `done` of `total` (None unknown)."""

    job_id: int
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class LeaveAsked:
    """The uploading thread asks for leave to send the last piece; it waits for the reply."""

    job_id: int


@dataclass(frozen=True, slots=True)
class Submitted:
    action: Submit
    request_id: str


@dataclass(frozen=True, slots=True)
class SubmitFailed:
    """`may_be_taken`: the whole body left and no clear answer came."""

    action: Submit
    error: WatchError
    may_be_taken: bool


@dataclass(frozen=True, slots=True)
class LookedUp:
    """`request` None: the service said 404."""

    action: LookUp
    request: Request | None


@dataclass(frozen=True, slots=True)
class Polled:
    """Answers by job id; None: the service said 404. `error`: the first thing that stopped the round.

    `calls`: how many it took.
    """

    action: Poll
    answers: Mapping[int, Request | None]
    error: WatchError | None = None
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Delivered:
    action: Deliver
    output: RelPath
    sha256: str
    size: int
    is_copy: bool = False


@dataclass(frozen=True, slots=True)
class ResultSpooled:
    action: SpoolResult
    spooled: Spooled


@dataclass(frozen=True, slots=True)
class Unspooled:
    action: Unspool


@dataclass(frozen=True, slots=True)
class NoteWritten:
    action: WriteNote
    paths: tuple[RelPath, ...]


@dataclass(frozen=True, slots=True)
class FilesRemoved:
    action: RemoveFiles


@dataclass(frozen=True, slots=True)
class AccountProbed:
    action: ProbeAccount


@dataclass(frozen=True, slots=True)
class Claimed:
    action: Claim


@dataclass(frozen=True, slots=True)
class Failed:
    """An action did not succeed; what that means depends on both."""

    action: Action
    error: WatchError


@dataclass(frozen=True, slots=True)
class Command:
    """A person's wish, from the ledger's table of commands; `job` is the row it names, if it does."""

    id: int
    verb: str
    args: Mapping[str, str]
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class StopAsked:
    """SIGTERM, SIGINT, or the end of `run --once`."""

    reason: str


@dataclass(frozen=True, slots=True)
class ReloadAsked:
    """SIGHUP."""


Event: TypeAlias = (
    Hint
    | Scanned
    | Hashed
    | Probed
    | Progress
    | LeaveAsked
    | Submitted
    | SubmitFailed
    | LookedUp
    | Polled
    | Delivered
    | ResultSpooled
    | Unspooled
    | NoteWritten
    | FilesRemoved
    | AccountProbed
    | Claimed
    | Failed
    | Command
    | StopAsked
    | ReloadAsked
)
