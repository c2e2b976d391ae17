"""From pairs to jobs: what a ready pair, a lost pair or a person's wish means for the jobs that exist.

The rules of dropfolder.md §9, one function per phase. Content is identity: a pair whose two SHA-256 sums are those
of its newest job asks for nothing, whatever its names, times or the settings became.
"""

from __future__ import annotations

from dataclasses import replace

from chamelaion_watch.core.folder import Folder
from chamelaion_watch.core.lifecycle import NO_TROUBLE, NOT_ASKED, SOURCE_GONE, Step
from chamelaion_watch.core.model import Job, JobState, Pair, RelPath, Source
from chamelaion_watch.core.naming import reference_id
from chamelaion_watch.core.world import World

BY_REQUEST = "by_request"
_OPEN = (JobState.QUEUED, JobState.SUBMITTING, JobState.RENDERING, JobState.RENDERED)


def take_in(world: World) -> None:
    """Evaluate every pair that became ready or was lost since the last tick."""
    for folder in world.folders.values():
        if not folder.is_ok:
            continue
        for key in list(folder.index.gone):
            folder.index.gone.pop(key, None)
            _lost(world, folder, key)
        for key in list(folder.index.ready):
            folder.index.ready.pop(key, None)  # not all at the end: what is woken meanwhile comes in the next tick
            _evaluate(world, folder, key)


def again(world: World, job: Job, why: str) -> str:
    """A person asks once more; returns what was done, in words."""
    newest = world.book.newest(job.root, job.key)
    if newest is not None and newest.id != job.id:
        return f"job {job.id}: job {newest.id} is newer and {newest.state}; retry that one"
    if folder := world.folders.get(job.root):
        folder.wake(job.key, world.now)
    video, audio = _present(world, job)
    match job.state:
        case JobState.FAILED if job.rendered_at is not None:
            world.step(job, Step.REDELIVER, **NO_TROUBLE)
            return f"job {job.id}: its paid result is fetched again"
        case JobState.FAILED | JobState.DOUBTFUL | JobState.CANCELLED:
            world.attempt(job, "again", "again", why)
            _requeue(world, job, video, audio, run_no=_next_run(world, job))
            if folder := world.folders.get(job.root):
                folder.offer(job.key, world.now)
            return f"job {job.id}: queued again, run {world.book.jobs[job.id].run_no}"
        case JobState.DONE | JobState.SUPERSEDED:
            _add(world, replace(job, video=video, audio=audio), run_no=_next_run(world, job))
            return f"job {job.id}: run again as a new job; its output stays"
        case _:
            return f"job {job.id}: still {job.state}, nothing to retry"


def cancel(world: World, job: Job, code: str, message: str) -> str:
    """Cancel a job: before its last piece has left nothing is paid; after it the result is not delivered."""
    match job.state:
        case JobState.SUBMITTING if job.doubt_at is None:
            world.cancelling[job.id] = code
            world.change(job, code=code)  # a crash must not forget it
            return f"job {job.id}: cancelled as soon as its upload has stopped"
        case JobState.DONE | JobState.CANCELLED | JobState.SUPERSEDED:
            return f"job {job.id}: already {job.state}"
        case _:
            world.step(job, Step.CANCEL, code=code, message=message)
            if folder := world.folders.get(job.root):
                folder.offer(job.key, world.now)  # other content may have come while it was in doubt
            return f"job {job.id}: cancelled"


# -- a pair is ready ----------------------------------------------------------------------------------


def _evaluate(world: World, folder: Folder, key: RelPath) -> None:
    """Compare a pair with its job, if it may go: those of a whole folder that was woken are mostly over."""
    root = folder.policy.name
    is_wanted = key not in folder.held and (world.only is None or (root, key) in world.only)
    pair = folder.pairs.get(key) if is_wanted else None
    sources = folder.sources(pair) if pair else None
    if pair and sources and not world.book.is_over(root, key, sources[0].sha256, sources[1].sha256):
        _ready(world, folder, pair, *sources)


def _ready(world: World, folder: Folder, pair: Pair, video: Source, audio: Source) -> None:  # noqa: C901, PLR0912 - §9
    job = world.book.newest(folder.policy.name, pair.key)
    if job is None:
        _create(world, folder, pair, video, audio)
        return
    is_same = (job.video.sha256, job.audio.sha256) == (video.sha256, audio.sha256)
    is_touched = (job.video, job.audio) != (video, audio)
    was_sent = job.sent_at is not None or job.request_id is not None
    is_record = was_sent or job.run_no > 1  # asked for again: the row is all that knows of the runs before
    match job.state:
        case JobState.QUEUED | JobState.SUBMITTING if is_same:
            if is_touched and job.state is JobState.QUEUED:
                world.change(job, video=video, audio=audio)
        case JobState.QUEUED if is_record:
            world.step(job, Step.CANCEL, code="new_content", message="a source was replaced before it was sent again")
            _create(world, folder, pair, video, audio)
        case JobState.QUEUED:
            _replace_content(world, job, video, audio)
        case JobState.SUBMITTING:
            # Leave is denied for a job whose sources changed; the queue then finds the new content.
            world.denied[job.id] = "its source changed"
        case JobState.FAILED | JobState.CANCELLED if not is_same and is_record:
            _create(world, folder, pair, video, audio)  # that row stays the record of what was paid for
        case JobState.FAILED | JobState.CANCELLED if not is_same:
            world.attempt(job, "again", "new_content", "a source was replaced: the new content is queued")
            _requeue(world, job, video, audio, run_no=_run_of(world, job, video, audio))
        case JobState.CANCELLED if job.code == SOURCE_GONE and was_sent:
            _create(world, folder, pair, video, audio)  # which finds out what became of that run, and pays nothing
        case JobState.CANCELLED if job.code == SOURCE_GONE:
            world.attempt(job, "again", "back", "the source is back")
            _requeue(world, job, video, audio, run_no=max(job.run_no, _run_of(world, job, video, audio)))
        case JobState.RENDERING | JobState.RENDERED if not is_same:
            world.change(job, is_superseded=True)
            _create(world, folder, pair, video, audio)
        case JobState.DOUBTFUL if not is_same:
            world.step(job, Step.SUPERSEDE)
            _create(world, folder, pair, video, audio)
        case JobState.DONE | JobState.SUPERSEDED if not is_same:
            _create(world, folder, pair, video, audio)
        case _:
            pass


def _create(world: World, folder: Folder, pair: Pair, video: Source, audio: Source) -> None:
    job = Job(
        id=0,
        root=folder.policy.name,
        key=pair.key,
        name=pair.name,
        folder=pair.folder,
        stem=pair.stem,
        lang=pair.lang,
        video=video,
        audio=audio,
        options=world.policy.options,
        run_no=1,
        reference_id="",
        state=JobState.QUEUED,
        created_at=world.now,
        changed_at=world.now,
        priority=folder.policy.priority,
        must_look_up=folder.is_new,
    )
    _add(world, job, run_no=_run_of(world, job, video, audio))


def _add(world: World, job: Job, run_no: int) -> None:
    """Queue a new row for a pair, like `job` in what it is about and new in everything else."""
    if folder := world.folders.get(job.root):
        folder.wake(job.key, world.now)
    world.new_jobs.append(
        Job(
            id=0,
            root=job.root,
            key=job.key,
            name=job.name,
            folder=job.folder,
            stem=job.stem,
            lang=job.lang,
            video=job.video,
            audio=job.audio,
            options=world.policy.options,
            run_no=run_no,
            reference_id=_reference(world, job.video, job.audio, run_no),
            state=JobState.QUEUED,
            created_at=world.now,
            changed_at=world.now,
            priority=job.priority,
            must_look_up=job.must_look_up,
        )
    )


def _replace_content(world: World, job: Job, video: Source, audio: Source) -> None:
    """New content before the upload: the job keeps its place in the queue."""
    run_no = _run_of(world, job, video, audio)
    reference = _reference(world, video, audio, run_no)
    world.attempt(job, "queue", "new_content", "a source was replaced before the upload")
    world.checked.discard(job.id)
    world.change(job, video=video, audio=audio, run_no=run_no, reference_id=reference, tries=0, next_at=None)


def _requeue(world: World, job: Job, video: Source, audio: Source, run_no: int) -> None:
    """The row stands for another run from now on; its twins in the queue come along, or the old run were paid anew."""
    reference = _reference(world, video, audio, run_no)
    for twin in world.book.twins(job):
        if twin.state is JobState.QUEUED and (twin.video.sha256, twin.audio.sha256) == (video.sha256, audio.sha256):
            world.change(twin, options=world.policy.options, run_no=run_no, reference_id=reference)
    world.step(
        job,
        Step.AGAIN,
        video=video,
        audio=audio,
        options=world.policy.options,
        run_no=run_no,
        reference_id=reference,
        is_superseded=False,
        must_look_up=False,
        output=None,
        output_sha256=None,
        output_bytes=None,
        **NOT_ASKED,
        **NO_TROUBLE,
    )


def _run_of(world: World, job: Job, video: Source, audio: Source) -> int:
    """The same content anywhere stands for the same paid run: the newest that there is."""
    same = world.book.same_content(video.sha256, audio.sha256)
    return max((other.run_no for other in same if other.id != job.id), default=1)


def _next_run(world: World, job: Job) -> int:
    """One more than any run of this content, unless a pair with the same content was asked for again just now."""
    same = world.book.same_content(job.video.sha256, job.audio.sha256)
    newest = max(same, key=lambda other: other.run_no)
    is_open = newest.state in _OPEN and newest.run_no > job.run_no
    return newest.run_no if is_open else newest.run_no + 1


def _present(world: World, job: Job) -> tuple[Source, Source]:
    """Return the pair's sources as they lie there now, if they are this content still: files are touched and moved."""
    folder = world.folders.get(job.root)
    pair = folder.pairs.get(job.key) if folder else None
    found = folder.sources(pair) if folder and pair else None
    is_same = found and (found[0].sha256, found[1].sha256) == (job.video.sha256, job.audio.sha256)
    return found if found and is_same else (job.video, job.audio)


def _reference(world: World, video: Source, audio: Source, run_no: int) -> str:
    return reference_id(video.sha256, audio.sha256, world.policy.options, run_no)


# -- a pair is gone -----------------------------------------------------------------------------------


def miss(world: World, folder: Folder) -> None:
    """Find the jobs whose pair went while the daemon was down: there was no pair that could have been seen to go."""
    for job in world.book.of(JobState.QUEUED, JobState.FAILED):
        if world.book.newest(job.root, job.key) is not job:
            continue  # only a pair's newest job is lost with it
        if job.root == folder.policy.name and job.key not in folder.pairs and not folder.is_restless(job):
            folder.index.gone[job.key] = None


def _lost(world: World, folder: Folder, key: RelPath) -> None:
    """A source was removed: before the upload the job is cancelled silently; what is paid for is delivered."""
    job = world.book.newest(folder.policy.name, key)
    if job is None:
        return
    is_unsent = job.state is JobState.SUBMITTING and job.finishing_at is None
    if is_unsent or job.state in (JobState.QUEUED, JobState.FAILED):
        cancel(world, job, SOURCE_GONE, "a source was removed")
