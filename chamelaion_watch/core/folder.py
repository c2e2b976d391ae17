"""One watched root as the daemon sees it: its health, its files on their way through the gate, its pairs.

Pure and in memory: scans report what they saw, and this says what to look at next, what to hash, which pairs are
ready and which are gone. Nothing here counts as deleted while the root is not well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass, field

from chamelaion_watch.core import backlog, completeness, looking, sleeping, unread
from chamelaion_watch.core.agenda import Agenda
from chamelaion_watch.core.asleep import Asleep
from chamelaion_watch.core.completeness import GateRules
from chamelaion_watch.core.file import File
from chamelaion_watch.core.known import Memory
from chamelaion_watch.core.messages import Hash, RootFacts, Scan, Scanned
from chamelaion_watch.core.model import (
    FileState,
    Job,
    Millis,
    Observation,
    Pair,
    RelPath,
    RootState,
    Signature,
    Source,
    Trouble,
)
from chamelaion_watch.core.naming import is_temp
from chamelaion_watch.core.pairindex import PairIndex
from chamelaion_watch.core.pairing import scope_of
from chamelaion_watch.core.policy import FolderPolicy
from chamelaion_watch.core.reading import Reading
from chamelaion_watch.core.rota import Rota

CONFIRM_MS = 2_000  # a vanished name is looked for once more after this, then it is gone
HINT_PAUSE_MS = 250  # sweeps on hints are at least so far apart
UNWELL_MS = 10_000  # a root that is not well is inspected so often


@dataclass(slots=True)
class Folder:
    """A root; `known` is what the ledger remembers of its files (signature, SHA-256, is its job over?).

    A remembered file whose job is over needs no second gate if its signature still holds; one that is still to be
    sent goes through the gate again in every process (paperless-ngx strands half-copied files by not doing so).
    """

    policy: FolderPolicy
    known: MutableMapping[RelPath, Memory] = field(default_factory=dict)
    held: set[RelPath] = field(default_factory=set)
    is_new: bool = False  # this ledger has never seen the root
    state: RootState = RootState.MISSING
    reason: str = "not looked at yet"
    state_since_at: Millis = 0
    facts: RootFacts | None = None
    write_trouble: tuple[RootState, str] | None = None  # the last write failed: `full`, `read_only`, …
    write_again_at: Millis = 0
    is_paused: bool = False
    paused_until: Millis | None = None
    pause_reason: str = ""
    files: dict[RelPath, File] = field(default_factory=dict)
    temps: set[RelPath] = field(default_factory=set)  # of ours, left by a process that died
    skipped: dict[RelPath, str] = field(default_factory=dict)
    last_scan_at: Millis | None = None
    last_took_ms: int = 0
    is_scanned: bool = False  # one complete sweep has been seen
    # -- what is to be told on: drained by `intake` and the daemon
    identified: list[Source] = field(default_factory=list)  # to be remembered
    forgotten: list[RelPath] = field(default_factory=list)
    # -- inside
    index: PairIndex = field(init=False)
    agenda: Agenda = field(default_factory=Agenda)  # of files that are not complete
    reading: Reading = field(default_factory=Reading)
    vanishing: dict[RelPath, int] = field(default_factory=dict)
    _missing_notes: dict[RelPath, int] = field(default_factory=dict)
    _sweep_at: Millis = 0
    rota: Rota = field(default_factory=Rota)
    is_hinted: bool = False
    # -- what is done with, packed; `is_over(key, video sha256, audio sha256)` says whether a pair asks for nothing
    asleep: Asleep = field(default_factory=Asleep)
    is_over: Callable[[RelPath, str, str], bool] = lambda *_: False
    drowsy: dict[RelPath, None] = field(default_factory=dict)  # scopes that may be done with
    sleep_at: Millis = 0

    def __post_init__(self) -> None:
        self.index = PairIndex(self.policy)

    @property
    def pairs(self) -> dict[RelPath, Pair]:
        return self.index.pairs

    @property
    def file_count(self) -> int:
        return len(self.files) + self.asleep.files

    @property
    def is_ok(self) -> bool:
        return self.state is RootState.OK

    @property
    def is_network(self) -> bool:
        return self.facts is not None and self.facts.is_network

    @property
    def may_write(self) -> bool:
        return self.is_ok and self.write_trouble is None

    # -- what a scan reports --------------------------------------------------------------------------

    def scanned(self, event: Scanned, now: Millis) -> None:
        """Take in what a scan saw; a root that is not well is frozen as it was."""
        was_away = self.is_scanned and not self.is_ok
        self._set_health(event.facts, now)
        if event.action.is_sweep:
            self._sweep_at = now + (self._rescan_ms(event) if self.is_ok else UNWELL_MS)
        if not self.is_ok:
            return
        if was_away:  # what was rewritten meanwhile touched no folder (simulated life 46468)
            self._sweep_at = now
        self.last_scan_at, self.last_took_ms = now, event.took_ms
        self.asleep.verified({seen.path for seen in event.observations})
        for scope, paths in sleeping.not_put_to_sleep(self, event.appeared):
            self._appear(scope, paths, now, was_away=was_away)
        for path in event.vanished:
            self.vanishing.setdefault(path, 0)
        self.skipped.update(event.skipped)
        for seen in event.observations:
            self._observe(seen, now)
        if event.action.is_sweep:
            self._count_missing(event, now, was_away=was_away)
        self._pair_up(now)
        if event.action.is_sweep and event.is_complete and not self.is_scanned:
            self.is_scanned = True
            backlog.hold(self)

    def hung(self, now: Millis) -> None:
        """No answer in a minute: frozen until the scan comes back."""
        self._set_health(RootFacts(RootState.HUNG, "the folder has not answered for 60 s; its server may be down"), now)

    def scanned_unwell(self, facts: RootFacts, now: Millis) -> None:
        """Some other work found the root unwell: freeze it, and inspect it soon."""
        self._set_health(facts, now)
        self._sweep_at = now + UNWELL_MS

    def hinted(self, now: Millis) -> None:
        """Look sooner, but not at each of a thousand hints."""
        self.is_hinted = True
        self._sweep_at = min(self._sweep_at, max(now, (self.last_scan_at or 0) + HINT_PAUSE_MS))

    def hashed(self, path: RelPath, signature: Signature, sha256: str, now: Millis) -> None:
        """Keep a content identity, if the file is still as it was hashed."""
        self.reading.ended(path)
        file = self.files.get(path)
        if file is None or file.tracker is None or file.tracker.signature != signature:
            return
        file.content, file.is_known = (signature, sha256), False
        self._settle(file, now)
        self._plan(file)

    def recheck(self, path: RelPath, now: Millis) -> None:
        """A file turned out to have changed, vanished or be unreadable: it goes through the gate again."""
        self.reading.ended(path)
        self.wake(path, now)
        if file := self.files.get(path):
            self._reopen(file, now)
            file.tracker, file.verdict = None, None
            self._plan(file)
        self._sweep_at = min(self._sweep_at, now)

    def unreadable(self, path: RelPath, signature: Signature, why: str, now: Millis) -> None:
        """The content of a file could not be read to its end: it is tried again, each time after a longer wait."""
        self.recheck(path, now)
        if file := self.files.get(path):
            file.unread = unread.failed(file.unread, signature, why, now)

    # -- what is to be done ---------------------------------------------------------------------------

    def scan_at(self, now: Millis) -> Millis:
        """When the next scan is due."""
        if not self.is_ok:
            return self._sweep_at
        times = [self._sweep_at, self.agenda.first_at(), self.index.quiet_at(self._gate.settle_ms, now)]
        if self.rota.is_pending or not self.asleep.is_verified:
            times.append((self.last_scan_at or 0) + HINT_PAUSE_MS)
        return min(at for at in times if at is not None)

    def scan(self, now: Millis, notes: Iterable[RelPath], watched: Iterable[RelPath]) -> Scan:
        """Return the scan that is due: names if their time has come, and the files whose next look has.

        `watched` are files of open jobs, which each sweep looks at again.
        """
        is_sweep = now >= self._sweep_at or not self.is_ok
        if not self.is_ok:
            return Scan(self.policy.name, is_sweep=True)
        looks = looking.looks(self, now, watched, is_sweep=is_sweep)
        return Scan(self.policy.name, is_sweep, looks, tuple(notes) if is_sweep else ())

    def hash_wanted(self) -> Hash | None:
        """Return the next file to identify, begun at the first quiet look."""
        found = self.reading.next() if self.is_ok else None
        return Hash(self.policy.name, *found) if found else None

    def has(self, job: Job) -> bool:
        """Say whether both sources of a job are complete, a pair, and still what they were when it was made."""
        pair = self.pairs.get(job.key)
        return pair is not None and self.sources(pair) == (job.video, job.audio)

    def is_restless(self, job: Job) -> bool:
        """Say whether a source of a job is there and not complete: its pair may come back."""
        files = (self.files.get(source.path) for source in (job.video, job.audio))
        return any(file is not None and file.source is None for file in files)

    def sources(self, pair: Pair) -> tuple[Source, Source] | None:
        """Return both sources of a pair once they are complete and identified."""
        video, audio = self.files.get(pair.video), self.files.get(pair.audio)
        if video is None or audio is None or video.source is None or audio.source is None:
            return None
        return video.source, audio.source

    def reported_missing(self, path: RelPath) -> bool:
        """Say whether a note was missing in two healthy sweeps in a row."""
        return self._missing_notes.get(path, 0) >= 2  # noqa: PLR2004 - "two scans", dropfolder.md §7

    def offer(self, key: RelPath, now: Millis) -> None:
        """Have a pair compared with its job once more."""
        self.wake(key, now)
        self.index.ready[key] = None

    def drowse(self, key: RelPath) -> None:
        """A pair is finished: perhaps all around it is."""
        self.drowsy[scope_of(key)] = None

    def wake(self, path: RelPath, now: Millis) -> None:
        """Have the file or the pair, and what belongs to its scope, at hand."""
        self._wake(scope_of(path), now)

    def forget_missing(self, paths: Iterable[RelPath]) -> None:
        for path in paths:
            self._missing_notes.pop(path, None)

    def holding(self, pair: Pair) -> File | None:
        """Return the file that keeps a pair from being ready, the video first."""
        for path in (pair.video, pair.audio):
            file = self.files.get(path)
            if file is not None and file.source is None:
                return file
        return None

    # -- inside ---------------------------------------------------------------------------------------

    def _set_health(self, facts: RootFacts, now: Millis) -> None:
        self.state_since_at = self.state_since_at if self.facts and facts.state is self.state else now
        self.state, self.reason, self.facts = facts.state, facts.reason, facts

    @property
    def _gate(self) -> GateRules:
        return self.policy.gate(is_network=self.is_network)

    def _rescan_ms(self, event: Scanned) -> int:
        """Network shares are stretched to 4 times what a scan takes; a name that vanished is confirmed soon."""
        rescan = max(self.policy.rescan(has_events=event.facts.has_events), 4 * event.took_ms)
        is_news = any(path not in self._missing_notes for path in event.missing_notes)
        return min(rescan, CONFIRM_MS) if self.vanishing or event.vanished or is_news else rescan

    def _wake(self, scope: RelPath, now: Millis) -> None:
        if scope in self.asleep:
            sleeping.wake(self, scope, now)
            self._pair_up(now)

    def _pair_up(self, now: Millis) -> None:
        self.index.update(lambda path: self.files[path].state, now, self._gate.settle_ms)

    def _appear(self, scope: RelPath, paths: Iterable[RelPath], now: Millis, *, was_away: bool) -> None:
        """Take in names that are new in a scope, or were thought to be gone."""
        asleep, media = self.asleep.sources(scope), list[RelPath]()
        for path in paths:
            self.vanishing.pop(path, None)
            if is_temp(path.rpartition("/")[2]):
                if was_away or not self.is_scanned:  # all others are our own, at work: of notes, too
                    self.temps.add(path)
            elif path in self.files or path in asleep:
                self.drowsy[scope] = None
            else:
                media.append(path)
        if media:
            self._wake(scope, now)
            self._add(scope, media, now)

    def _add(self, scope: RelPath, paths: Iterable[RelPath], now: Millis) -> None:
        for path in paths:
            file = self.files[path] = File(path, since_at=now)
            if known := self.known.pop(path, None):
                file.content, file.is_known = known[:2], known[2]
            self.agenda.put(path, file.next_look_at)
        self.index.add(scope, paths, now)

    def _observe(self, seen: Observation, now: Millis) -> None:
        slept = self.asleep.sources(scope_of(seen.path)).get(seen.path)
        if slept is not None and seen.trouble is None and seen.signature != slept.signature:
            self.wake(seen.path, now)
        file = self.files.get(seen.path)
        if file is None:
            return
        if file.source is not None:
            if seen.signature == file.source.signature or seen.trouble is not None:
                return
            self._reopen(file, now)
        file.tracker = completeness.observe(file.tracker, seen, now, self._gate)
        if seen.trouble is Trouble.IO:
            file.unread = unread.failed(file.unread, None, seen.detail, now)
        before = file.state
        verdict = completeness.verdict(file.tracker, now, self._gate)
        read = file.content[0] if file.content else None
        file.verdict, file.unread = unread.judged(file.unread, verdict, file.tracker, read, now)
        if file.verdict.state is not before:
            file.since_at = now
            self.index.touch(file.path)
        self._settle(file, now)
        self._plan(file)

    def _plan(self, file: File) -> None:
        """Say when a file is looked at next, and whether it is to be read: after each change of it."""
        if file.source is None:
            self.agenda.put(file.path, file.next_look_at)
        else:
            self.agenda.drop(file.path)
        self.reading.want(file.path, file.unread_signature)

    def _settle(self, file: File, now: Millis) -> None:
        """A file that is complete and identified is a source; one that a ledger knows as it is needs no second gate."""
        signature = file.tracker.signature if file.tracker else None
        if file.source or file.content is None or signature is None or file.content[0] != signature:
            return
        is_complete = file.verdict is not None and file.verdict.state is FileState.COMPLETE
        if not is_complete and not file.is_known:
            return
        file.source = Source(file.path, signature, file.content[1])
        file.since_at = now
        if not file.is_known:
            self.identified.append(file.source)
        file.is_known = True
        self.index.touch(file.path)
        self.drowse(file.path)

    def _reopen(self, file: File, now: Millis) -> None:
        file.source, file.since_at = None, now
        file.is_known = False
        self.index.touch(file.path)

    def _count_missing(self, event: Scanned, now: Millis, *, was_away: bool) -> None:
        """A name is gone after two complete healthy sweeps; so is a note that a person deleted."""
        missing = set(event.missing_notes)
        self._missing_notes = {path: self._missing_notes.get(path, 0) + 1 for path in missing}
        if was_away or not event.is_complete:  # the next sweep follows at once, and two that count are 2 s apart
            return
        for path in list(self.vanishing):
            self.vanishing[path] += 1
            if self.vanishing[path] >= 2:  # noqa: PLR2004 - two scans
                del self.vanishing[path]
                self._remove(path, now)

    def _remove(self, path: RelPath, now: Millis) -> None:
        self.temps.discard(path)
        self.skipped.pop(path, None)
        if path in self.asleep.sources(scope_of(path)):
            self.wake(path, now)
        if self.files.pop(path, None) is None:
            return
        self.drowse(path)
        self.agenda.drop(path)
        self.reading.want(path, None)
        self.index.remove(path)
        self.forgotten.append(path)
