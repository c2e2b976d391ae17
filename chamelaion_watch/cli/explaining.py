"""`explain PATH`: why a file is not (yet) taken, or what became of it.

Works with the daemon up or down, and without a ledger. What the running daemon reports comes first; without it this
takes a look of its own and says that it is one. It never writes.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import click

from chamelaion_watch import settings as configuration
from chamelaion_watch.cli import Globals
from chamelaion_watch.cli.dryrun import Eyes, Memory, account_trouble, ledger_if_any, memory_of, pair_all
from chamelaion_watch.cli.looking import job_facts, read_status
from chamelaion_watch.cli.output import NO_INPUT, OK, emit, exits, instant, json_option, leave, utc
from chamelaion_watch.core.advice import advice_for
from chamelaion_watch.core.completeness import Verdict
from chamelaion_watch.core.errors import RootProblem
from chamelaion_watch.core.lifecycle import FINAL, NEEDS_A_PERSON
from chamelaion_watch.core.model import FileState, Job, JobState, Millis, Pair, PairState, RelPath, RootState, Signature
from chamelaion_watch.core.pairing import scope_of
from chamelaion_watch.core.policy import FolderPolicy
from chamelaion_watch.core.text import printable
from chamelaion_watch.edges import mounts
from chamelaion_watch.edges.disk import ignore_lease_signal
from chamelaion_watch.edges.ledger.sqlite import SqliteLedger
from chamelaion_watch.service import folder_policy_of
from chamelaion_watch.settings_model import Settings

MOST_LINES = 20  # of a folder's waiting files
RESTLESS = (FileState.ARRIVING, FileState.BUSY)


@click.command("explain", short_help="Why a file is not (yet) taken, or what became of it.")
@click.argument("path", metavar="PATH")
@json_option
@click.pass_obj
def explain_command(obj: Globals, path: str, as_json: bool) -> None:
    """Explain a file or a folder on the share: its state, what holds it, its pair, its job.

    The first line is the answer. Works with the daemon up or down. Exits with 66 if there is no such file.

    Example: chamelaion-watch explain /srv/share/lipsync/scene01.mp4
    """
    ignore_lease_signal()
    with exits("explain" if as_json else None):
        config = obj.config_path()
        settings = configuration.load(config, os.environ)
        state = configuration.state_folder(settings, config, os.environ)
        with ledger_if_any(state) as ledger:
            told = explain(settings, state, ledger, path)
    if as_json:
        emit("explain", told.facts(), ok=told.code == OK)
    else:
        click.echo("\n".join(told.lines))
    if told.code != OK:
        leave(told.code)


@dataclass(slots=True)
class Told:
    """What is known of a path: lines for people, the answer first, and the same for scripts."""

    path: str
    folder: str | None = None
    state: str | None = None
    rule: str = ""
    lines: list[str] = field(default_factory=list)
    code: int = OK
    next_look_at: Millis | None = None
    pairs: list[dict[str, Any]] = field(default_factory=list)
    candidates: tuple[RelPath, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    is_daemon_up: bool = False

    def answer(self, rule: str, line: str, state: str | None = None) -> None:
        """Add a line; the first one says what the file is."""
        if not self.rule:
            self.rule, self.state = rule, state
        self.lines.append(line)

    def facts(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "folder": self.folder,
            "state": self.state,
            "rule": self.rule,
            "reason": self.lines[0],
            "next_look_at": utc(self.next_look_at),
            "candidates": list(self.candidates),
            "pairs": self.pairs,
            "counts": self.counts,
            "is_daemon_up": self.is_daemon_up,
            "more": self.lines[1:],
        }


def explain(settings: Settings, state: Path, ledger: SqliteLedger | None, path: str) -> Told:
    """Return what is known of a path."""
    full = os.path.abspath(path)  # noqa: PTH100 - resolves `..` without following the last link
    told = Told(full)
    place = _covering(settings, full)
    if place is None:
        folders = ", ".join(printable(folder.path, 1024) for folder in settings.folders)
        what = "is not inside any watched folder" if os.path.lexists(full) else "there is no such file"
        told.answer("no_folder", f"{printable(full, 4096)}: {what}; watched are {folders}")
        told.code = OK if os.path.lexists(full) else NO_INPUT
        return told
    policy, rel = place
    told.folder = policy.name
    _Case(policy, rel, state, ledger, told).explain()
    return told


def _covering(settings: Settings, full: str) -> tuple[FolderPolicy, RelPath] | None:
    """Return the folder that a path lies in, and the path beneath it; links above the folder are seen through."""
    parent, name = os.path.split(full)
    for form in (full, os.path.join(os.path.realpath(parent), name), os.path.realpath(full)):  # noqa: PTH118
        for folder in settings.folders:
            for root in (folder.path, os.path.realpath(folder.path)):
                if form == root or form.startswith(root.rstrip("/") + "/"):
                    return folder_policy_of(folder), form[len(root) :].strip("/")
    return None


class FileTold(NamedTuple):
    """What is known of one file: its state, the rule that holds it, in words, and when it is looked at next."""

    state: str
    rule: str
    reason: str
    next_look_at: Millis | None = None


class _Case:
    """One path in one folder."""

    def __init__(
        self, policy: FolderPolicy, rel: RelPath, state: Path, ledger: SqliteLedger | None, told: Told
    ) -> None:
        self.policy, self.rel, self.ledger, self.told = policy, rel, ledger, told
        self.memory: Memory = memory_of(ledger, policy)
        self.snapshot = read_status(state, ledger)[0] if ledger else {}
        state_told = self.snapshot.get("daemon", {}).get("state", "stopped")
        told.is_daemon_up = state_told != "stopped"
        self.is_told = state_told in ("running", "stopping")  # by this process, not by one before
        files = self.snapshot["files"] if self.is_told else []
        self.unfinished = [file for file in files if file["root"] == policy.name]
        self.eyes = Eyes(policy, is_network=mounts.mount_of(policy.path).is_network)

    def explain(self) -> None:
        told = self.told
        try:
            status = os.lstat(self._full(self.rel))
        except OSError as error:
            words = (error.strerror or "cannot be looked at").lower()
            told.answer("no_such_file", f"{printable(told.path, 4096)}: {words}")
            told.lines += [*self._root_lines(), *self._former_jobs()]
            told.code = NO_INPUT
            return
        if stat.S_ISDIR(status.st_mode):
            self._explain_folder()
        elif never := self.eyes.why_never(self.rel, status.st_mode):
            told.answer(*never)
            told.lines += [f"it is the output of job {job.id}" for job in self.memory.jobs.values() if self._made(job)]
        else:
            self._explain_file()
        if not told.is_daemon_up:
            told.lines.append("the daemon is not running: nothing is taken until `chamelaion-watch run`")

    def _full(self, rel: RelPath) -> str:
        return os.path.join(self.policy.path, rel) if rel else self.policy.path  # noqa: PTH118 - any bytes

    def _made(self, job: Job) -> bool:
        return job.output == self.rel

    # -- the root -------------------------------------------------------------------------------------

    def _root_lines(self) -> list[str]:
        """Return what is to be known of the whole folder: why it is not served, or paused, or holds a backlog."""
        state, reason = self.root
        name = printable(self.policy.name)
        if state != RootState.OK:
            return [f"the folder {name} is {state}: {reason}"]
        return [f"the folder {name}: {reason}"] if reason else []

    @cached_property
    def root(self) -> tuple[str, str]:
        """State and reason of the root: as the daemon says, or as seen from here."""
        if self.is_told:
            found = [root for root in self.snapshot["roots"] if root["name"] == self.policy.name]
            missing = ("not_watched", "the running daemon does not know it yet: reload it (SIGHUP), or restart it")
            return (found[0]["state"], found[0]["reason"]) if found else missing
        report = mounts.inspect_root(self.policy.path, ledger_id=self.memory.ledger_id, known=self.memory.known)
        if report.state is RootState.FOREIGN and not self.memory.ledger_id:
            return str(RootState.OK), ""  # without a ledger, ours cannot be told from another's
        return str(report.state), printable(report.reason, 1024) or self.memory.paused or ""

    # -- one file -------------------------------------------------------------------------------------

    def _explain_file(self) -> None:
        told, root_lines = self.told, self._root_lines()
        if self.root[0] != RootState.OK:
            told.answer("root", root_lines.pop(), self.root[0])
        scope = scope_of(self.rel)
        names = _media_below(self.policy, self.eyes, scope, lambda folder: scope_of(f"{folder}/x") == scope)
        pairing = pair_all([*names], self.policy, self._restless())
        pairs = [pair for pair in pairing.pairs if self.rel in (pair.video, pair.audio)]
        states = self._file_states({self.rel, *(path for pair in pairs for path in (pair.video, pair.audio))})
        state, rule, reason, told.next_look_at = states[self.rel]
        if state != FileState.COMPLETE:
            next_look = f"; looked at next {instant(told.next_look_at)}" if told.next_look_at else ""
            told.answer(rule, f"{state}: {reason}{next_look}", state)
        for pair in pairs:
            self._explain_pair(pair, states)
        for item in pairing.unpaired:
            if item.path == self.rel:
                told.answer(item.code, f"{item.state}: {item.reason}", str(item.state))
                told.candidates = item.candidates
        if not told.rule:
            told.answer("gone", "it was there a moment ago and is not now")
        told.lines += [*root_lines, *self._former_jobs(*(pair.key for pair in pairs))]

    def _file_states(self, paths: set[RelPath]) -> dict[RelPath, FileTold]:
        """Return what is known of files: as the daemon says, as the ledger knows, or else as seen from here."""
        told = {path: known for path in paths if (known := self._known_state(path))}
        try:
            seen = self.eyes.examine(paths - told.keys())
        except RootProblem as problem:
            return dict.fromkeys(paths, FileTold(str(FileState.ARRIVING), "root", problem.message)) | told
        return told | {path: _seen_from_here(verdict) for path, (_, verdict) in seen.items()}

    def _known_state(self, path: RelPath) -> FileTold | None:
        for file in self.unfinished:
            if file["path"] == printable(path, 4096):
                return FileTold(file["state"], file["rule"], file["reason"], file["next_look_at"])
        known = self.memory.files.get(path)
        if known is not None and known[0] == _signature_at(self._full(path)):
            return FileTold(str(FileState.COMPLETE), "complete", "complete")
        return None

    def _restless(self) -> list[RelPath]:
        return [file["path"] for file in self.unfinished if file["state"] in RESTLESS]

    # -- its pairs ------------------------------------------------------------------------------------

    def _explain_pair(self, pair: Pair, states: Mapping[RelPath, FileTold]) -> None:
        told = self.told
        other = pair.audio if pair.video == self.rel else pair.video
        state, _, reason, _ = states[other]
        job, is_held = self.memory.jobs.get(pair.key), pair.key in self.memory.held
        told.pairs.append(
            {
                "name": pair.key,
                "video": pair.video,
                "audio": pair.audio,
                "lang": pair.lang,
                "rule": pair.rule,
                "other": {"path": other, "state": state, "reason": reason},
                "is_held": is_held,
                "job": job_facts(job) if job else None,
            }
        )
        if state != FileState.COMPLETE and (job is None or job.state in FINAL):
            shown = printable(other.rpartition("/")[2])
            told.answer("other_half", f"waits for {shown}: {state}: {reason}", str(PairState.WAITING))
        if job is not None:
            self._explain_job(job)
        elif is_held:
            words = f"was here before the folder was first watched: `resume --folder {self.policy.name}` takes it"
            told.answer("held", f"held: {words}", str(PairState.HELD))
        elif not told.rule:
            words = "no job yet: the daemon has still to see both files quiet for the settle time"
            told.answer("unseen", f"{words}; from here they look complete", str(FileState.ARRIVING))
        if job is None and self.ledger is not None and (trouble := account_trouble(self.ledger)):
            told.lines.append(trouble)
        told.answer("paired", f"paired with {printable(other, 1024)} as {printable(pair.name)} (rule {pair.rule})")

    def _explain_job(self, job: Job) -> None:
        line = f"{job.state}: job {job.id}{self._job_reason(job)}; `chamelaion-watch show {job.id}` tells all"
        self.told.answer("job", line, str(job.state))
        if job.state in NEEDS_A_PERSON:
            self.told.lines.append(f"what to do: {advice_for(job.code or '', job.message or '').what_to_do}")

    def _job_reason(self, job: Job) -> str:
        if job.state is JobState.DONE:
            return f" of {instant(job.changed_at)}, its output is {printable(job.output or '', 1024)}"
        if job.state in NEEDS_A_PERSON or job.state in FINAL:
            return f": {job.code}: {printable(job.message or '')}" if job.code else ""
        open_pairs = self.snapshot["pairs"] if self.is_told else []
        reason = next((pair["reason"] for pair in open_pairs if pair["job"] == job.id), "")
        return f": {reason}" if reason else ""

    def _former_jobs(self, *keys: RelPath) -> list[str]:
        """Return the jobs that were made from a file of this name, but for those of these pairs."""
        jobs = [job for job in self.memory.jobs.values() if self.rel in (job.video.path, job.audio.path)]
        return [f"job {job.id} was made from it: {job.state}" for job in jobs if job.key not in keys]

    # -- a folder -------------------------------------------------------------------------------------

    def _explain_folder(self) -> None:
        told, inside = self.told, f"{self.rel}/" if self.rel else ""
        if never := self.eyes.why_folder_never(self.rel):
            told.answer(*never)
            return
        names = [*_media_below(self.policy, self.eyes, scope_of(f"{inside}x"), lambda _: True)]
        pairing = pair_all(names, self.policy, self._restless())
        pairs = [pair for pair in pairing.pairs if pair.video.startswith(inside) or pair.audio.startswith(inside)]
        waiting = [item for item in pairing.unpaired if item.path.startswith(inside)]
        counts = Counter(map(self._pair_word, pairs)) + Counter(str(item.state) for item in waiting)
        told.counts = {"files": sum(name.startswith(inside) for name in names), "pairs": len(pairs), **counts}
        told.answer("folder", f"a folder: {', '.join(f'{number} {what}' for what, number in told.counts.items())}")
        told.lines += self._root_lines()
        told.lines += [f"{item.state}: {printable(item.path, 1024)}: {item.reason}" for item in waiting[:MOST_LINES]]
        if len(waiting) > MOST_LINES:
            told.lines.append(f"… and {len(waiting) - MOST_LINES} more that wait")

    def _pair_word(self, pair: Pair) -> str:
        if job := self.memory.jobs.get(pair.key):
            return str(job.state)
        return str(PairState.HELD) if pair.key in self.memory.held else "without a job yet"


def _media_below(
    policy: FolderPolicy, eyes: Eyes, start: RelPath, may_enter: Callable[[RelPath], bool]
) -> Iterator[RelPath]:
    """Yield the media that the scan would list, in a folder and those below that may be entered."""
    pending = [start]
    while pending:
        folder = pending.pop()
        try:
            entries = list(os.scandir(os.path.join(policy.path, folder)))  # noqa: PTH118 - any bytes
        except OSError:
            continue  # what cannot be listed has no neighbours
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_file(follow_symlinks=False):
                yield from [path] if eyes.wants(entry.name) else []
            elif eyes.enters(entry) and may_enter(path):
                pending.append(path)


def _seen_from_here(verdict: Verdict) -> FileTold:
    if verdict.state is FileState.COMPLETE:
        return FileTold(str(FileState.COMPLETE), "complete", "looks complete from here")
    return FileTold(str(verdict.state), verdict.code, f"{verdict.reason} (seen from here, not by the daemon)")


def _signature_at(full: str) -> Signature | None:
    try:
        status = os.lstat(full)
    except OSError:
        return None
    return Signature(status.st_size, status.st_mtime_ns)
