"""The nouns: frozen values that every layer speaks, with no behaviour beyond their own fields.

Instants are whole milliseconds since the epoch (`Millis`, `_at`, `_until`), by the daemon's own clock.
Paths of files in a root are `RelPath`: relative, `/` between the parts, decoded by `os.fsdecode`, so that
`os.fsencode` gives back exactly the bytes that were listed, valid UTF-8 or not.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

Millis: TypeAlias = int
RelPath: TypeAlias = str


class FileState(enum.StrEnum):
    """What is known of one file; all but `complete` are shown to people with a reason."""

    ARRIVING = "arriving"  # its signature still changes, or has not been quiet for long enough
    BUSY = "busy"  # a writer has it open, or a lock denies reading
    INCOMPLETE = "incomplete"  # quiet, but its structure says that the end is missing
    UNREADABLE = "unreadable"  # permission denied for longer than a lock lasts
    COMPLETE = "complete"  # passed the gate with the signature that we hold


class PairState(enum.StrEnum):
    """What holds a file that has no job."""

    ARRIVING = "arriving"
    BUSY = "busy"
    INCOMPLETE = "incomplete"
    UNREADABLE = "unreadable"
    WAITING = "waiting"  # its other half is not there
    ATTENTION = "attention"  # ambiguous: only a person can say
    HELD = "held"  # was here before the folder was first watched


class JobState(enum.StrEnum):
    """The life of a job; transitions stand in `lifecycle`, with who moves each state on."""

    QUEUED = "queued"
    SUBMITTING = "submitting"
    RENDERING = "rendering"
    RENDERED = "rendered"
    DONE = "done"
    FAILED = "failed"
    DOUBTFUL = "doubtful"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class AccountState(enum.StrEnum):
    OPEN = "open"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXHAUSTED = "quota_exhausted"
    UNAUTHORIZED = "unauthorized"
    UNREACHABLE = "unreachable"
    PAUSED = "paused"  # by a person


class RootState(enum.StrEnum):
    OK = "ok"
    MISSING = "missing"
    NOT_MOUNTED = "not_mounted"
    FOREIGN = "foreign"  # served by another ledger
    STALE = "stale"
    HUNG = "hung"
    DENIED = "denied"
    READ_ONLY = "read_only"
    FULL = "full"


# -- files --------------------------------------------------------------------------------------------


class Signature(NamedTuple):
    """What is compared to say that a file did not change: never ctime, never inode (unreliable on shares)."""

    size: int
    mtime_ns: int


class Structure(enum.StrEnum):
    WHOLE = "whole"
    TRUNCATED = "truncated"  # boxes or chunks reach past the end of the file, or the index is missing
    UNKNOWN = "unknown"  # a format without a length to check (MP3), or not what its name says


class Trouble(enum.StrEnum):
    """Why a file could not be looked at."""

    BUSY = "busy"  # EBUSY, ETXTBSY, EAGAIN: a writer
    DENIED = "denied"  # EACCES, EPERM
    GONE = "gone"  # ENOENT
    NOT_REGULAR = "not_regular"  # symlink, folder, FIFO, socket, device
    IO = "io"  # EIO in this one file


@dataclass(frozen=True, slots=True)
class Look:
    """A file to look at; `last` is the signature seen before, and only if it still holds is the content checked.

    `is_brief`: only whether its signature changed is asked, by one call and without opening it.
    """

    path: RelPath
    last: Signature | None = None
    is_brief: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at one file, taken on an open descriptor.

    `deep` says that the content was checked; only then do `has_hole`, `has_zero_tail` and `structure` mean anything.
    `writer`: True somebody has it open for writing, False it is proven that nobody has, None unknown.
    """

    path: RelPath
    signature: Signature | None = None
    trouble: Trouble | None = None
    detail: str = ""  # of `trouble`: the system's words
    temp_sibling: str | None = None  # name of a partial copy beside it
    deep: bool = False
    writer: bool | None = None
    has_hole: bool = False
    has_zero_tail: bool = False
    structure: Structure = Structure.UNKNOWN
    structure_detail: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A complete file, identified by its content."""

    path: RelPath
    signature: Signature
    sha256: str  # 64 hex digits


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a probe found in one file; `error` set means that it could not be read as media."""

    duration_s: float | None = None
    has_picture: bool = False
    has_sound: bool = False
    detail: str = ""  # codecs, size: for people
    error: str | None = None


# -- pairs --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pair:
    """One video and one audio that belong together, and the rule that says so."""

    video: RelPath
    audio: RelPath
    folder: RelPath  # the video's folder, "" for the root itself: `{dir}`
    stem: str  # as the video spells it: `{stem}`
    lang: str | None  # canonical tag
    rule: str

    @property
    def name(self) -> str:
        """NAME of the surface: `{stem}` or `{stem}.{lang}`."""
        return f"{self.stem}.{self.lang}" if self.lang else self.stem

    @property
    def key(self) -> RelPath:
        """What identifies the pair in its root: folder and NAME."""
        return f"{self.folder}/{self.name}" if self.folder else self.name


class Unpaired(NamedTuple):
    """A file that no pair takes, and why, in words for the person at the share."""

    path: RelPath
    state: PairState  # WAITING or ATTENTION
    code: str  # stable slug: `no_audio`, `no_video`, `two_videos`, `two_audios`, `twins`, `stray`, …
    reason: str
    candidates: tuple[RelPath, ...] = ()  # near misses when waiting, rivals when ambiguous


@dataclass(frozen=True, slots=True)
class Pairing:
    pairs: tuple[Pair, ...] = ()
    unpaired: tuple[Unpaired, ...] = ()
    is_by_quiet: bool = field(default=False, compare=False)  # a folder's being quiet had a say, beside the names


# -- jobs ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Options:
    """The API options that change the result, and so belong to a run's identity."""

    disable_active_speaker_detection: bool = False
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one pair: the row of the ledger. `id` is 0 until the ledger has given one."""

    id: int
    root: str
    key: RelPath  # the pair's key in its root
    name: str  # NAME
    folder: RelPath
    stem: str
    lang: str | None
    video: Source
    audio: Source
    options: Options
    run_no: int
    reference_id: str
    state: JobState
    created_at: Millis
    changed_at: Millis  # when `state` was entered
    priority: int = 0
    # the submission, written ahead
    sent_at: Millis | None = None  # claimed: set before the first byte, cleared when certainly not taken
    sent_until: Millis | None = None  # no byte may leave after this; extended while bytes move
    finishing_at: Millis | None = None  # leave to send the last piece was given
    doubt_at: Millis | None = None  # when our own socket was closed without an answer, or the restart after it
    # the request
    request_id: str | None = None
    request_status: str | None = None
    accepted_at: Millis | None = None
    rendered_at: Millis | None = None
    # the result
    output: RelPath | None = None
    output_sha256: str | None = None
    output_bytes: int | None = None
    # trouble
    tries: int = 0  # attempts used in the present state
    next_at: Millis | None = None  # not before this
    code: str | None = None
    message: str | None = None
    http_status: int | None = None
    is_superseded: bool = False  # newer content took its place while it was rendering: keep the result aside
    must_look_up: bool = False  # an older ledger may have paid for it: ask the service before the first submission
    # several hosts on one ledger: who works on it, until when, and the fence that an older owner fails at
    owner: str | None = None
    lease_until: Millis | None = None
    fence: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One line in a job's history, with the step in which it happened."""

    job_id: int
    at: Millis
    step: str
    code: str
    message: str
    http_status: int | None = None


class RequestStatus(enum.StrEnum):
    """The service's words; any other means still in progress."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the service tells of it; `output_url` is secret and must never be stored or logged."""

    id: str
    status: str
    reference_id: str | None = None
    output_url: str | None = field(default=None, repr=False)
    error_message: str | None = None
    took_ms: int | None = None  # from its creation to its end, by the service's clock

    @property
    def is_completed(self) -> bool:
        return self.status == RequestStatus.COMPLETED

    @property
    def is_failed(self) -> bool:
        return self.status == RequestStatus.FAILED
