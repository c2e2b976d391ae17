"""Everything that the control thread owns: folders, jobs, the gate, what is under way, what must be written.

Plain state and the few ways to change it; the decisions are in `intake`, `submission`, `rendering`, `delivery`
(what an event means) and `planner` (what to do next). `now` and `chance` are set once per tick by the daemon.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from chamelaion_watch.core import lifecycle
from chamelaion_watch.core.book import Book
from chamelaion_watch.core.folder import Folder
from chamelaion_watch.core.gate import Gate
from chamelaion_watch.core.lifecycle import FINAL, NEEDS_A_PERSON, Step
from chamelaion_watch.core.messages import Action, Deliver, Probe, Spooled, Submit
from chamelaion_watch.core.model import AccountState, Attempt, Job, JobState, Millis, RelPath, RootState
from chamelaion_watch.core.pace import Pace
from chamelaion_watch.core.policy import Policy

DAY_MS = 86_400_000
HISTORY = 30  # attempts that a note may tell of


@dataclass(frozen=True, slots=True)
class Pause:
    """A person's pause of the account or of a folder."""

    reason: str = ""
    until_at: Millis | None = None
    since_at: Millis = 0


@dataclass(frozen=True, slots=True)
class Note:
    """A note of ours that lies on a share; `digest` says what it tells."""

    root: str
    subject: str
    kind: str
    paths: tuple[RelPath, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Said:
    """A line for the diary and the log: transitions, never progress."""

    kind: str
    text: str
    job_id: int | None = None
    root: str | None = None
    is_warning: bool = False


@dataclass(slots=True)
class World:
    """The state of the control thread."""

    policy: Policy
    folders: dict[str, Folder] = field(default_factory=dict)
    book: Book = field(default_factory=Book)
    gate: Gate = field(default_factory=Gate)
    told_account: AccountState = AccountState.OPEN  # the state that was last said
    pause: Pause | None = None
    notes: dict[tuple[str, str], Note] = field(default_factory=dict)
    accepted_at: deque[Millis] = field(default_factory=deque)  # submissions of the last day
    now: Millis = 0
    chance: float = 0.5
    utc_offset_s: int = 0
    is_stopping: bool = False
    spooled: dict[str, Spooled] = field(default_factory=dict)  # reference id → its result in the state folder
    only: set[tuple[str, RelPath]] | None = None  # `run --once`: the pairs of this run; others are left alone
    # in memory only: lost at a crash, derived again
    running: dict[Action, Millis] = field(default_factory=dict)
    checked: set[int] = field(default_factory=set)  # queued jobs that passed the pre-flight in this process
    leave: dict[int, Millis] = field(default_factory=dict)  # job id → until when it may finish; asked for this tick
    denied: dict[int, str] = field(default_factory=dict)  # job id → why it may not finish
    cancelling: dict[int, str] = field(default_factory=dict)  # job id → code: cancel when the upload has stopped
    pace: Pace = field(default_factory=Pace)
    video_ms: dict[int, int] = field(default_factory=dict)  # job id → length of its video, of open jobs
    progress: dict[int, tuple[int, int | None]] = field(default_factory=dict)
    spool_again_at: dict[str, Millis] = field(default_factory=dict)  # reference id → when there may be room for it
    unseen_at: dict[int, Millis] = field(default_factory=dict)  # job id → the first 404 to its look-ups
    history: dict[int, deque[Attempt]] = field(default_factory=dict)  # of open jobs, for their notes
    # -- what the ledger is to be told at the end of the tick
    changed: dict[int, None] = field(default_factory=dict)
    new_jobs: list[Job] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    noted: list[Note] = field(default_factory=list)
    unnoted: list[tuple[str, str]] = field(default_factory=list)
    finished_commands: list[tuple[int, str]] = field(default_factory=list)
    is_roots_changed: bool = False
    is_notes_due: bool = True  # something that notes tell of has changed

    # -- changing jobs --------------------------------------------------------------------------------

    def step(self, job: Job, step: Step, **changes: Any) -> Job:
        """Move a job on by the table, and say so."""
        after = lifecycle.advance(job, step, self.now, **changes)
        self.put(after)
        if job.state is JobState.SUBMITTING and (folder := self.folders.get(job.root)):
            folder.offer(job.key, self.now)  # its sources may have changed while it was being sent: compare once more
        self.checked.discard(job.id)
        self.progress.pop(job.id, None)
        self.unseen_at.pop(job.id, None)
        self.is_notes_due = True
        if after.state in FINAL:
            self.history.pop(job.id, None)
            self.video_ms.pop(job.id, None)
        is_bad = after.state in NEEDS_A_PERSON
        why = f" ({after.code}: {after.message})" if is_bad else ""
        self.say("job", f"{where(after)}: {after.state}{why}", job=after, is_warning=is_bad)
        return after

    def change(self, job: Job, **changes: Any) -> Job:
        """Change fields of a job without moving it on."""
        after = replace(job, **changes)
        self.put(after)
        return after

    def put(self, job: Job) -> None:
        self.book.put(job)
        self.changed[job.id] = None
        if job.state not in FINAL and (folder := self.folders.get(job.root)):
            folder.wake(job.key, self.now)

    def attempt(self, job: Job, step: str, code: str, message: str, http_status: int | None = None) -> None:
        """Add a line to a job's history."""
        line = Attempt(job.id, self.now, step, code, message, http_status)
        self.attempts.append(line)
        self.history.setdefault(job.id, deque(maxlen=HISTORY)).append(line)

    def say(
        self, kind: str, text: str, *, job: Job | None = None, root: str | None = None, is_warning: bool = False
    ) -> None:
        self.said.append(Said(kind, text, job.id if job else None, job.root if job else root, is_warning))

    # -- asking ---------------------------------------------------------------------------------------

    def job(self, job_id: int, *states: JobState) -> Job | None:
        """Return the job if it is in one of these states now: an answer may come too late to matter."""
        job = self.book.jobs.get(job_id)
        return job if job is not None and job.state in states else None

    def in_flight(self) -> int:
        """Count what the service may be working on, or is being sent; an upload that a hung folder holds is neither."""
        sent = len(self.book.by_state[JobState.SUBMITTING]) + len(self.book.by_state[JobState.RENDERING])
        return sent - sum(self._is_unfinished(action) for action in self.running if self._is_hung(action))

    def is_running(self, kind: type[Action] | tuple[type[Action], ...], job_id: int | None = None) -> bool:
        return any(
            isinstance(action, kind) and (job_id is None or _job_id(action) == job_id) for action in self.running
        )

    def count_running(self, kind: type[Action]) -> int:
        """Count what takes up the room of others: what a hung folder holds may never end, and must stop nobody else."""
        return sum(isinstance(action, kind) and not self._is_hung(action) for action in self.running)

    def _is_hung(self, action: Action) -> bool:
        folder = self.folders.get(root_of(action) or "")
        return folder is not None and folder.state is RootState.HUNG

    def _is_unfinished(self, action: Action) -> bool:
        job = self.job(action.job.id, JobState.SUBMITTING) if isinstance(action, Submit) else None
        return job is not None and job.finishing_at is None

    def accepted_today(self) -> int:
        while self.accepted_at and self.accepted_at[0] <= self.now - DAY_MS:
            self.accepted_at.popleft()
        return len(self.accepted_at)

    def folders_ok(self) -> Iterable[Folder]:
        return (folder for folder in self.folders.values() if folder.is_ok)


def where(job: Job) -> str:
    """Name a job for people: its folder and pair."""
    return f"{job.root}/{job.key}"


def root_of(action: Action) -> str | None:
    """Name the folder whose files an action touches, if it touches any."""
    if isinstance(action, Submit | Deliver | Probe):
        return action.job.root
    return getattr(action, "root", None)


def _job_id(action: Action) -> int | None:
    job = getattr(action, "job", None)
    return job.id if isinstance(job, Job) else None
