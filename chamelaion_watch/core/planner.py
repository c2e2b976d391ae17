"""What to start now, and when to look again: observations in, actions out, nothing remembered but what runs.

After a crash the same plan is derived again from the ledger and the disk; recovery is ordinary planning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from chamelaion_watch.core import gate, naming, notebook, polling, spooling, turns, twins
from chamelaion_watch.core.folder import Folder
from chamelaion_watch.core.lifecycle import NO_TROUBLE, Step
from chamelaion_watch.core.messages import (
    Action,
    Claim,
    Deliver,
    Hash,
    LookUp,
    Probe,
    ProbeAccount,
    RemoveFiles,
    Scan,
    SpoolResult,
    Submit,
    WriteNote,
)
from chamelaion_watch.core.model import Job, JobState, Millis, RelPath, RootState
from chamelaion_watch.core.submission import SEND_WINDOW_MS
from chamelaion_watch.core.target import output_of
from chamelaion_watch.core.world import World

HASHES = 4  # at once, over all roots; a disk reads one large file at a time
PROBES = 4  # two for each child, so that none waits for the next
LOOK_UPS = 2
SENT = frozenset({JobState.SUBMITTING, JobState.RENDERING, JobState.RENDERED})
HUNG_MS = 60_000
IDLE_MS = 60_000


@dataclass(slots=True)
class Plan:
    """The actions to start, and the latest moment to plan again."""

    wake_at: Millis
    actions: list[Action] = field(default_factory=list)

    def at(self, when: Millis | None) -> None:
        if when is not None:
            self.wake_at = min(self.wake_at, when)


def plan(world: World) -> Plan:
    """Decide what to start; claims submissions in the world, to be committed before they start."""
    made = Plan(world.now + IDLE_MS)
    world.gate = gate.passed(world.gate, world.now)
    _tell_account(world)
    if world.is_stopping:
        return made
    _end_pauses(world, made)
    for folder in world.folders.values():
        _scan(world, folder, made)
        _claim_root(world, folder, made)
        _clean(world, folder, made)
    _hash(world, made)
    _probe(world, made)
    twins.follow(world)  # before what is then to be looked up, polled and fetched
    _look_up(world, made)
    _poll(world, made)
    _spool(world, made)
    _deliver(world, made)
    _submit(world, made)
    _probe_account(world, made)
    _write_notes(world, made)
    return made


# -- roots and files ----------------------------------------------------------------------------------


def _scan(world: World, folder: Folder, made: Plan) -> None:
    name = folder.policy.name
    under_way = [at for action, at in world.running.items() if isinstance(action, Scan) and action.root == name]
    if under_way:
        if folder.state is not RootState.HUNG and world.now - under_way[0] >= HUNG_MS:
            folder.hung(world.now)
            world.say("root", f"{name}: hung: {folder.reason}", root=name, is_warning=True)
        made.at(under_way[0] + HUNG_MS if folder.state is not RootState.HUNG else None)
        return
    due_at = folder.scan_at(world.now)
    if due_at > world.now:
        made.at(due_at)
        return
    made.actions.append(folder.scan(world.now, notebook.to_look_for(world, name), _watched(world, name)))


def _watched(world: World, root: str) -> Iterator[RelPath]:
    """Yield the files of a root's open jobs, each once."""
    jobs = (job for job in world.book.open() if job.root == root)
    yield from sorted({source.path for job in jobs for source in (job.video, job.audio)})


def _claim_root(world: World, folder: Folder, made: Plan) -> None:
    if folder.is_ok and folder.facts and folder.facts.may_claim:
        action = Claim(folder.policy.name)
        if action not in world.running:
            made.actions.append(action)


def _clean(world: World, folder: Folder, made: Plan) -> None:
    """Temps that this process is not writing, as an output or a note, were left by one that died."""
    name = folder.policy.name
    if not folder.temps or not folder.may_write:
        return
    if any(isinstance(action, WriteNote) and action.root == name for action in world.running):
        return
    in_use = {
        naming.temp_path(action.output)
        for action in world.running
        if isinstance(action, Deliver) and action.job.root == name
    }
    stale = tuple(sorted(folder.temps - in_use))
    folder.temps.clear()
    if stale:
        made.actions.append(RemoveFiles(name, stale))


def _hash(world: World, made: Plan) -> None:
    room = HASHES - world.count_running(Hash)
    in_turn = deque(world.folders.values())
    while room > 0 and in_turn:
        folder = in_turn.popleft()
        if action := folder.hash_wanted():
            folder.reading.begun(action.path, action.signature)
            made.actions.append(action)
            room -= 1
            in_turn.append(folder)


# -- jobs ---------------------------------------------------------------------------------------------


def _probe(world: World, made: Plan) -> None:
    """Queued jobs are probed at once, not when their turn comes: an editor hears of a silent track in seconds."""
    room = PROBES - world.count_running(Probe)
    for job_id in list(world.book.queue.unprobed) if room > 0 else ():
        if job_id in world.checked:
            del world.book.queue.unprobed[job_id]
            continue
        job = world.book.jobs[job_id]
        folder = world.folders.get(job.root)
        if folder is None or not folder.is_ok or not folder.has(job) or world.is_running(Probe, job_id):
            continue
        made.actions.append(Probe(job))
        room -= 1
        if room <= 0:
            return


def _look_up(world: World, made: Plan) -> None:
    """Doubts first, then pairs that an older ledger may have paid for."""
    room = LOOK_UPS - world.count_running(LookUp)
    may_at = gate.request_at(world.gate, world.now)
    for job in _to_look_up(world):
        if may_at is None or room <= 0:
            return
        due_at = max(job.next_at or 0, may_at)
        if world.is_running((LookUp, Submit, Probe), job.id):
            continue
        if due_at > world.now:
            made.at(due_at)
            continue
        made.actions.append(LookUp(job))
        room -= 1


def _to_look_up(world: World) -> Iterator[Job]:
    book = world.book
    yield from (job for job_id in book.doubted if (job := book.jobs[job_id]).state in SENT)
    yield from (book.jobs[job_id] for job_id in book.queue.unasked if job_id in world.checked)


def _poll(world: World, made: Plan) -> None:
    action, again_at = polling.to_ask(world)
    made.actions += [action] if action else []
    made.at(again_at)


def _spool(world: World, made: Plan) -> None:
    action, again_at = spooling.to_spool(world)
    made.actions += [wanted for wanted in (action, spooling.to_forget(world)) if wanted is not None]
    made.at(again_at)


def _deliver(world: World, made: Plan) -> None:
    room = world.policy.downloads - world.count_running(Deliver)
    may_at = gate.request_at(world.gate, world.now)
    for job in world.book.of(JobState.RENDERED):
        folder = world.folders.get(job.root)
        spooled = world.spooled.get(job.reference_id)
        asks_from = world.now if spooled else may_at  # what lies in the state folder needs no network
        if folder is None or not folder.is_ok or job.doubt_at is not None or asks_from is None:
            continue
        due_at = max(job.next_at or 0, asks_from)
        if due_at > world.now:
            made.at(due_at)
        elif room > 0 and not _is_being_fetched(world, made, job):
            output = output_of(world, folder, job)
            if not _is_in_use(world, made, job, output):
                made.actions.append(Deliver(job, output, twins.copies(world, job), spooled))
                room -= 1


def _is_being_fetched(world: World, made: Plan, job: Job) -> bool:
    begun = any(isinstance(action, SpoolResult) and action.job.id == job.id for action in made.actions)
    return begun or world.is_running((Deliver, SpoolResult), job.id)


def _is_in_use(world: World, made: Plan, job: Job, output: RelPath) -> bool:
    """Say whether the temp of this output is another's: being removed as a dead process's, or written for a twin name.

    Two results that newer content overtook go by one name.
    """
    temp = naming.temp_path(output)
    return any(
        temp in action.paths if isinstance(action, RemoveFiles) else action.output == output
        for action in (*world.running, *made.actions)
        if isinstance(action, RemoveFiles | Deliver) and job.root == _root_of(action)
    )


def _root_of(action: RemoveFiles | Deliver) -> str:
    return action.root if isinstance(action, RemoveFiles) else action.job.root


# -- submitting ---------------------------------------------------------------------------------------


def _submit(world: World, made: Plan) -> None:
    made.at(turns.next_try_at(world))
    while True:
        if world.pause or turns.is_daily_limit_reached(world):
            return
        if world.count_running(Submit) + sum(isinstance(a, Submit) for a in made.actions) >= world.policy.uploads:
            return
        at = gate.submit_at(world.gate, world.now, world.in_flight(), world.policy)
        job = None if at is None else turns.next_job(world)
        if job is None or at is None:
            return
        if at > world.now:
            made.at(at)
            return
        made.actions.append(_claim(world, job))


def _claim(world: World, job: Job) -> Submit:
    world.gate = gate.claimed(world.gate, job.id, world.now, world.policy)
    until = world.now + SEND_WINDOW_MS
    job = world.step(job, Step.CLAIM, sent_at=world.now, sent_until=until, tries=job.tries, **NO_TROUBLE)
    return Submit(job, world.now)


# -- the account, notes, pauses -----------------------------------------------------------------------


def _probe_account(world: World, made: Plan) -> None:
    at = gate.probe_at(world.gate, world.now)
    if at is None or world.is_running(ProbeAccount):
        return
    if at > world.now:
        made.at(at)
    else:
        made.actions.append(ProbeAccount(asks_me=world.gate.state == "unauthorized"))


def _write_notes(world: World, made: Plan) -> None:
    if not world.is_notes_due:
        return
    world.is_notes_due = False
    for action in notebook.due(world):
        folder = world.folders[action.root]
        if _is_being_noted(world, made, action):
            continue  # its event will make notes due again
        if not folder.is_ok:
            continue  # the scan that finds the root well makes notes due again
        if isinstance(action, WriteNote):
            notebook.begun(world, action)
        made.actions.append(action)


def _is_being_noted(world: World, made: Plan, action: WriteNote | RemoveFiles) -> bool:
    """Whether the same note, or another at one of its paths, is being written or removed; or a dead process's temps."""
    paths = notebook.paths_of(action)
    return any(
        other.subject in (action.subject, None) or not paths.isdisjoint(notebook.paths_of(other))
        for other in (*world.running, *made.actions)
        if isinstance(other, WriteNote | RemoveFiles) and other.root == action.root
    )


def _tell_account(world: World) -> None:
    """Say once what everybody waits for, and once that it is over."""
    state = world.gate.state
    if state is world.told_account:
        return
    world.told_account = state
    if world.gate.is_open:
        world.say("account", "the account is open again; one submission goes first")
        return
    wait_s = max(0, world.gate.until_at - world.now) / 1000
    text = f"the account is {state}: {world.gate.reason}; nothing is submitted for {wait_s:.0f} s, then one probe goes"
    world.say("account", text, is_warning=True)


def _end_pauses(world: World, made: Plan) -> None:
    if world.pause and world.pause.until_at is not None:
        if world.pause.until_at <= world.now:
            world.pause = None
            world.say("account", "the pause is over")
        else:
            made.at(world.pause.until_at)
    for folder in world.folders.values():
        if folder.is_paused and folder.paused_until is not None:
            if folder.paused_until <= world.now:
                folder.is_paused, folder.paused_until, folder.pause_reason = False, None, ""
                world.is_roots_changed = True
            else:
                made.at(folder.paused_until)
