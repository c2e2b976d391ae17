"""What needs nothing any more is put where it takes little room: after each tick, when the ledger has it."""

from __future__ import annotations

from chamelaion_watch.core import notebook, sleeping
from chamelaion_watch.core.lifecycle import FINAL
from chamelaion_watch.core.world import World

SLEEP_EVERY_MS = 5_000  # it takes a look at each file of a folder of thousands


def rest(world: World) -> None:
    """Put finished jobs on the shelf, but for those whose receipt is still to be written; then pack what is around."""
    for job in world.book.of(*FINAL):
        if not notebook.is_receipt_due(world, job):
            world.book.shelve(job)
            if folder := world.folders.get(job.root):
                folder.drowse(job.key)
    for folder in world.folders.values():
        if folder.drowsy and world.now >= folder.sleep_at:
            folder.sleep_at = world.now + SLEEP_EVERY_MS
            sleeping.sleep(folder)
