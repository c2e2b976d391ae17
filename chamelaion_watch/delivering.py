"""Puts one result in its place: from a copy that lies on a share already, else from the service's media host.

The output name never shows anything but a whole, checked and durable file; nothing that is there is overwritten.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from chamelaion_watch.core import naming
from chamelaion_watch.core.errors import InputProblem, OutputProblem, Transient
from chamelaion_watch.core.messages import Deliver, Delivered
from chamelaion_watch.core.model import RelPath, Structure
from chamelaion_watch.edges import outputs
from chamelaion_watch.edges.api import Api, Validators
from chamelaion_watch.edges.outputs import Part
from chamelaion_watch.edges.probe import Prober
from chamelaion_watch.edges.spool import Spool
from chamelaion_watch.rootwork import RootWork

RESERVE_BYTES = 8 * 2**20  # a download begins only where so much is free at least


def deliver(
    action: Deliver,
    roots: Mapping[str, RootWork],
    api: Api,
    prober: Prober,
    spool: Spool,
    on_progress: Callable[[int, int | None], None],
) -> Delivered:
    """Bring the output into its place and say where that is, durably."""
    roots[action.job.root].require_well()
    if copied := _from_copies(action, roots):
        return copied
    part = _downloaded(action, roots[action.job.root], api, spool, on_progress)
    try:
        _check(part, prober)
        sha256, size = part.sha256(), part.size
    except BaseException:
        part.discard()
        raise
    return Delivered(action, _published(part, action), sha256, size)


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


def _downloaded(
    action: Deliver, root: RootWork, api: Api, spool: Spool, on_progress: Callable[[int, int | None], None]
) -> Part:
    """Fetch the result into a part; what is there when it must stop is kept for the next try."""
    job = action.job
    request = api.find(job.request_id or job.reference_id)
    if not request.output_url:
        raise Transient("the service says completed, but names no output", code="no_output")
    temp = naming.temp_path(action.output)
    part, known = _begun(job.reference_id, root, temp, spool)

    def on_start(validators: Validators) -> None:
        nonlocal known
        known = validators

    try:
        api.fetch(request.output_url, part, known=known, on_progress=on_progress, on_start=on_start)
    except (Transient, InputProblem):  # broken, or the daemon stops
        if known is None or not spool.keep(job.reference_id, part, known.etag, known.total):
            part.discard()
        raise
    except BaseException:
        part.discard()
        raise
    return part


def _begun(reference_id: str, root: RootWork, temp: RelPath, spool: Spool) -> tuple[Part, Validators | None]:
    if kept := spool.take(reference_id, root.path, temp, mode=root.policy.mode):
        part, etag, total = kept
        return part, Validators(etag, total)
    return Part.create(root.path, temp, mode=root.policy.mode, expected_bytes=RESERVE_BYTES), None


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
    fd = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        info = prober.probe(fd)
    finally:
        os.close(fd)
    if info.error or not info.has_picture:
        raise Transient(f"what the service sent does not play: {info.error or 'no picture'}", code="not_a_video")
