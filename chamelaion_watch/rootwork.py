"""What effects do in one root: inspect and scan it, read sources, write and remove notes. Blocking, no decisions.

One scan at a time per root (the planner sees to it); everything else may run beside it on other threads.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace

from loguru import logger

from chamelaion_watch.core.errors import OutputProblem, RootProblem
from chamelaion_watch.core.ignore import IgnoreRules, partial_copies
from chamelaion_watch.core.messages import RootFacts, Scan, Scanned, WriteNote
from chamelaion_watch.core.model import Millis, RelPath, RootState, Signature, Source
from chamelaion_watch.core.naming import is_temp
from chamelaion_watch.core.policy import FolderPolicy
from chamelaion_watch.edges import mounts, outputs
from chamelaion_watch.edges.clock import Clock, monotonic_s
from chamelaion_watch.edges.disk import OpenSource, ScanRules, Tree
from chamelaion_watch.edges.watcher import Watcher, identity

WATCH_AGAIN_MS = 600_000  # after a limit was met: to meet it again costs a walk through the whole tree


class RootWork:
    """The hands in one root."""

    def __init__(
        self,
        policy: FolderPolicy,
        *,
        ledger_id: str,
        known: mounts.KnownRoot | None,
        watcher: Watcher | None,
        clock: Clock,
    ) -> None:
        self.policy = policy
        self.path = policy.path
        self._ledger_id = ledger_id
        self._known = known
        self._watcher = watcher
        self._clock = clock
        self._tree: Tree | None = None
        self._identity: tuple[int, int] | None = None
        self._unwatched = ""  # why changes there cannot be told of
        self._watch_again_at: Millis = 0
        self._last_facts = RootFacts(RootState.OK)

    # -- scanning -------------------------------------------------------------------------------------

    def scan(self, action: Scan) -> Scanned:
        """Look at what the action names; a sweep inspects the root first, and stops there if it is not well."""
        facts = self._inspect() if action.is_sweep else RootFacts(RootState.OK)
        if facts.state is not RootState.OK:
            return Scanned(action, facts)
        began = monotonic_s()
        tree = self._tree_of(facts)
        observations = tree.look(action.looks)
        missing = tuple(path for path in action.notes if not self._is_there(path))
        # Last: what a sweep has told of it does not tell again, so nothing may fail between it and the event.
        sweep = tree.sweep() if action.is_sweep else None
        if action.is_sweep:
            self._last_facts = facts
        return Scanned(
            action,
            self._last_facts,
            appeared=sweep.appeared if sweep else (),
            vanished=sweep.vanished if sweep else (),
            skipped=sweep.skipped if sweep else (),
            observations=observations,
            missing_notes=missing,
            is_complete=sweep.is_complete if sweep else False,
            took_ms=round((monotonic_s() - began) * 1000),
        )

    def claim(self) -> None:
        """Write our sentinel; raises RootProblem if another ledger was faster."""
        mounts.claim_root(self.path, self._ledger_id, socket.gethostname(), now=self._clock.now())
        if self._known is not None:  # not before: a claim that failed must not make the folder count as unmounted
            self._known = replace(self._known, has_sentinel=True)

    def require_well(self) -> None:
        """Raise RootProblem unless the root is well right now: a share may go between a scan and a write."""
        report = mounts.inspect_root(self.path, ledger_id=self._ledger_id, known=self._known)
        if report.state is not RootState.OK:
            raise RootProblem(report.reason, root_state=report.state)

    def _inspect(self) -> RootFacts:
        known = self._known
        report = mounts.inspect_root(self.path, ledger_id=self._ledger_id, known=known)
        if self._known is not known:  # claimed while we looked: look again, or it would be claimed twice
            report = mounts.inspect_root(self.path, ledger_id=self._ledger_id, known=self._known)
        mount = report.mount
        state, reason = report.state, report.reason
        if state is RootState.OK and report.is_read_only and not self.policy.output.startswith("../"):
            # Found before anything is paid for: a result that cannot be delivered is money lost.
            state = RootState.READ_ONLY
            reason = f"{self.path}: cannot be written, and the results go there: allow it, or set another `output`"
        facts = RootFacts(
            state=state,
            reason=reason,
            is_network=bool(mount and mount.is_network),
            may_claim=report.may_claim,
            mount_source=mount.source if mount else None,
            mount_type=mount.fstype if mount else None,
            has_sentinel=report.sentinel is not None,
            is_read_only=report.is_read_only,
            has_events=state is RootState.OK and self._watch(mount),
        )
        if facts.state is RootState.OK and mount is not None:
            has_sentinel = facts.has_sentinel or bool(self._known and self._known.has_sentinel)
            files = self._known.known_files if self._known else ()
            self._known = mounts.KnownRoot(mount.source, mount.fstype, has_sentinel, report.is_read_only, files)
        return facts

    def _watch(self, mount: mounts.Mount | None) -> bool:
        """Have changes wake us, where the file system tells of them; anew when another folder took the root's place."""
        if self._watcher is None or mount is None or not mount.delivers_events:
            return False
        found, name = identity(self.path), self.policy.name
        is_settled = self._watcher.is_alive(name) or self._clock.now() < self._watch_again_at
        if found == self._identity and is_settled:
            return not self._unwatched
        self._identity = found
        before, self._unwatched = self._unwatched, self._watcher.watch(name, self.path, self.policy.recursive)
        self._watch_again_at = self._clock.now() + WATCH_AGAIN_MS if self._unwatched else 0
        if self._unwatched and self._unwatched != before:
            logger.warning("{}: {}", name, self._unwatched)
        return not self._unwatched

    def _tree_of(self, facts: RootFacts) -> Tree:
        if self._tree is None:
            ignore = IgnoreRules(self.policy.ignore)
            wanted = (*self.policy.pairing.video, *self.policy.pairing.audio)

            def wants(name: str) -> bool:
                return (name.lower().endswith(wanted) and ignore.why_ignored(name) is None) or is_temp(name)

            self._tree = Tree(
                self.path,
                ScanRules(self.policy.recursive, wants, lambda name: ignore.why_folder_ignored(name) is None),
                clock=monotonic_s,
                find_partial_copies=partial_copies,
                has_leases=not facts.is_network,
            )
        return self._tree

    def _is_there(self, path: RelPath) -> bool:
        return os.path.lexists(os.path.join(self.path, path))  # noqa: PTH118 - bytes that are no UTF-8 pass

    # -- reading --------------------------------------------------------------------------------------

    def sha256(self, path: RelPath, signature: Signature, on_progress: Callable[[int], None]) -> str:
        return self._reading().sha256(path, signature, on_progress=on_progress)

    def open(self, source: Source) -> OpenSource:
        """Open a source, bound to what it was when it was identified; raises InputProblem if it is not any more."""
        return self._reading().open(source.path, source.signature)

    def _reading(self) -> Tree:
        return self._tree if self._tree is not None else self._tree_of(RootFacts(RootState.OK, is_network=True))

    # -- writing --------------------------------------------------------------------------------------

    def write_note(self, action: WriteNote) -> tuple[RelPath, ...]:
        """Write a note where it belongs, else beside the source; returns the paths."""
        self.require_well()
        paths = tuple(path for path, _ in action.files)
        contents = [content for _, content in action.files]
        try:
            self._write_all(paths, contents)
        except OutputProblem:
            if not action.elsewhere or action.elsewhere == paths:
                raise
            paths = action.elsewhere
            self._write_all(paths, contents)
        return paths

    def remove(self, paths: Sequence[RelPath]) -> None:
        """Remove notes and temps of ours; what is not there is fine."""
        self.require_well()
        for path in paths:
            if is_temp(path.rpartition("/")[2]):
                outputs.remove_parts(self.path, [path])
            else:
                outputs.remove_note(self.path, path)

    def _write_all(self, paths: Sequence[RelPath], contents: Sequence[bytes]) -> None:
        for path, content in zip(paths, contents, strict=True):
            outputs.write_note(self.path, path, content, mode=self.policy.mode)
