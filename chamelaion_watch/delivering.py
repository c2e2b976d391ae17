"""Puts one result in its place: from a copy on a share or from the spool, else from the service's media host.

The output name never shows anything but a whole, checked and durable file; nothing that is there is overwritten.
Where the folder cannot take it, the result is brought into the spool, under the same conditions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chamelaion_watch.core import naming
from chamelaion_watch.core.delivery import SPOOL_LOST
from chamelaion_watch.core.errors import InputProblem, NotFound, OutputProblem, Rejected, Transient
from chamelaion_watch.core.messages import Deliver, Delivered, ResultSpooled, Spooled, SpoolResult
from chamelaion_watch.core.model import Job, RelPath, Request, RootState, Structure
from chamelaion_watch.edges import outputs
from chamelaion_watch.edges.api import Api, Validators
from chamelaion_watch.edges.outputs import Part
from chamelaion_watch.edges.probe import Prober
from chamelaion_watch.edges.spool import Spool
from chamelaion_watch.edges.writing import translated
from chamelaion_watch.rootwork import RootWork

SPOOL_MODE = 0o600
RESERVE_BYTES = 8 * 2**20  # a download begins only where so much is free at least


def deliver(
    action: Deliver,
    roots: Mapping[str, RootWork],
    api: Api,
    prober: Prober,
    spool: Spool,
    on_progress: Callable[[int, int | None], None],
    ask: Callable[[str], Request],
) -> Delivered:
    """Bring the output into its place and say where that is, durably; `ask` says how a request is."""
    roots[action.job.root].require_well()
    if copied := _from_copies(action, roots):
        return copied
    root = roots[action.job.root]
    if action.spooled is not None:
        return _from_spool(action, action.spooled, root, spool)
    target = _Target(root.path, naming.temp_path(action.output), root.policy.mode)
    part, sha256 = _fetched(action.job, target, api, prober, spool, on_progress, ask)
    size = part.size
    return Delivered(action, _published(part, action), sha256, size)


def spool_result(
    action: SpoolResult,
    api: Api,
    prober: Prober,
    spool: Spool,
    on_progress: Callable[[int, int | None], None],
    ask: Callable[[str], Request],
) -> ResultSpooled:
    """Bring a result into the spool, whole, checked and durable; raises OutputProblem if there is no room for it."""
    job = action.job
    target = _Target(spool.folder(), naming.temp_path(f"{job.reference_id}.mp4"), SPOOL_MODE)
    room_bytes = min(action.room_bytes, spool.free_bytes())
    if not room_bytes:
        raise _no_room(room_bytes)
    try:
        part, sha256 = _fetched(job, target, api, prober, spool, on_progress, ask, max_bytes=room_bytes)
    except Rejected as error:
        if error.code == "output_too_large":
            raise _no_room(room_bytes) from error
        raise
    kept = Spooled(sha256, part.size)
    spool.put(job.reference_id, sha256, part)
    return ResultSpooled(action, kept)


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a part grows."""

    folder: str
    temp: RelPath
    mode: int


def _from_copies(action: Deliver, roots: Mapping[str, RootWork]) -> Delivered | None:
    """The same content was rendered before: take the output that lies on a share, if it still does."""
    root = roots[action.job.root]
    for copy in action.copies:
        if copy.root not in roots:
            continue
        try:
            if outputs.find_output(root.path, action.output, copy.sha256, copy.size):
                return Delivered(action, action.output, copy.sha256, copy.size, is_copy=True)
            part = outputs.copy_output(
                (roots[copy.root].path, copy.path),
                root.path,
                naming.temp_path(action.output),
                sha256=copy.sha256,
                mode=root.policy.mode,
            )
        except OutputProblem:
            continue  # of the other share perhaps; if it is ours, the download will say so
        if part is not None:
            output = _published(part, action)
            return Delivered(action, output, copy.sha256, copy.size, is_copy=True)
    return None


def _from_spool(action: Deliver, kept: Spooled, root: RootWork, spool: Spool) -> Delivered:
    """Copy what lies in the spool; it stays there until the ledger knows that it is delivered."""
    part = outputs.copy_output(
        spool.result(action.job.reference_id, kept.sha256),
        root.path,
        naming.temp_path(action.output),
        sha256=kept.sha256,
        mode=root.policy.mode,
    )
    if part is None:
        raise Transient("the result that was kept in the state folder is gone or damaged there", code=SPOOL_LOST)
    return Delivered(action, _published(part, action), kept.sha256, kept.size)


def _fetched(
    job: Job,
    target: _Target,
    api: Api,
    prober: Prober,
    spool: Spool,
    on_progress: Callable[[int, int | None], None],
    ask: Callable[[str], Request],
    max_bytes: int | None = None,
) -> tuple[Part, str]:
    """Return a result as a whole and checked part, with its SHA-256."""
    part, sha256 = _downloaded(job, target, api, spool, on_progress, ask, max_bytes)
    try:
        _check(part, prober)
        return part, sha256 or part.sha256()  # one that was resumed is read again
    except BaseException:
        part.discard()
        raise


def _downloaded(
    job: Job,
    target: _Target,
    api: Api,
    spool: Spool,
    on_progress: Callable[[int, int | None], None],
    ask: Callable[[str], Request],
    max_bytes: int | None,
) -> tuple[Part, str | None]:
    """Fetch the result into a part; what is there when it must stop is kept for the next try.

    Returns its SHA-256 as well, as it was received, if all of it was received now.
    """
    request = ask(job.request_id or job.reference_id)
    if request.reference_id not in (None, job.reference_id):
        raise NotFound(f"request {request.id} is of another pair: looked up anew")
    if not request.output_url:
        now = "" if request.is_completed else f", and now {request.status or 'nothing'}"
        raise Transient(f"the service said completed{now}, but names no output", code="no_output")
    part, known = _begun(job.reference_id, target, spool)

    def on_start(validators: Validators) -> None:
        nonlocal known
        known = validators
        part.require_room((validators.total or 0) - part.size)

    def on_bytes(done: int, total: int | None) -> None:
        on_progress(done, total)
        if total is None:
            part.require_room(RESERVE_BYTES)

    try:
        got = api.fetch(
            request.output_url, part, known=known, max_bytes=max_bytes, on_progress=on_bytes, on_start=on_start
        )
    except (Transient, InputProblem):  # broken, or the daemon stops
        if known is None or not spool.keep(job.reference_id, part, known.etag, known.total):
            part.discard()
        raise
    except BaseException:
        part.discard()
        raise
    return part, got.sha256


def _begun(reference_id: str, target: _Target, spool: Spool) -> tuple[Part, Validators | None]:
    if kept := spool.take(reference_id, target.folder, target.temp, mode=target.mode):
        part, etag, total = kept
        return part, Validators(etag, total)
    return Part.create(target.folder, target.temp, mode=target.mode, expected_bytes=RESERVE_BYTES), None


def _published(part: Part, action: Deliver) -> str:
    try:
        return part.publish(naming.versions(action.output))
    except BaseException:
        part.discard()
        raise


def _check(part: Part, prober: Prober) -> None:
    """A link that ends early without a length, or a page with a video's name, must never get the output's name."""
    structure, detail = part.check()
    if structure is not Structure.WHOLE:
        raise Transient(f"what the service sent is not a whole video: {detail}", code="not_a_video")
    with translated(part.path):  # a quota may speak up at any close (FUSE)
        fd = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            info = prober.probe(fd)
        finally:
            os.close(fd)
    if info.error or not info.has_picture:
        raise Transient(f"what the service sent does not play: {info.error or 'no picture'}", code="not_a_video")


def _no_room(room_bytes: int) -> OutputProblem:
    message = f"the state folder has room for {room_bytes} bytes of results (spool_max, and 1 GiB that stays free)"
    return OutputProblem(message, root_state=RootState.FULL, code="spool_full")
