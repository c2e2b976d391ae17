"""What each event means: the one place where every kind of event is named, and sent to the module that knows.

`apply` changes the world and nothing else; what must be done about it is the planner's business.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from chamelaion_watch.core import commands, delivery, gate, intake, naming, notebook, rendering, spooling, submission
from chamelaion_watch.core.errors import AccountProblem, InputProblem, NotFound, OutputProblem, RootProblem, WatchError
from chamelaion_watch.core.lifecycle import FINAL, Step
from chamelaion_watch.core.messages import (
    AccountProbed,
    Claim,
    Claimed,
    Command,
    Deliver,
    Delivered,
    Event,
    Failed,
    FilesRemoved,
    Hash,
    Hashed,
    Hint,
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
    ReloadAsked,
    RemoveFiles,
    ResultSpooled,
    RootFacts,
    Scan,
    Scanned,
    SpoolResult,
    StopAsked,
    Submit,
    SubmitFailed,
    Submitted,
    Unspool,
    Unspooled,
    WriteNote,
)
from chamelaion_watch.core.model import JobState, RootState
from chamelaion_watch.core.preflight import preflight
from chamelaion_watch.core.world import World


def apply(world: World, event: Event) -> None:  # noqa: C901, PLR0912 - one case per event
    """Take in one event; the action that it ends is no longer under way."""
    world.running.pop(getattr(event, "action", None), None)  # type: ignore[arg-type]
    match event:
        case Hint():
            if folder := world.folders.get(event.root):
                folder.hinted(world.now)
        case Scanned():
            _scanned(world, event)
        case Hashed():
            if folder := world.folders.get(event.action.root):
                folder.hashed(event.action.path, event.action.signature, event.sha256, world.now)
        case Probed():
            _probed(world, event)
        case Progress():
            submission.progressed(world, event)
        case LeaveAsked():
            submission.leave_asked(world, event)
        case Submitted():
            submission.submitted(world, event)
        case SubmitFailed():
            submission.submit_failed(world, event)
        case LookedUp():
            submission.looked_up(world, event)
        case Polled():
            rendering.polled(world, event)
        case Delivered():
            delivery.delivered(world, event)
        case ResultSpooled():
            spooling.spooled(world, event)
        case Unspooled():
            for reference_id in event.action.references:
                world.spooled.pop(reference_id, None)
        case NoteWritten():
            notebook.written(world, event.action, event.paths)
        case FilesRemoved():
            notebook.removed(world, event.action)
        case AccountProbed():
            world.gate = gate.probed(world.gate, world.now)
        case Claimed():
            _claimed(world, event.action)
        case Failed():
            _failed(world, event)
        case Command():
            commands.apply(world, event)
        case StopAsked():
            world.is_stopping = True
        case ReloadAsked():
            pass  # the daemon reads the file and hands over a new policy
        case _:
            assert_never(event)


def _scanned(world: World, event: Scanned) -> None:
    folder = world.folders.get(event.action.root)
    if folder is None:
        return
    before, was_scanned = folder.facts, folder.is_scanned
    folder.scanned(event, world.now)
    if before is None or folder.state is not before.state:
        _tell_health(world, event, is_first=before is None)
    if folder.is_scanned and not was_scanned:
        world.is_roots_changed = True
        if folder.held:
            world.say(
                "root",
                f"{folder.policy.name}: {len(folder.held)} pairs were here before and are held; "
                f"`chamelaion-watch resume --folder {folder.policy.name}` takes them",
                root=folder.policy.name,
                is_warning=True,
            )
    elif event.action.is_sweep and event.is_complete and folder.is_ok:
        intake.miss(world, folder)  # the second look at least: one is not enough to say that something is gone
    for path, why in event.skipped:
        world.say("skipped", f"{folder.policy.name}/{path}: {why}", root=folder.policy.name)
    world.is_notes_due = True
    # Where a paid result waits, only its delivery proves that there is room again.
    awaits_proof = any(job.root == folder.policy.name for job in world.book.of(JobState.RENDERED))
    if folder.write_trouble and world.now >= folder.write_again_at and not awaits_proof:
        folder.write_trouble = None
    for job in notebook.deleted_by_hand(world, folder):
        if folder.has(job) or job.key in folder.pairs:
            intake.again(world, job, "its note was deleted")


def _tell_health(world: World, event: Scanned, *, is_first: bool) -> None:
    name, facts = event.action.root, event.facts
    if facts.state is RootState.OK:
        if not is_first:
            world.say("root", f"{name}: ok again", root=name)
    else:
        world.say("root", f"{name}: {facts.state}: {facts.reason}", root=name, is_warning=True)


def _probed(world: World, event: Probed) -> None:
    job = world.job(event.action.job.id, JobState.QUEUED)
    if job is None or (job.video, job.audio) != (event.action.job.video, event.action.job.audio):
        return
    folder = world.folders[job.root]
    if event.video.duration_s:
        world.video_ms[job.id] = round(event.video.duration_s * 1000)
    verdict = preflight(event.video, event.audio, folder.policy.preflight)
    for finding in verdict.warn:
        world.attempt(job, "preflight", finding.code, finding.message)
        world.say("preflight", f"{job.root}/{job.key}: {finding.message}", job=job, is_warning=True)
    if verdict.stop:
        first = verdict.stop[0]
        world.attempt(job, "preflight", first.code, first.message)
        world.step(job, Step.FAIL, code=first.code, message="; ".join(finding.message for finding in verdict.stop))
        return
    world.checked.add(job.id)


def _claimed(world: World, action: Claim) -> None:
    world.say("root", f"{action.root}: served by this ledger from now on", root=action.root)
    folder = world.folders[action.root]
    if folder.facts:
        folder.facts = replace(folder.facts, may_claim=False, has_sentinel=True)
    world.is_roots_changed = True


def _failed(world: World, event: Failed) -> None:  # noqa: C901, PLR0912 - one case per action
    """An action did not succeed: who must know depends on what it was."""
    action, error = event.action, event.error
    match action:
        case Scan() | Claim():
            _unwell(world, action.root, error)
        case Hash():
            if folder := world.folders.get(action.root):
                if error.code == "input_unreadable":
                    folder.unreadable(action.path, action.signature, error.message, world.now)
                else:
                    folder.recheck(action.path, world.now)
                if isinstance(error, RootProblem):
                    _unwell(world, action.root, error)
        case Probe():
            _probe_failed(world, action, error)
        case Submit():
            submission.submit_failed(world, SubmitFailed(action, error, may_be_taken=False))
        case LookUp():
            if isinstance(error, NotFound):
                submission.looked_up(world, LookedUp(action, None))
            else:
                rendering.request_failed(world, error)
                submission.look_up_failed(world, action.job, error)
        case Poll():
            rendering.polled(world, Polled(action, {}, error))
        case Deliver() | SpoolResult():
            delivery.deliver_failed(world, action, error)
        case Unspool():
            for reference_id in action.references:  # what is left of it goes at the next start
                world.spooled.pop(reference_id, None)
        case WriteNote() | RemoveFiles():
            _note_failed(world, action, error)
        case ProbeAccount():
            _probe_refused(world, error)
        case _:
            assert_never(action)
    if error.code == "internal":
        _bug(world, event)


def _probe_refused(world: World, error: WatchError) -> None:
    if isinstance(error, AccountProblem) or getattr(error, "retry_after_s", None) is not None:
        rendering.request_failed(world, error)
    else:
        world.gate = gate.delayed(world.gate, world.now, error.message, chance=world.chance, policy=world.policy)


def _unwell(world: World, root: str, error: WatchError) -> None:
    folder = world.folders.get(root)
    if folder is None:
        return
    state = error.root_state if isinstance(error, RootProblem | OutputProblem) else RootState.STALE
    if folder.state is not state:
        world.say("root", f"{root}: {state}: {error.message}", root=root, is_warning=True)
    folder.scanned_unwell(RootFacts(state, error.message), world.now)


def _probe_failed(world: World, action: Probe, error: WatchError) -> None:
    job = world.job(action.job.id, JobState.QUEUED)
    folder = world.folders.get(action.job.root)
    if job is None or folder is None:
        return
    if isinstance(error, RootProblem):
        _unwell(world, job.root, error)
    elif isinstance(error, InputProblem):
        folder.recheck(job.video.path, world.now)
        folder.recheck(job.audio.path, world.now)
    else:
        world.change(job, next_at=world.now + 10_000)
        world.checked.add(job.id)  # the pre-flight saves quota; it must not keep a pair from the service


def _note_failed(world: World, action: WriteNote | RemoveFiles, error: WatchError) -> None:
    folder = world.folders.get(action.root)
    if folder is None:
        return
    if isinstance(error, RootProblem):
        _unwell(world, action.root, error)
    elif isinstance(error, OutputProblem):
        folder.write_trouble = (error.root_state, error.message)
        folder.write_again_at = world.now + delivery.OUTPUT_RETRY_MS
    if isinstance(action, RemoveFiles) and action.subject is None and not folder.may_write:
        folder.temps.update(action.paths)  # no later scan names them: they are removed when it may be written again
    if isinstance(action, WriteNote):
        folder.temps.update(naming.temp_path(path) for path in notebook.paths_of(action))  # a bad share may keep them
        world.say("note", f"{action.root}: cannot write a note: {error.message}", root=action.root, is_warning=True)


def _bug(world: World, event: Failed) -> None:
    """A defect of ours: the traceback is in the log; the job it concerns fails, the others go on."""
    job = getattr(event.action, "job", None)
    current = world.book.get(job.id) if job is not None else None
    if current is not None and current.state not in FINAL and current.state is not JobState.FAILED:
        if isinstance(event.action, Submit | Deliver | SpoolResult | LookUp):
            return  # their own rules apply: doubt, and a bounded number of tries
        world.step(current, Step.FAIL, code="internal", message=event.error.message)
