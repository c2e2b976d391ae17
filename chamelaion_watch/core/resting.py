"""What needs nothing any more is put where it takes little room: after each tick, when the ledger has it."""

from __future__ import annotations

from chamelaion_watch.core import notebook
from chamelaion_watch.core.lifecycle import FINAL
from chamelaion_watch.core.world import World


def rest(world: World) -> None:
    """Put finished jobs on the shelf, but for those whose receipt is still to be written."""
    for job in world.book.of(*FINAL):
        if not notebook.is_receipt_due(world, job):
            world.book.shelve(job)
