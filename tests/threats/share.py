"""A share for a test: `sharefs` mounted in a process of its own, to which orders can be given.

What lies on the share is put there and looked at through `backing`, as another client would; the mount point itself
is the daemon's, for a test that touched it would hang with it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.rig import ROOT

NETWORK, LOCAL = "fuse.sshfs", "fuse.bindfs"  # which the daemon takes for a network share, and for a local disk
PART = ".*lipsync-part"  # by this name a fault is ordered for an output that is being written


@dataclass
class Share:
    """A mounted share and its server."""

    backing: Path
    point: Path
    server: subprocess.Popen[str]

    def order(self, **orders: Any) -> dict[str, Any]:
        """Tell the server how to misbehave from now on; `faults=[]` is well again. Returns what it says."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(orders) + "\n")
        self.server.stdin.flush()
        answer: dict[str, Any] = json.loads(self.server.stdout.readline())
        return answer

    def die(self) -> None:
        """The server is gone from one moment to the next: ENOTCONN."""
        self.server.kill()
        self.server.wait()
        for stream in (self.server.stdin, self.server.stdout):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def share(point: Path, *, fstype: str = NETWORK, store: Path | None = None) -> Iterator[Share]:
    """Mount a share on a folder that must exist; skips where that cannot be done."""
    if reason := why_not():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="lipsync-share-") as backing:
        mounted = started(Path(backing), point, fstype, store)
        try:
            yield mounted
        finally:
            mounted.die()
            subprocess.run(["umount", "-l", point], capture_output=True, check=False)  # if it is mounted at the moment


def started(backing: Path, point: Path, fstype: str = NETWORK, store: Path | None = None) -> Share:
    """Start a server of `backing` at a mount point."""
    words = [str(backing), str(point), fstype, *([str(store)] if store else [])]
    command = [sys.executable, "-m", "tests.threats.sharefs", *words]
    server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n", "the file server did not start"
    return Share(backing, point, server)


@functools.cache
def why_not() -> str:
    """Say why no share can be mounted here; "" if one can."""
    if os.geteuid() != 0:
        return "needs root to mount a share"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"needs /dev/fuse: {error.strerror}"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        if done.returncode:
            return "needs the right to mount"
        subprocess.run(["umount", folder], check=True)
    return ""
