"""The real ledger on a disk that fails: full, locked, in the middle of a transaction, and at its very end.

A commit that reports an error can have been written all the same: SQLite syncs the log after it has written the
commit, and a recovery reads what is there (sqlite.org, "Write-Ahead Logging").
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chamelaion_watch.core.errors import LedgerUnavailable
from chamelaion_watch.edges.ledger.sqlite import SqliteLedger
from tests.sim.counts import Counts
from tests.sim.odds import Odds


class LedgerDisk:
    """The disk under the state folder; it outlives the processes."""

    def __init__(self, seed: int, odds: Odds, counts: Counts) -> None:
        self._rng = random.Random(f"ledger {seed}")
        self._odds = odds
        self._counts = counts
        self.is_full = False

    def fault(self) -> str | None:
        if self._rng.random() < self._odds.ledger:
            return self._rng.choice(["locked", "within", "full", "written"])
        return "full" if self.is_full else None

    def failed(self, why: str) -> LedgerUnavailable:
        self._counts.ledger_failures += 1
        return LedgerUnavailable(f"simulated: the ledger's disk: {why}")

    def statements(self) -> int:
        return self._rng.randrange(1, 8)


class SimLedger(SqliteLedger):
    """The daemon's ledger; people's commands use one that does not fail."""

    def __init__(self, folder: Path, disk: LedgerDisk) -> None:
        self._disk = disk
        self._fails_in: int | None = None
        super().__init__(folder)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        fault = self._disk.fault()
        if fault == "locked":
            raise self._disk.failed("locked")
        self._fails_in = self._disk.statements() if fault == "within" else None
        before = self._db.total_changes
        with super().transaction():
            yield
            self._fails_in = None
            if fault == "full" and self._db.total_changes != before:
                raise self._disk.failed("no space left")
        if fault == "written":
            raise self._disk.failed("an error at the commit, though it was written")

    def _run(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        if self._fails_in is not None:
            self._fails_in -= 1
            if self._fails_in < 0:
                self._fails_in = None
                raise self._disk.failed("an error in the middle")
        return super()._run(sql, values)
