"""The 85 rows of threats.md: what each is about, how it is shown here, and what cannot be made here, with the reason.

A row's tests are found by their names (`test_threat_14_15_<fact>` stands for rows 14 and 15), never listed by hand.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
NAME = re.compile(r"test_threat_((?:\d\d_)+)")

# How a row is shown, the most real way first.
PROCESS = "real process"
SHARE = "real process, failing file server"
DISK = "real process, failing disk"
FILES = "real files"
SOCKETS = "real process, real sockets"
SYSTEMD = "real systemd"
PURE = "pure"

NO_SERVER = "no SMB or NFS server here: a FUSE server of our own speaks for both"
LATER = "the status page comes with a later issue"


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `not_here` says what of it is not made here, and why."""

    number: int
    title: str
    how: str
    not_here: str = ""


ROWS = tuple(
    Row(number, *words)
    for number, words in enumerate(
        [
            # process
            ("kill -9 in every phase", PROCESS, "every system call: tests/acceptance/syscall_walk.py"),
            ("kill -9 between POST and stored id", PROCESS),
            ("SIGTERM in upload, poll, download", PROCESS),
            ("SIGTERM twice, SIGHUP, SIGINT", PROCESS),
            ("standing still for minutes", PROCESS, "stopped for 12 s; ten minutes are a clock that jumps"),
            ("two daemons, one state folder", PROCESS),
            ("two ledgers, one share", PROCESS, "two processes stand for two hosts"),
            ("no descriptors, threads, memory", PROCESS, "no memory at all: the kernel kills, which is row 1"),
            ("a worker hangs in the kernel", SHARE),
            ("a pair that kills the daemon", PROCESS),
            ("ledger corrupt, locked, read-only, newer", PROCESS),
            ("ledger lost, outputs there", PROCESS),
            ("power cut right after the answer", DISK, "no plug to pull: a disk that forgets what was not flushed"),
            # local file system
            ("disk full while downloading", DISK),
            ("disk full for the ledger", PROCESS),
            ("EIO on fsync", DISK),
            ("EIO or short read in a source", DISK, "a note for a file without a job: comes with the waiting notes"),
            ("EDQUOT at close, EROFS, EACCES", DISK),
            ("rename fails", DISK),
            ("the output's name is taken", PROCESS),
            ("no links, modes, times; 2 s mtimes", DISK),
            ("power cut around the rename", DISK, "no plug to pull: a disk that forgets what was not flushed"),
            ("inotify limits, lost events", PROCESS),
            ("very many files, deep trees, renames", FILES),
            # share
            ("changes without events", SHARE, NO_SERVER),
            ("the server dies and comes back", SHARE, NO_SERVER),
            ("unmounted: an empty folder", SHARE),
            ("ESTALE, ENOTCONN, random inodes", SHARE, NO_SERVER),
            ("files that grow, pause, are preallocated", PROCESS, "a pause of a minute is played, not lived"),
            ("attributes that lag, a late half", SHARE, NO_SERVER),
            ("sources replaced in mid-upload", PROCESS),
            ("the server's clock", SHARE),
            ("no case, NFC and NFD", SHARE, NO_SERVER),
            ("names that Windows cannot have", SHARE, NO_SERVER),
            ("lock files and temporary copies", PROCESS),
            # hostile names and files
            ("links, swapped at any moment", PROCESS),
            ("pipes, devices, sockets, folders", PROCESS),
            ("controls and quotes in names", PROCESS),
            ("invalid UTF-8", PROCESS),
            ("255 bytes", PROCESS),
            ("line breaks in the multipart body", PROCESS),
            ("sparse, empty, no media", PROCESS),
            ("names that collide across folders", PROCESS),
            ("markup in a name", PROCESS, LATER),
            ("planted notes and sentinels", PROCESS),
            # network
            ("refused, DNS, TLS", SOCKETS),
            ("answer lost after the body", SOCKETS),
            ("lagging index, late job", SOCKETS),
            ("reset in mid-upload", SOCKETS),
            ("early 401, 413, 429", SOCKETS),
            ("slow and lossy link", SOCKETS),
            ("stalled transfers", SOCKETS),
            ("kept connection closed", SOCKETS),
            ("proxies, captive portal", SOCKETS),
            # API behaviour
            ("Retry-After in every form", SOCKETS),
            ("429 with eight uploads", SOCKETS),
            ("412 quota", SOCKETS),
            ("401, key rotated", SOCKETS),
            ("400 for one pair", SOCKETS),
            ("500, 503", SOCKETS),
            ("odd status, types, keys", SOCKETS),
            ("status going backwards", SOCKETS),
            ("404 of a known job", SOCKETS),
            ("a job that never ends", PURE),
            ("completed without a link", SOCKETS),
            ("hostile ids", SOCKETS),
            ("hostile error messages", SOCKETS),
            ("giant, zipped, deep, endless answers", SOCKETS),
            ("redirected API calls", SOCKETS),
            # output
            ("links to where they must not lead", SOCKETS),
            ("key or cookies to the media host", SOCKETS),
            ("expired link", SOCKETS),
            ("truncated in every way", SOCKETS),
            ("a page instead of a video", SOCKETS),
            ("Range ignored, ETag changed", SOCKETS),
            ("encoded bodies, bombs", SOCKETS),
            ("a corrupt byte under TLS", PURE, "cannot be told without a digest, which the service does not give"),
            # clock, config, host
            ("clocks set by years", PROCESS, "nobody sets this machine's clock: the ledger's times move instead"),
            ("bad configurations", PROCESS),
            ("folders that cannot go well", PROCESS),
            ("the key in files, argv, config", PROCESS),
            ("secrets at debug level", PROCESS),
            ("unit hardening", SYSTEMD, "booted only where systemd-nspawn is to be had"),
            ("status page: rebinding, CSRF, slowloris", PROCESS, LATER),
            (
                "dependencies with holes",
                FILES,
                "not checked: yanked releases and new advisories, which need the network",
            ),
        ],
        start=1,
    )
)


def by_row(names: Iterable[str]) -> dict[int, list[str]]:
    """Return the tests of each row that any name stands for."""
    found: dict[int, list[str]] = {}
    for name in names:
        for number in rows_of(name):
            found.setdefault(number, []).append(name)
    return found


def rows_of(name: str) -> list[int]:
    """Return the rows that a test is named after."""
    match = NAME.match(name)
    return [int(number) for number in match[1].split("_")[:-1]] if match else []


def names_of_tests() -> list[str]:
    """Return the names of all test functions here that are named after a row."""
    trees = [ast.parse(path.read_text()) for path in sorted(TESTS.rglob("test_*.py"))]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [function.name for function in functions if function.name.startswith("test_threat_")]
