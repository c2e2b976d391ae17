"""Faults that come at a time and last for a while: outages, shares that go or hang, disks, clocks, pauses."""

from __future__ import annotations

import random
from collections.abc import Callable

from chamelaion_watch.core.model import RootState
from tests.sim.disk import SimRoot
from tests.sim.life import MINUTE_MS, Life

DAY_MS = 24 * 60 * MINUTE_MS
LONGEST_MS = 10 * MINUTE_MS
LONGEST_FULL_LEDGER_MS = 60_000


class Faults:
    """Begins and ends them; of `write` each life gets some, drawn anew."""

    def __init__(self, life: Life, rng: random.Random, until_ms: int) -> None:
        self._life = life
        self._rng = rng
        self._until_ms = until_ms

    def write(self) -> None:
        """Schedule the later faults; the first ones are drawn by the script."""
        for fault, chance in (
            (self.hang, 0.2),
            (self.unmount, 0.2),
            (self.lose, 0.2),
            (self.fill_ledger, 0.1),
            (self.freeze, 0.2),
            (self.set_clock, 0.25),
            (self.set_clock, 0.25),
            (self._life.crash, 0.1),
        ):
            if self._rng.random() < chance:
                self._life.schedule.after(self._rng.randrange(self._until_ms), fault)

    # -- the service ----------------------------------------------------------------------------------

    def outage(self) -> None:
        service = self._life.service
        self._life.counts.outages += 1
        self._for_a_while(lambda: setattr(service, "is_down", True), lambda: setattr(service, "is_down", False))

    def revoke(self) -> None:
        service = self._life.service
        self._life.counts.revoked += 1
        self._for_a_while(lambda: setattr(service, "is_key_good", False), lambda: setattr(service, "is_key_good", True))

    def refill(self) -> None:
        account = self._life.service.service
        account.limits = account.limits.changed({"quota": None})

    # -- shares ---------------------------------------------------------------------------------------

    def unwell(self) -> None:
        root = self._root()
        self._be(root, self._rng.choice([RootState.NOT_MOUNTED, RootState.STALE, RootState.MISSING]))

    def fill(self) -> None:
        root = self._root()
        self._life.say(f"share {root.name} is full")
        self._life.counts.disk_full += 1
        self._for_a_while(lambda: setattr(root, "is_full", True), lambda: setattr(root, "is_full", False))

    def lose(self) -> None:
        """Another ledger takes the share, or its rights change."""
        root = self._root()
        self._be(root, self._rng.choice([RootState.FOREIGN, RootState.READ_ONLY, RootState.DENIED]))

    def unmount(self) -> None:
        """What was the share is an empty folder for a while."""
        root = self._root()
        root.is_bare = True
        self._be(root, RootState.NOT_MOUNTED)

    def hang(self) -> None:
        """No call to the share comes back, for minutes or until the faults end."""
        root = self._root()
        self._life.say(f"share {root.name} hangs")
        self._life.counts.hung += 1
        root.is_hung = True
        if self._rng.random() < 0.7:
            self._after(self._rng.randrange(1_000, LONGEST_MS), lambda: setattr(root, "is_hung", False))

    # -- this machine ---------------------------------------------------------------------------------

    def fill_ledger(self) -> None:
        disk = self._life.ledger_disk
        self._life.say("the ledger's disk is full")
        self._life.counts.disk_full += 1
        disk.is_full = True  # each 5 s a new session finds it so: longer is only more of the same
        self._after(self._rng.randrange(1_000, LONGEST_FULL_LEDGER_MS), lambda: setattr(disk, "is_full", False))

    def freeze(self) -> None:
        self._life.freeze(self._rng.choice([20_000, LONGEST_MS, 3 * 60 * MINUTE_MS // 4]))

    def set_clock(self) -> None:
        hour_ms = 60 * MINUTE_MS
        to_1970_ms = MINUTE_MS - self._life.clock.at
        jumps = [0, 0, hour_ms, -hour_ms, 400 * DAY_MS, -400 * DAY_MS, to_1970_ms]
        self._life.set_wall_clock(self._rng.choice(jumps))

    # -- inside ---------------------------------------------------------------------------------------

    def _root(self) -> SimRoot:
        return self._rng.choice(list(self._life.roots.values()))

    def _be(self, root: SimRoot, health: RootState) -> None:
        self._life.say(f"share {root.name} is {health}")
        self._life.counts.away += 1
        self._for_a_while(lambda: setattr(root, "health", health), root.mount)

    def _for_a_while(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        begin()
        self._after(self._rng.randrange(1_000, LONGEST_MS), end)

    def _after(self, ms: int, what: Callable[[], None]) -> None:
        self._life.schedule.after(ms, what)
