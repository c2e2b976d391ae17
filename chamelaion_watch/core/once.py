"""`run --once`: which pairs belong to the run, and when it is over, with which exit code.

The set is fixed by the first complete scan, and one look at what the ledger knows as done: it may have been overwritten
since. Pure: it reads the world after each tick.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chamelaion_watch.core import gate
from chamelaion_watch.core.lifecycle import FINAL, NEEDS_A_PERSON
from chamelaion_watch.core.messages import RemoveFiles, SpoolResult, Submit, WriteNote
from chamelaion_watch.core.model import AccountState, FileState, Job, JobState, Millis, RelPath, RootState
from chamelaion_watch.core.world import World

EXIT_OK, EXIT_FAILED, EXIT_UNAVAILABLE, EXIT_HELD, EXIT_TEMPORARY, EXIT_UNAUTHORIZED = 0, 1, 69, 73, 75, 77
ARRIVING_MS = 600_000  # files of the set that are still arriving are awaited so long
QUOTA_PATIENCE_MS, NETWORK_PATIENCE_MS = 0, 300_000
PAID_FOR = (JobState.SUBMITTING, JobState.RENDERING, JobState.RENDERED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the run ended: the exit code, and why in words."""

    code: int
    reason: str


@dataclass(slots=True)
class Once:
    """One run; `patience_ms` None means the defaults: none for a quota, 5 min for the network."""

    patience_ms: int | None = None
    started_at: Millis = 0
    targets: set[tuple[str, RelPath]] | None = None
    first_failed: set[int] = field(default_factory=set)  # failed before this run: not its fault

    def begin(self, world: World) -> None:
        """Remember what was so before; nothing may be submitted until the set is fixed."""
        if not self.started_at:
            self.started_at = world.now
            self.first_failed = {job.id for job in world.book.of(*NEEDS_A_PERSON)}
            world.gate = gate.urged(world.gate, world.now)  # whoever starts a run wants to know whether it goes now
        world.only = self.targets if self.targets is not None else set()

    def ended(self, world: World) -> Outcome | None:
        """Say how the run ended, or None while it goes on."""
        folders = world.folders.values()
        if any(folder.facts is None or (folder.is_ok and not folder.is_scanned) for folder in folders):
            return None
        if not any(folder.is_ok for folder in folders):
            reasons = "; ".join(f"{folder.policy.name}: {folder.state}: {folder.reason}" for folder in folders)
            are_others = all(folder.state is RootState.FOREIGN for folder in folders)
            return Outcome(EXIT_HELD if are_others else EXIT_UNAVAILABLE, f"no folder can be used: {reasons}")
        if self.targets is None:
            if all(folder.asleep.is_verified for folder in folders if folder.is_ok):
                self._fix(world)
            return None
        pending = self._pending(world)
        if early := self._given_up(world, pending):
            return early
        if pending or world.is_notes_due or any(isinstance(a, WriteNote | RemoveFiles) for a in world.running):
            return None
        failed = [job for job in world.book.of(*NEEDS_A_PERSON) if job.id not in self.first_failed]
        if failed:
            return Outcome(EXIT_FAILED, f"{len(failed)} failed")
        return Outcome(EXIT_OK, "everything that could be done is done")

    def _fix(self, world: World) -> None:
        self.targets = {
            (name, key) for name, folder in world.folders.items() for key in folder.index.keys_at_rest() - folder.held
        }
        self.targets |= {(job.root, job.key) for job in world.book.of(*PAID_FOR)}
        world.only = self.targets
        for folder in world.folders.values():
            folder.index.ready.update(dict.fromkeys(folder.pairs))

    def _pending(self, world: World) -> list[tuple[str, RelPath, Job | None]]:
        pending = []
        for root, key in sorted(self.targets or ()):
            job = world.book.newest(root, key)
            if self._is_pending(world, root, key, job):
                pending.append((root, key, job))
        return pending

    def _is_pending(self, world: World, root: str, key: RelPath, job: Job | None) -> bool:
        if job is not None and job.state not in FINAL and job.state not in NEEDS_A_PERSON:
            return True
        folder = world.folders.get(root)
        pair = folder.pairs.get(key) if folder else None
        is_awaited = world.now - self.started_at < ARRIVING_MS
        if folder is None or pair is None:
            is_to_be = job is None and folder is not None and folder.is_ok and key in folder.index.keys_at_rest()
            return is_awaited and is_to_be  # a job folder makes its pair when it is quiet
        if (file := folder.holding(pair)) is None:
            return job is None
        if job is not None and job.state in NEEDS_A_PERSON:
            return False
        is_restless = file.state in (FileState.ARRIVING, FileState.BUSY, FileState.COMPLETE)
        return is_restless and is_awaited

    def _given_up(self, world: World, pending: list[tuple[str, RelPath, Job | None]]) -> Outcome | None:
        """Temporary trouble that lasts longer than the patience: what is paid for is finished first."""
        if not pending:
            return None
        if world.pause is not None:
            return Outcome(
                EXIT_TEMPORARY, f"paused by a person{': ' + world.pause.reason if world.pause.reason else ''}"
            )
        closed, lasted = world.gate, world.now - world.gate.since_at
        if world.now >= closed.until_at and not closed.is_open:
            return None  # its probe goes now
        if closed.state is AccountState.UNAUTHORIZED:
            return Outcome(EXIT_UNAUTHORIZED, f"the key is not accepted: {closed.reason}")
        if closed.state is AccountState.UNREACHABLE and lasted >= self._patience(NETWORK_PATIENCE_MS):
            return Outcome(EXIT_TEMPORARY, f"the service cannot be reached: {closed.reason}")
        if any(isinstance(action, Submit) for action in world.running):
            return None
        if any(job is not None and job.state in PAID_FOR for _, _, job in pending):
            return self._undeliverable(world, pending)
        if closed.state is AccountState.QUOTA_EXHAUSTED and lasted >= self._patience(QUOTA_PATIENCE_MS):
            reason = f"the account's quota is used up ({closed.reason}): {len(pending)} pairs wait"
            return Outcome(EXIT_TEMPORARY, reason)
        return self._stuck(world, pending)

    def _undeliverable(self, world: World, pending: list[tuple[str, RelPath, Job | None]]) -> Outcome | None:
        """Paid results that their folder cannot take: they stay where they are safe, and the next run delivers them."""
        if world.is_running(SpoolResult):
            return None
        folders = [world.folders.get(root) for root, _, _ in pending]
        if all(folder is None or not folder.may_write for folder in folders):
            longest = self._patience(NETWORK_PATIENCE_MS)
            if world.now - max((f.state_since_at for f in folders if f), default=self.started_at) >= longest:
                return Outcome(EXIT_UNAVAILABLE, "paid results wait for a folder that cannot take them")
        return None

    def _stuck(self, world: World, pending: list[tuple[str, RelPath, Job | None]]) -> Outcome | None:
        folders = [world.folders.get(root) for root, _, _ in pending]
        if all(folder is not None and folder.is_paused for folder in folders):
            return Outcome(EXIT_TEMPORARY, "the folders of what is left are paused by a person")
        limit = world.policy.max_jobs_per_day
        if limit is not None and world.accepted_today() >= limit and all(job is not None for _, _, job in pending):
            return Outcome(EXIT_TEMPORARY, f"today's limit of {limit} jobs is reached")
        if all(folder is None or not folder.is_ok for folder in folders):
            return Outcome(EXIT_UNAVAILABLE, "the folders of what is left went away")
        return None

    def _patience(self, default_ms: int) -> int:
        return default_ms if self.patience_ms is None else self.patience_ms
