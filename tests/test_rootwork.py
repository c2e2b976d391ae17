"""What of a root's looks depends on what came before: a claim that failed, and one that came in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from chamelaion_watch.core.errors import RootProblem
from chamelaion_watch.core.messages import Scan
from chamelaion_watch.core.model import RootState
from chamelaion_watch.edges.clock import SystemClock
from chamelaion_watch.rootwork import RootWork
from tests.builders import folder_policy

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
