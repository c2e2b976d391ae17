"""Where a job's output belongs."""

from __future__ import annotations

from datetime import UTC, datetime

from chamelaion_watch.core import naming
from chamelaion_watch.core.folder import Folder
from chamelaion_watch.core.model import Job, Millis, Pair, RelPath
from chamelaion_watch.core.world import World


def output_of(world: World, folder: Folder, job: Job) -> RelPath:
    """Return the first name that a job's output may take; a superseded one is kept aside."""
    pair = Pair(job.video.path, job.audio.path, job.folder, job.stem, job.lang, "")
    output = naming.output_path(folder.policy.output, pair, date=local_date(world, job.created_at))
    return naming.superseded(output) if job.is_superseded else output


def local_date(world: World, at: Millis) -> str:
    """Return YYYY-MM-DD of an instant, as people at this machine count days."""
    local_s = at / 1000 + world.utc_offset_s
    return datetime.fromtimestamp(local_s, tz=UTC).date().isoformat()
