"""What of a root's looks depends on what came before: a claim that failed, and one that came in between."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chamelaion_watch.core.errors import RootProblem
from chamelaion_watch.core.messages import Scan
from chamelaion_watch.core.model import RootState
from chamelaion_watch.edges.clock import SystemClock
from chamelaion_watch.edges.watcher import Watcher
from chamelaion_watch.rootwork import RootWork
from tests.builders import folder_policy

if TYPE_CHECKING:
    from watchdog.observers.api import ObservedWatch

SWEEP = Scan("a", is_sweep=True)
SENTINEL = ".lipsync-root"


@pytest.fixture
def root(tmp_path: Path) -> RootWork:
    policy = folder_policy(path=str(tmp_path))
    return RootWork(policy, ledger_id="ours", known=None, watcher=None, clock=SystemClock())


def test_a_claim_that_failed_leaves_the_folder_as_it_was(root: RootWork, tmp_path: Path) -> None:
    assert root.scan(SWEEP).facts.may_claim
    blocker = tmp_path / SENTINEL
    blocker.mkdir()
    with pytest.raises(RootProblem):
        root.claim()
    blocker.rmdir()
    facts = root.scan(SWEEP).facts
    assert (facts.state, facts.may_claim) == (RootState.OK, True)


def test_a_claim_that_worked_makes_its_loss_a_share_that_is_gone(root: RootWork, tmp_path: Path) -> None:
    assert root.scan(SWEEP).facts.may_claim
    root.claim()
    facts = root.scan(SWEEP).facts
    assert (facts.state, facts.may_claim, facts.has_sentinel) == (RootState.OK, False, True)
    (tmp_path / SENTINEL).unlink()
    assert root.scan(SWEEP).facts.state is RootState.NOT_MOUNTED


class Full(Watcher):
    """The real one, on a machine whose limit of watches can be reached and raised."""

    has_room = False
    tries = 0

    def _schedule(self, root_name: str, path: str, recursive: bool) -> ObservedWatch:
        self.tries += 1
        if not self.has_room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super()._schedule(root_name, path, recursive)


@pytest.mark.skipif(sys.platform != "linux", reason="inotify")
def test_threat_23_a_root_that_cannot_be_watched_is_tried_again_after_ten_minutes_and_when_it_is_another(
    tmp_path: Path,
) -> None:
    now_ns = 0
    clock = SystemClock(lambda: now_ns, lambda: now_ns)
    root = tmp_path / "root"
    root.mkdir()
    watcher = Full(lambda _: None)
    with contextlib.closing(watcher):
        work = RootWork(folder_policy(path=str(root)), ledger_id="ours", known=None, watcher=watcher, clock=clock)
        assert [work.scan(SWEEP).facts.has_events for _ in range(3)] == [False] * 3
        assert watcher.tries == 1
        (tmp_path / "next").mkdir()
        root.rename(tmp_path / "before")
        (tmp_path / "next").rename(root)
        assert not work.scan(SWEEP).facts.has_events
        assert watcher.tries == 2
        watcher.has_room = True
        now_ns += 599 * 10**9
        assert not work.scan(SWEEP).facts.has_events
        now_ns += 10**9
        assert [work.scan(SWEEP).facts.has_events for _ in range(3)] == [True] * 3
        assert watcher.tries == 3
