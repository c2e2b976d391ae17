"""Shared builders of worlds, jobs and events for the tests of the core: plain values with sensible defaults."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from chamelaion_watch.core import intake, naming, planner, reactions
from chamelaion_watch.core.completeness import MIN_EQUAL_LOOKS
from chamelaion_watch.core.folder import Folder
from chamelaion_watch.core.messages import Action, Event, Probe, Probed, RootFacts, Scan, Scanned, Submit, Submitted
from chamelaion_watch.core.model import (
    Job,
    JobState,
    Look,
    MediaInfo,
    Millis,
    Observation,
    Options,
    RelPath,
    RootState,
    Signature,
    Source,
    Structure,
)
from chamelaion_watch.core.pairing import PairingRules
from chamelaion_watch.core.policy import FolderPolicy, Policy
from chamelaion_watch.core.world import World

NOW: Millis = 1_700_000_000_000
FINE = RootFacts(RootState.OK, has_events=True, mount_source="sim", mount_type="simfs", has_sentinel=True)
VIDEO_INFO = MediaInfo(10.0, has_picture=True, has_sound=True)
AUDIO_INFO = MediaInfo(10.0, has_sound=True)
SILENT = MediaInfo(10.0)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def source(path: RelPath, content: str | None = None, *, size: int = 5_000, mtime_ns: int = 1) -> Source:
    return Source(path, Signature(size, mtime_ns), sha(content or path))


def folder_policy(name: str = "a", **changes: Any) -> FolderPolicy:
    policy = FolderPolicy(
        name=name,
        path=f"/{name}",
        output="{dir}/{name}.lipsync.mp4",
        recursive=True,
        pairing=PairingRules((".mp4",), (".wav", ".mp3")),
    )
    return replace(policy, **changes)


def job(job_id: int = 1, key: str = "s1", **changes: Any) -> Job:
    """A job as it stands in a ledger; its reference follows from its content unless given."""
    video, audio = source(f"{key}.mp4"), source(f"{key}.wav")
    made = Job(
        id=job_id,
        root="a",
        key=key,
        name=key,
        folder="",
        stem=key,
        lang=None,
        video=video,
        audio=audio,
        options=Options(),
        run_no=1,
        reference_id="",
        state=JobState.QUEUED,
        created_at=NOW,
        changed_at=NOW,
    )
    made = replace(made, **changes)
    reference = naming.reference_id(made.video.sha256, made.audio.sha256, made.options, made.run_no)
    return made if made.reference_id else replace(made, reference_id=reference)


def world(*jobs: Job, policy: Policy | None = None, **folder_changes: Any) -> World:
    """A world with one healthy folder `a` in which the pairs of these jobs lie, complete and probed."""
    made = World(policy or Policy(), now=NOW)
    made.folders["a"] = folder_with(*jobs, **folder_changes)
    for one in jobs:
        made.book.put(one)
        made.checked.add(one.id)
    intake.take_in(made)
    return made


def folder_with(*jobs: Job, **changes: Any) -> Folder:
    """A healthy folder in which the sources of these jobs lie, known to the ledger as they are."""
    sources = {one.path: one for job_ in jobs for one in (job_.video, job_.audio)}
    known = {path: (one.signature, one.sha256, True) for path, one in sources.items()}
    made = Folder(folder_policy(**changes), known=known)
    made.scanned(sweep(appeared=tuple(sorted(sources))), NOW)
    made.scanned(looked(*((path, one.signature) for path, one in sources.items())), NOW)
    return made


def sweep(
    *,
    appeared: tuple[RelPath, ...] = (),
    vanished: tuple[RelPath, ...] = (),
    missing_notes: tuple[RelPath, ...] = (),
    facts: RootFacts = FINE,
    is_complete: bool = True,
    root: str = "a",
    observations: tuple[Observation, ...] = (),
) -> Scanned:
    return Scanned(
        Scan(root, is_sweep=True),
        facts,
        appeared=appeared,
        vanished=vanished,
        observations=observations,
        missing_notes=missing_notes,
        is_complete=is_complete,
    )


def looked(*seen: tuple[RelPath, Signature], deep: bool = False, root: str = "a") -> Scanned:
    observations = tuple(observed(path, signature, deep=deep) for path, signature in seen)
    looks = tuple(Look(path, signature if deep else None) for path, signature in seen)
    return Scanned(Scan(root, is_sweep=False, looks=looks), FINE, observations=observations, is_complete=False)


def observed(path: RelPath, signature: Signature, *, deep: bool = True, **changes: Any) -> Observation:
    return replace(Observation(path, signature, deep=deep, structure=Structure.WHOLE), **changes)


def settle(folder: Folder, path: RelPath, signature: Signature, now: Millis) -> Millis:
    """Look at a file until it is quiet for long enough; returns when that is."""
    folder.scanned(looked((path, signature)), now)
    for _ in range(MIN_EQUAL_LOOKS + 1):
        now += 5_000
        folder.scanned(looked((path, signature), deep=True), now)
    return now


def tick(made: World, *events: Event, at: Millis | None = None) -> list[Action]:
    """Apply and plan as the daemon does, with ids for new jobs and without a ledger; returns what would start."""
    made.now = made.now if at is None else at
    for event in events:
        reactions.apply(made, event)
    intake.take_in(made)
    for new in made.new_jobs:
        made.book.put(replace(new, id=max([*made.book.jobs, *(one.id for one in made.book.shelf)], default=0) + 1))
    made.new_jobs.clear()
    actions = planner.plan(made).actions
    for action in actions:
        made.running[action] = made.now
    return actions


def of(kind: type[Action], actions: list[Action]) -> list[Any]:
    return [action for action in actions if isinstance(action, kind)]


def probed(action: Probe, *, audio: MediaInfo = AUDIO_INFO) -> Probed:
    return Probed(action, VIDEO_INFO, audio)


def accepted(action: Submit, request_id: str = "req-1") -> Submitted:
    return Submitted(action, request_id)
