"""What was in a folder before it was first watched: nobody's archive is submitted by surprise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chamelaion_watch.core.model import RelPath

if TYPE_CHECKING:
    from chamelaion_watch.core.folder import Folder

BACKLOG = 20  # complete pairs that may be there when a folder is first seen


def hold(folder: Folder) -> None:
    """Hold all pairs that the first complete sweep of a new folder shows, if they are many: they wait for a person."""
    if folder.is_new and folder.policy.holds_backlog and len(keys := folder.index.keys_at_rest()) > BACKLOG:
        folder.held = keys


def release(folder: Folder) -> list[RelPath]:
    """Let go of what was held; returns the keys."""
    keys, folder.held = sorted(folder.held), set()
    folder.index.ready.update(dict.fromkeys(key for key in keys if key in folder.pairs))
    return keys
