"""`run --dry-run`: what would be submitted now, and why the rest would wait. Never the network; writes nothing.

It looks at each file a few times within a second, so it can say what is certainly not complete, but not that a copy
has ended: the daemon watches a file for its settle time. `explain` uses the same eyes when no daemon runs.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chamelaion_watch.cli.looking import open_ledger
from chamelaion_watch.cli.output import OK, UNAVAILABLE, Grid, instant, say, show
from chamelaion_watch.core import completeness
from chamelaion_watch.core.backlog import BACKLOG
from chamelaion_watch.core.completeness import GateRules, Tracker, Verdict
from chamelaion_watch.core.errors import LedgerUnavailable, RootProblem
from chamelaion_watch.core.ignore import IgnoreRules, partial_copies
from chamelaion_watch.core.lifecycle import NEEDS_A_PERSON
from chamelaion_watch.core.model import (
    FileState,
    Job,
    JobState,
    Look,
    Pair,
    Pairing,
    PairState,
    RelPath,
    RootState,
    Signature,
)
from chamelaion_watch.core.naming import is_ours
from chamelaion_watch.core.pairing import pair_up, scope_of
from chamelaion_watch.core.policy import FolderPolicy
from chamelaion_watch.core.text import printable
from chamelaion_watch.edges import mounts
from chamelaion_watch.edges.clock import SystemClock, monotonic_s
from chamelaion_watch.edges.disk import ScanRules, Tree, ignore_lease_signal
from chamelaion_watch.edges.ledger.sqlite import LedgerMissing, SqliteLedger
from chamelaion_watch.restore import known_root
from chamelaion_watch.service import folder_policy_of
from chamelaion_watch.settings_model import Settings

BETWEEN_LOOKS_S = 0.5  # a copy that is under way has grown by then


# -- the eyes -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Memory:
    """What a ledger knows of one folder; empty without a ledger."""

    ledger_id: str = ""
    known: mounts.KnownRoot | None = None
    jobs: Mapping[RelPath, Job] = field(default_factory=dict)  # the newest of each pair
    files: Mapping[RelPath, tuple[Signature, str]] = field(default_factory=dict)
    held: frozenset[RelPath] = frozenset()
    paused: str | None = None  # until when, and why
    is_new: bool = True

    def is_over(self, pair: Pair, seen: Mapping[RelPath, Signature]) -> bool:
        """Say whether the newest job of the pair is of just this content, as far as sizes and times tell."""
        job = self.jobs.get(pair.key)
        return job is not None and all(
            self.files.get(path) == (seen.get(path), sha256)
            for path, sha256 in ((pair.video, job.video.sha256), (pair.audio, job.audio.sha256))
        )


def memory_of(ledger: SqliteLedger | None, policy: FolderPolicy) -> Memory:
    """Return what the ledger knows of a folder."""
    if ledger is None:
        return Memory()
    row = ledger.roots().get(policy.name)
    files = {path: (signature, sha256) for path, signature, sha256 in ledger.files(policy.name)}
    is_new = row is None or row.path != policy.path or not row.first_seen_at
    known = known_root(ledger, policy.name, policy.path)
    paused = None
    if row is not None and row.is_paused:
        until = f" until {instant(row.paused_until)}" if row.paused_until else ""
        paused = f"the folder is paused{until}" + (f": {printable(row.pause_reason)}" if row.pause_reason else "")
    return Memory(
        ledger_id=ledger.ledger_id,
        known=known,
        jobs={job.key: job for job in ledger.latest_jobs() if job.root == policy.name},
        files=files,
        held=frozenset(ledger.held(policy.name)),
        paused=paused,
        is_new=is_new,
    )


@contextlib.contextmanager
def ledger_if_any(state: Path) -> Iterator[SqliteLedger | None]:
    """Open the ledger if there is one; one that cannot be used is told, and passed over."""
    ledger = None
    try:
        ledger = open_ledger(state)
    except LedgerMissing:
        pass
    except LedgerUnavailable as error:
        say(error.message)
    try:
        yield ledger
    finally:
        if ledger is not None:
            ledger.close()


class Eyes:
    """Looks at one folder as the daemon's scan does, and counts what it leaves alone."""

    def __init__(self, policy: FolderPolicy, *, is_network: bool) -> None:
        self.policy = policy
        self.rules = IgnoreRules(policy.ignore)
        self.others: Counter[str] = Counter()
        self._is_network = is_network
        self._wanted = (*policy.pairing.video, *policy.pairing.audio)
        self.tree = Tree(
            policy.path,
            ScanRules(policy.recursive, self._counts, lambda name: self.rules.why_folder_ignored(name) is None),
            clock=monotonic_s,
            find_partial_copies=partial_copies,
            has_leases=not is_network,
        )

    def wants(self, name: str) -> bool:
        """Say whether a file of this name is media that is not ignored."""
        return self.is_media(name) and self.rules.why_ignored(name) is None

    def enters(self, entry: os.DirEntry[str]) -> bool:
        """Say whether the scan looks into this sub-folder."""
        is_folder = self.policy.recursive and entry.is_dir(follow_symlinks=False)
        return is_folder and self.rules.why_folder_ignored(entry.name) is None

    def is_media(self, name: str) -> bool:
        return name.lower().endswith(self._wanted)

    def why_never(self, path: RelPath, mode: int) -> tuple[str, str] | None:
        """Return rule and words if name, place or kind (`st_mode`) of a file say that it is never taken."""
        folder, _, name = path.rpartition("/")
        if found := self.why_folder_never(folder):
            return found
        if (ours := is_ours(name)) is not None:
            return "ours", f"written by chamelaion-watch itself (*{ours}): never taken for a source"
        if glob := self.rules.why_ignored(name):
            return "ignored", f"ignored: its name matches {self._whose(glob)}"
        if not self.is_media(name):
            known = ", ".join((*self.policy.pairing.video, *self.policy.pairing.audio))
            return "extension", f"not taken: its extension is none of {known} (`video` and `audio` of the folder)"
        if stat.S_ISLNK(mode):
            return "not_regular", "never taken: it is a symbolic link, and links are not followed"
        if not stat.S_ISREG(mode):
            return "not_regular", "never taken: it is a pipe, a socket or a device"
        return None

    def why_folder_never(self, folder: RelPath) -> tuple[str, str] | None:
        """Return rule and words if a folder beneath the root is not looked into."""
        parts = folder.split("/") if folder else []
        if parts and not self.policy.recursive:
            return "not_recursive", "not looked at: the folder is watched without its sub-folders (`recursive: false`)"
        for depth, name in enumerate(parts, start=1):
            shown = printable("/".join(parts[:depth]), 1024)
            if glob := self.rules.why_folder_ignored(name):
                return "ignored_folder", f"not looked at: the folder {shown} matches {self._whose(glob)}"
            if os.path.islink(os.path.join(self.policy.path, *parts[:depth])):  # noqa: PTH114, PTH118 - any bytes
                return "not_regular", f"not looked at: {shown} is a symbolic link, and links are not followed"
        return None

    def examine(self, paths: Collection[RelPath]) -> dict[RelPath, tuple[Signature | None, Verdict]]:
        """Look at files now and a little later; what was quiet in between is believed to stay so for the settle time.

        So a hole or an end of zeros still holds a file, as it does in the daemon for longer. Raises RootProblem.
        """
        gate = self.policy.gate(is_network=self._is_network)
        trackers: dict[RelPath, Tracker | None] = dict.fromkeys(sorted(paths))
        self._look(trackers, gate, 0)
        if trackers:
            time.sleep(BETWEEN_LOOKS_S)
        self._look(trackers, gate, 1)
        found = {}
        for path, tracker in trackers.items():
            assert tracker is not None, "each path has been looked at"
            if not tracker.has_changed:  # the pretended third look sees what the second saw
                tracker = completeness.observe(tracker, tracker.seen, gate.settle_ms, gate)  # noqa: PLW2901
            found[path] = tracker.signature, completeness.verdict(tracker, gate.settle_ms, gate)
        return found

    def _look(self, trackers: dict[RelPath, Tracker | None], gate: GateRules, at: int) -> None:
        """Take one look at all; `at` is the pretended time, in milliseconds since the first."""
        looks = [Look(path, before.signature if before else None) for path, before in trackers.items()]
        for seen in self.tree.look(looks):
            trackers[seen.path] = completeness.observe(trackers[seen.path], seen, at, gate)

    def _whose(self, glob: str) -> str:
        is_own = any(glob.rstrip("/") == own.rstrip("/") for own in self.policy.ignore)
        return f"`{glob}` ({'`ignore` of the folder' if is_own else 'built in'})"

    def _counts(self, name: str) -> bool:
        is_wanted = self.wants(name)
        if not is_wanted:
            self.others["ignored" if self.rules.why_ignored(name) else "not media"] += 1
        return is_wanted


def pair_all(names: Collection[RelPath], policy: FolderPolicy, restless: Collection[RelPath] = ()) -> Pairing:
    """Pair the names of any number of scopes; folders that hold one of `restless` count as not quiet."""
    scopes: dict[RelPath, list[RelPath]] = {}
    for name in names:
        scopes.setdefault(scope_of(name), []).append(name)
    moving = {path.rpartition("/")[0] for path in restless}
    quiet = {path.rpartition("/")[0] for path in names} - moving
    found = [pair_up(members, policy.pairing, quiet_folders=quiet) for _, members in sorted(scopes.items())]
    return Pairing(
        tuple(pair for pairing in found for pair in pairing.pairs),
        tuple(item for pairing in found for item in pairing.unpaired),
    )


# -- the plan -----------------------------------------------------------------------------------------


def dry_run(settings: Settings, state: Path) -> int:
    """Print what a run would do in each folder; return 69 if none can be used, else 0."""
    ignore_lease_signal()
    are_well = []
    with ledger_if_any(state) as ledger:
        for number, folder in enumerate(settings.folders):
            policy = folder_policy_of(folder)
            if number:
                show([""])
            are_well.append(_print_folder(policy, memory_of(ledger, policy)))
        if ledger is not None and (why := account_trouble(ledger)):
            say(why)
    say("nothing was sent and nothing was written; whether a copy has ended is certain only after its settle time")
    return OK if any(are_well) else UNAVAILABLE


def _print_folder(policy: FolderPolicy, memory: Memory) -> bool:
    name = printable(policy.name)
    report = mounts.inspect_root(policy.path, ledger_id=memory.ledger_id, known=memory.known)
    # Without a ledger of ours the one that serves the folder cannot be told from a stranger's.
    is_served = report.state is RootState.FOREIGN and not memory.ledger_id
    if report.state is not RootState.OK and not is_served:
        show([f"{name}: {report.state}: {printable(report.reason, 1024)}"])
        return False
    eyes = Eyes(policy, is_network=bool(report.mount and report.mount.is_network))
    try:
        lines = _lines(eyes, memory)
    except RootProblem as problem:
        show([f"{name}: {problem.root_state}: {printable(problem.message, 1024)}"])
        return False
    show([f"{name}: {printable(policy.path, 1024)}"])
    if is_served:
        show([f"a run would refuse this folder: {printable(report.reason, 1024)}"])
    _print_lines(lines, eyes.others)
    return True


@dataclass(frozen=True, slots=True)
class Line:
    """What would become of one pair, or of a file that has none."""

    what: str
    name: RelPath
    files: str
    why: str


SUBMIT = "would be submitted"
WAS_HERE = "was here before the folder was first watched: `resume --folder` takes it"


def _lines(eyes: Eyes, memory: Memory) -> list[Line]:
    sweep = eyes.tree.sweep()
    eyes.others["not media"] -= sweep.folders - 1  # their names were asked about as well
    eyes.others.update(reason for _, reason in sweep.skipped)
    pairing = pair_all(sweep.appeared, eyes.policy)
    unpaired = [Line(str(item.state), item.path, printable(item.path, 1024), item.reason) for item in pairing.unpaired]
    if memory.is_new and eyes.policy.holds_backlog and len(pairing.pairs) > BACKLOG:
        return [Line(str(PairState.HELD), pair.key, _files_of(pair), WAS_HERE) for pair in pairing.pairs] + unpaired
    states = eyes.examine({path for pair in pairing.pairs for path in (pair.video, pair.audio)})
    return [_pair_line(pair, memory, states) for pair in pairing.pairs] + unpaired


def _pair_line(pair: Pair, memory: Memory, states: Mapping[RelPath, tuple[Signature | None, Verdict]]) -> Line:
    seen = {path: signature for path in (pair.video, pair.audio) if (signature := states[path][0])}
    what, why = _outcome(pair, memory, states, seen)
    size = sum(signature.size for signature in seen.values())
    return Line(what, pair.key, _files_of(pair), f"{why} ({pair.rule}, {_size(size)})" if what == SUBMIT else why)


def _files_of(pair: Pair) -> str:
    return f"{printable(pair.video, 1024)} + {printable(pair.audio, 1024)}"


def _outcome(
    pair: Pair,
    memory: Memory,
    states: Mapping[RelPath, tuple[Signature | None, Verdict]],
    seen: Mapping[RelPath, Signature],
) -> tuple[str, str]:
    job = memory.jobs.get(pair.key)
    if job is not None and memory.is_over(pair, seen):
        return _of_job(job)
    for path in (pair.video, pair.audio):
        verdict = states[path][1]
        if verdict.state is not FileState.COMPLETE:
            return str(verdict.state), f"{printable(path.rpartition('/')[2])}: {verdict.reason}"
    if pair.key in memory.held:
        return str(PairState.HELD), WAS_HERE
    if memory.paused:
        return "paused", memory.paused
    return SUBMIT, "new content" if job is not None else "looks complete"


def _of_job(job: Job) -> tuple[str, str]:
    if job.state is JobState.DONE:
        return "done already", f"job {job.id}: {printable(job.output or '', 1024)}"
    if job.state in NEEDS_A_PERSON:
        return str(job.state), f"job {job.id}: {job.code}: {printable(job.message or '')}"
    return str(job.state), f"job {job.id}"


def _print_lines(lines: Sequence[Line], others: Mapping[str, int]) -> None:
    counts = Counter(line.what for line in lines) + Counter(others)  # drops what is not above 0
    if lines:
        ordered = sorted(lines, key=lambda line: (line.what != SUBMIT, line.what, line.name))
        rows = [(line.what, printable(line.name, 1024), line.files, line.why) for line in ordered]
        show([Grid(("what", "name", "files", "why"), rows)])
    show([", ".join(f"{number} {what}" for what, number in counts.items()) or "empty"])


def account_trouble(ledger: SqliteLedger) -> str | None:
    """Say why nothing would be submitted from any folder, or None."""
    row = ledger.gate() or {}
    if row.get("pause"):
        reason, until, _ = row["pause"]
        when = f" until {instant(until)}" if until else ""
        return f"everything is paused{when}{': ' + printable(reason) if reason else ''}: nothing would be submitted"
    state, until = row.get("gate", {}).get("state", "open"), row.get("gate", {}).get("until_at", 0)
    if state == "open" or until <= SystemClock().now():
        return None
    return f"the account is {state} until {instant(until)}: {printable(row['gate'].get('reason', ''))}"


def _size(count: int) -> str:
    from rich.filesize import decimal

    return decimal(count)
