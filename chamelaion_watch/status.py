"""The snapshot: what the daemon knows, as plain data for `status`, `explain`, the live display and later the pages.

Pure reading of the world. Names are shown escaped; nothing secret is in the world, so nothing secret can be here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

from chamelaion_watch.core import gate, spooling
from chamelaion_watch.core.folder import Folder
from chamelaion_watch.core.lifecycle import FINAL, NEEDS_A_PERSON
from chamelaion_watch.core.messages import Deliver, SpoolResult
from chamelaion_watch.core.model import FileState, Job, JobState, Millis, PairState, RelPath, Unpaired
from chamelaion_watch.core.rendering import slowness
from chamelaion_watch.core.text import printable
from chamelaion_watch.core.turns import waiting_reason
from chamelaion_watch.core.world import World
from chamelaion_watch.version import __version__

_Line: TypeAlias = Callable[[], dict[str, Any]]
MOST_PAIRS = 5_000  # shown in one snapshot: a folder with more says how many more
EVERY_MS, AT_LEAST_EVERY_MS = 1_000, 5_000
MOST_OF_TIME = 20  # one of 5,000 open pairs takes 0.1 s: it may have a twentieth of the control thread's time


def snapshot(world: World, *, pid: int, started_at: Millis) -> dict[str, Any]:
    """Return the data of `status --json` but for `jobs`, which the ledger counts."""
    open_pairs = pairs(world)
    lines = [make() for make in islice(open_pairs, MOST_PAIRS)]
    return {
        "daemon": {
            "state": "stopping" if world.is_stopping else "running",
            "pid": pid,
            "since": started_at,
            "version": __version__,
        },
        "account": account(world),
        "roots": [_root(folder) for folder in world.folders.values()],
        "pairs": lines,
        "more_pairs": sum(1 for _ in open_pairs),
        "files": list(islice(_files(world), MOST_PAIRS)),
    }


def pause_ms(took_ms: Millis) -> Millis:
    """Return how long after a snapshot that took so long the next may be taken: one second to five."""
    return min(max(EVERY_MS, took_ms * MOST_OF_TIME), AT_LEAST_EVERY_MS)


def account(world: World) -> dict[str, Any]:
    """Return the account's state; a person's pause is shown before what the service said."""
    limit = gate.in_flight_limit(world.gate, world.policy)
    in_flight = {"in_flight": world.in_flight(), "limit": limit}
    if world.pause is not None:
        return {"state": "paused", "reason": printable(world.pause.reason), "until": world.pause.until_at, **in_flight}
    until = None if world.gate.is_open else world.gate.until_at
    return {"state": str(world.gate.state), "reason": printable(world.gate.reason), "until": until, **in_flight}


def _root(folder: Folder) -> dict[str, Any]:
    state, reason = str(folder.state), folder.reason
    if folder.is_ok and folder.write_trouble is not None:
        state, reason = str(folder.write_trouble[0]), folder.write_trouble[1]
    elif folder.is_ok and folder.is_paused:
        reason = f"paused{': ' + folder.pause_reason if folder.pause_reason else ''}"
    elif folder.is_ok and folder.held:
        name = folder.policy.name
        reason = f"{len(folder.held)} pairs were here before: `chamelaion-watch resume --folder {name}` takes them"
    return {
        "name": folder.policy.name,
        "path": printable(folder.policy.path, 4096),
        "state": state,
        "reason": printable(reason),
        "last_scan_at": folder.last_scan_at,
        "files": folder.file_count,
    }


def pairs(world: World) -> Iterator[_Line]:
    """Yield each pair that is open or needs a person, as what makes its line: of 80,000 only some are shown."""
    for folder in world.folders.values():
        for key, pair in folder.pairs.items():
            is_finished = world.book.is_finished(folder.policy.name, key)
            job = None if is_finished else world.book.newest(folder.policy.name, key)
            is_over = is_finished or (job is not None and job.state in FINAL)
            if (job is None and not is_finished) or (is_over and folder.holding(pair) is not None):
                yield partial(_without_job, world, folder, key)
            elif job is not None and not is_over:
                yield partial(_with_job, world, job)
        for path, item in folder.index.unpaired.items():
            yield partial(_without_pair, world, folder, path, item)
    seen = {(folder.policy.name, key) for folder in world.folders.values() for key in folder.pairs}
    for job in world.book.open():
        if (job.root, job.key) not in seen:
            yield partial(_with_job, world, job)


def _with_job(world: World, job: Job) -> dict[str, Any]:
    reason, progress = "", None
    if job.state is JobState.QUEUED:
        reason = waiting_reason(world, job)[0]
    elif job.state in NEEDS_A_PERSON:
        reason = f"{job.code}: {job.message}"
    elif job.state is JobState.SUBMITTING and job.doubt_at is not None:
        reason = "no clear answer to the upload: the service is asked whether it has it"
    elif job.state is JobState.RENDERED:
        reason = spooling.waiting_reason(world, job) or _before_fetching(world, job)
    elif job.state is JobState.RENDERING:
        reason = slowness(job, world.now) or (job.request_status or "accepted")
    if job.state in (JobState.SUBMITTING, JobState.RENDERED) and job.id in world.progress:
        done, total = world.progress[job.id]
        progress = round(100 * done / total) if total else None
    return {
        "root": job.root,
        "name": printable(job.key, 1024),
        "lang": job.lang,
        "state": str(job.state),
        "reason": printable(reason),
        "since": job.changed_at,
        "job": job.id,
        "progress": progress,
    }


def _before_fetching(world: World, job: Job) -> str:
    """Say what a result that its folder could take waits for; "" while it is being fetched."""
    if world.is_running((Deliver, SpoolResult), job.id):
        return ""
    if job.doubt_at is not None:
        return "the service did not know the request: it is asked again"
    if (may_at := gate.request_at(world.gate, world.now)) is None or may_at > world.now:
        return f"to be fetched; the account is {world.gate.state}: {world.gate.reason}"
    if job.next_at is not None and job.next_at > world.now:
        return f"fetching it failed {job.tries} times and is tried again" if job.tries else "to be fetched in a moment"
    return "next to be fetched"


def _without_job(world: World, folder: Folder, key: str) -> dict[str, Any]:
    pair = folder.pairs[key]
    if key in folder.held:
        why = "was here before the folder was first watched"
        return _line(folder, key, pair.lang, str(PairState.HELD), why, folder.state_since_at)
    file = folder.holding(pair)
    if file is None:
        return _line(folder, key, pair.lang, "queued", "about to be queued", world.now)
    name = printable(file.path.rpartition("/")[2])
    if file.state is FileState.COMPLETE or file.verdict is None:
        return _line(folder, key, pair.lang, str(PairState.ARRIVING), f"{name}: not looked at yet", file.since_at)
    state = FileState.ARRIVING if file.verdict.state is FileState.COMPLETE else file.verdict.state
    reason = "its content is being read" if file.verdict.state is FileState.COMPLETE else file.verdict.reason
    return _line(folder, key, pair.lang, str(state), f"{name}: {reason}", file.since_at)


def _without_pair(world: World, folder: Folder, path: RelPath, item: Unpaired) -> dict[str, Any]:
    file = folder.files[path]
    restless = file.state not in (FileState.COMPLETE, FileState.ARRIVING)
    state = str(file.state) if restless else str(item.state)
    reason = file.verdict.reason if restless and file.verdict else item.reason
    return _line(folder, path, None, state, reason, folder.index.unpaired_since.get(path, world.now))


def _line(folder: Folder, name: str, lang: str | None, state: str, reason: str, since: Millis) -> dict[str, Any]:
    return {
        "root": folder.policy.name,
        "name": printable(name, 1024),
        "lang": lang,
        "state": state,
        "reason": printable(reason),
        "since": since,
        "job": None,
        "progress": None,
    }


def _files(world: World) -> Iterator[dict[str, Any]]:
    """Files that are not complete, for `explain`: what holds each, and when it is looked at next."""
    for folder in world.folders.values():
        for path, file in folder.files.items():
            if file.source is None:
                verdict = file.verdict
                yield {
                    "root": folder.policy.name,
                    "path": printable(path, 4096),
                    "state": str(file.state),
                    "rule": verdict.code if verdict else "unseen",
                    "reason": printable(verdict.reason) if verdict else "not looked at yet",
                    "next_look_at": file.next_look_at or None,
                }


def counts(lines: list[dict[str, Any]]) -> Counter[str]:
    return Counter(str(line["state"]) for line in lines)
