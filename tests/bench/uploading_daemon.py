"""The whole daemon, not only its uploading hands, with one large pair in its drop folder: how much memory it takes.

It is at its defaults: it settles, hashes and probes both files, writes its ledger, uploads, and then polls. The server
throws the upload away and says of it for ever that it is processing. The sources get a second name in the drop folder,
on the same file system, so that nothing is copied.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.acceptance.rig import Rig
from tests.bench import process, trees
from tests.bench.tls_server import Server
from tests.support import eventually

ACCEPTED_WITHIN_S = 600.0
ACCEPTED = "SELECT 1 FROM jobs WHERE key = CAST('clip' AS BLOB) AND accepted_at IS NOT NULL"


def peak_mb(server: Server, home: Path, video: Path, audio: Path) -> float:
    """Have a daemon upload the pair; returns the most that its process ever had, its children's not counted."""
    home.mkdir()
    trees.make(home, trees.Stock(pairs=1))  # of a folder new to it, every pair would be looked up at the service first
    trees.configure(at := Rig(home, server.base_url), ca_file=str(server.ca_file))
    with trees.serving(at) as daemon:
        os.link(audio, at.drop / "clip.wav")
        os.link(video, at.drop / "clip.mp4")
        eventually(lambda: _is_accepted(at, daemon), ACCEPTED_WITHIN_S, every=0.2)
        return process.peak_mb(daemon.process.pid)


def _is_accepted(at: Rig, daemon: trees.Serving) -> bool:
    assert daemon.process.poll() is None, at.log()
    return bool(at.rows(ACCEPTED))
