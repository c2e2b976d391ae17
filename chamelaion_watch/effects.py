"""Carries out actions: a thread for each, blocking I/O only, and one event posted back at the end.

The only place where action types meet the outside world, and the only one that catches everything: what is not a
WatchError is a bug of ours, logged with its traceback and reported as `internal`. It decides nothing, and a stop never
waits for gigabytes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from loguru import logger

from chamelaion_watch.core.errors import InputProblem, NotFound, Transient, WatchError
from chamelaion_watch.core.messages import (
    AccountProbed,
    Action,
    Claim,
    Claimed,
    Deliver,
    Event,
    Failed,
    FilesRemoved,
    Hash,
    Hashed,
    LeaveAsked,
    LookedUp,
    LookUp,
    NoteWritten,
    Poll,
    Polled,
    Probe,
    ProbeAccount,
    Probed,
    Progress,
    RemoveFiles,
    Scan,
    SpoolResult,
    Submit,
    SubmitFailed,
    Submitted,
    Unspool,
    Unspooled,
    WriteNote,
)
from chamelaion_watch.core.model import Job, Millis, Request
from chamelaion_watch.core.polling import LIST_FROM
from chamelaion_watch.core.submission import WITHDRAWN
from chamelaion_watch.core.world import where
from chamelaion_watch.delivering import deliver, spool_result
from chamelaion_watch.edges.api import Api, Upload
from chamelaion_watch.edges.clock import Clock, monotonic_s
from chamelaion_watch.edges.probe import Prober
from chamelaion_watch.edges.spool import Spool
from chamelaion_watch.links import Links
from chamelaion_watch.log import redacted
from chamelaion_watch.rootwork import RootWork
from chamelaion_watch.workers import Workers

DECISION_LASTS_MS = 5_000  # a submission decided longer ago is void: the world has moved on (api.md)
PROGRESS_EVERY_MS = 500
LIST_PAGE = 100
UNREADABLE = frozenset({"odd_answer", "not_the_service"})
LEAVE_WITHIN_S = 60.0


@dataclass(slots=True)
class _Round:
    """One round of polls in the making: job ids by request id, what was answered, and the calls so far."""

    wanted: Mapping[str, int]
    answers: dict[int, Request | None] = field(default_factory=dict)
    calls: int = 0


class Effects:
    """The hands of the daemon; `post` puts an event into its inbox and may be called from any thread."""

    def __init__(
        self,
        *,
        roots: Mapping[str, RootWork],
        api: Api,
        prober: Prober,
        spool: Spool,
        clock: Clock,
        post: Callable[[Event], None],
    ) -> None:
        self._roots = roots
        self._api = api
        self._prober = prober
        self._spool = spool
        self._clock = clock
        self._post = post
        self._stopping = threading.Event()
        self._workers = Workers()
        self._links = Links(api.find, clock)
        self._leaves: dict[int, queue.SimpleQueue[Millis | str]] = {}

    def start(self, action: Action) -> None:
        """Begin an action; its end arrives as an event."""
        if isinstance(action, Submit):
            self._leaves[action.job.id] = queue.SimpleQueue()
        try:
            self._workers.run(type(action).__name__, lambda: self._run(action))
        except RuntimeError as error:  # "can't start new thread": a limit of the machine, and it passes
            self._post(Failed(action, Transient(f"this machine is out of threads: {error}", code="no_threads")))

    def grant(self, job_id: int, until: Millis) -> None:
        """Let an upload send its last piece, if it does so before `until`."""
        if waiting := self._leaves.get(job_id):
            waiting.put(until)

    def deny(self, job_id: int, why: str) -> None:
        """Make an upload stop before its last piece."""
        if waiting := self._leaves.get(job_id):
            waiting.put(why)

    def stop(self) -> None:
        """Make uploads stop before their last piece, and downloads where they are."""
        self._stopping.set()
        for waiting in list(self._leaves.values()):
            waiting.put("the daemon is stopping")

    def _run(self, action: Action) -> None:
        began = monotonic_s()
        try:
            event = self._perform(action)
        except WatchError as error:
            event = Failed(action, error)
        except Exception as error:  # noqa: BLE001 - the one place that catches everything
            logger.opt(exception=error).error("a defect in {}: {}", type(action).__name__, error)
            told = redacted(f"{type(error).__name__}: {error}")  # a complaint may show the whole request
            event = Failed(action, WatchError(f"a defect of this program: {told}"))
        _tell(action, event, monotonic_s() - began)
        self._post(event)

    def _perform(self, action: Action) -> Event:  # noqa: C901, PLR0912 - one case per action
        match action:
            case Scan():
                return self._roots[action.root].scan(action)
            case Claim():
                self._roots[action.root].claim()
                return Claimed(action)
            case Hash():
                return Hashed(action, self._roots[action.root].sha256(action.path, action.signature, self._check_stop))
            case Probe():
                return self._probe(action)
            case Submit():
                return self._submit(action)
            case LookUp():
                return LookedUp(action, self._look_up(action.job.reference_id))
            case Poll():
                return self._poll(action)
            case Deliver():
                report = self._reporter(action.job)
                return deliver(action, self._roots, self._api, self._prober, self._spool, report, self._links.find)
            case SpoolResult():
                report = self._reporter(action.job)
                return spool_result(action, self._api, self._prober, self._spool, report, self._links.find)
            case Unspool():
                for reference_id in action.references:
                    self._spool.forget(reference_id)
                return Unspooled(action)
            case WriteNote():
                return NoteWritten(action, self._roots[action.root].write_note(action))
            case RemoveFiles():
                self._roots[action.root].remove(action.paths)
                return FilesRemoved(action)
            case ProbeAccount():
                return self._probe_account(action)
            case _:
                assert_never(action)

    # -- the service ----------------------------------------------------------------------------------

    def _submit(self, action: Submit) -> Event:
        job = action.job
        try:
            if self._clock.now() - action.decided_at > DECISION_LASTS_MS:
                raise InputProblem("the decision to send it is too old", code=WITHDRAWN)
            root = self._roots[job.root]
            with root.open(job.video) as video, root.open(job.audio) as audio:
                upload = Upload(
                    video=video.file,
                    video_bytes=video.bytes,
                    video_suffix=_suffix(job.video.path),
                    audio=audio.file,
                    audio_bytes=audio.bytes,
                    audio_suffix=_suffix(job.audio.path),
                    fields=_fields(job),
                    on_progress=self._uploading(job),
                    may_finish=lambda: self._ask_leave(job, (video.verify, audio.verify)),
                )
                return self._upload(action, upload)
        except WatchError as error:
            return SubmitFailed(action, error, may_be_taken=False)
        finally:
            self._leaves.pop(job.id, None)

    def _upload(self, action: Submit, upload: Upload) -> Event:
        try:
            return Submitted(action, self._api.submit(upload))
        except WatchError as error:
            return SubmitFailed(action, error, may_be_taken=upload.is_finished)

    def _ask_leave(self, job: Job, checks: tuple[Callable[[], None], ...]) -> None:
        """Check the sources once more, and wait until the ledger knows that the last piece goes out."""
        for check in checks:
            check()
        self._post(LeaveAsked(job.id))
        try:
            answer = self._leaves[job.id].get(timeout=LEAVE_WITHIN_S)
        except queue.Empty:
            answer = "no leave to finish within 60 s"
        if isinstance(answer, str) or self._stopping.is_set():
            raise InputProblem(f"stopped before the last piece: {answer}", code=WITHDRAWN)
        if self._clock.now() >= answer:
            raise InputProblem("this machine slept: the leave to finish is over", code=WITHDRAWN)

    def _uploading(self, job: Job) -> Callable[[int, int | None], None]:
        report = self._reporter(job)

        def on_progress(done: int, total: int | None) -> None:
            waiting = self._leaves.get(job.id)
            if waiting is not None and done != total and not waiting.empty():
                raise InputProblem(f"stopped before the last piece: {waiting.get()}", code=WITHDRAWN)
            if done != total:
                report(done, total)

        return on_progress

    def _reporter(self, job: Job) -> Callable[[int, int | None], None]:
        """Return a callback that reports now and then, and ends the transfer when the daemon stops."""
        last_at = 0

        def on_progress(done: int, total: int | None) -> None:
            nonlocal last_at
            self._check_stop()
            if (now := self._clock.now()) - last_at >= PROGRESS_EVERY_MS:
                last_at = now
                self._post(Progress(job.id, done, total))

        return on_progress

    def _check_stop(self, _done: int = 0) -> None:
        if self._stopping.is_set():
            raise InputProblem("the daemon is stopping", code=WITHDRAWN)

    def _look_up(self, reference_id: str) -> Request | None:
        """Ask whether the service has it: what names no request is no evidence, though a poll would take it."""
        found = self._find(reference_id)
        if found is not None and found.id == reference_id and found.reference_id is None:
            raise Transient("the service answers without saying which request it means", code="odd_answer")
        return found

    def _find(self, id_or_reference: str) -> Request | None:
        try:
            return self._api.find(id_or_reference)
        except NotFound:
            return None

    def _poll(self, action: Poll) -> Polled:
        """Ask in pages, newest first, when there are many; who is not shown, and is due, is asked for singly."""
        round_ = _Round({request_id: job_id for job_id, request_id in action.requests})
        try:
            if len(action.requests) >= LIST_FROM:
                self._list(round_)
            for job_id, request_id in action.requests:
                if job_id in action.singly and job_id not in round_.answers:
                    round_.calls += 1
                    round_.answers[job_id] = self._find(request_id)
        except WatchError as error:
            return Polled(action, round_.answers, error, round_.calls)
        finally:
            self._links.tell(round_.answers.values())
        return Polled(action, round_.answers, None, round_.calls)

    def _list(self, round_: _Round) -> None:
        """A list that has become something else, or too long, must keep no paid job from being asked for."""
        try:
            self._list_pages(round_)
        except Transient as error:
            if error.code not in UNREADABLE:
                raise

    def _list_pages(self, round_: _Round) -> None:
        """Read on while each page shows somebody: what is in flight lies together, who renders for hours far behind."""
        offset = 0
        while len(round_.answers) < len(round_.wanted):
            round_.calls += 1
            page = self._api.recent(limit=LIST_PAGE, offset=offset)
            found = {round_.wanted[request.id]: request for request in page.requests if request.id in round_.wanted}
            is_any_new = bool(found.keys() - round_.answers.keys())
            round_.answers.update(found)
            offset += len(page.requests)
            if not is_any_new or offset >= page.total:
                return

    def _probe_account(self, action: ProbeAccount) -> AccountProbed:
        if action.asks_me:
            self._api.me()
        else:
            self._api.health()
        return AccountProbed(action)

    # -- media ----------------------------------------------------------------------------------------

    def _probe(self, action: Probe) -> Probed:
        root, job = self._roots[action.job.root], action.job
        with root.open(job.video) as video, root.open(job.audio) as audio:
            return Probed(action, self._prober.probe(video.file.fileno()), self._prober.probe(audio.file.fileno()))


def _tell(action: Action, event: Event, took_s: float) -> None:
    """Log, for `-v`, what was done, how it ended and how long it took."""
    error: WatchError | None = getattr(event, "error", None)
    ended = f"{error.code}: {error.message}" if error else "done"
    logger.debug("{} {}: {} after {:.3f} s", type(action).__name__, _about(action), ended, took_s)


def _about(action: Action) -> str:
    match action:
        case Poll():
            return f"of {len(action.requests)}"
        case Unspool():
            return f"of {len(action.references)}"
        case ProbeAccount():
            return "by /v1/users/me" if action.asks_me else "by /health"
        case Hash():
            return f"{action.root}/{action.path}"
        case Scan() | Claim() | WriteNote() | RemoveFiles():
            return action.root
        case Probe() | Submit() | LookUp() | Deliver() | SpoolResult():
            return where(action.job)
        case _:
            assert_never(action)


def _fields(job: Job) -> dict[str, str]:
    fields = {"reference_id": job.reference_id}
    if job.options.disable_active_speaker_detection:
        fields["disable_active_speaker_detection"] = "true"
    if job.options.model:
        fields["model"] = job.options.model
    return fields


def _suffix(path: str) -> str:
    return "." + path.rpartition(".")[2].lower()
