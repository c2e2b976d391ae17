"""The mark of the one daemon of a ledger: a lock on a file beside it, which dies with its process.

Commands that look or append never take it; they may ask who holds it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

from chamelaion_watch.core.errors import LedgerUnavailable

LOCK = "daemon.lock"
LOCK_TRIES, LOCK_PAUSE_S = 10, 0.02


class LedgerHeld(LedgerUnavailable):
    """Another daemon serves this ledger."""

    code = "ledger_held"


class DaemonLock:
    """The mark of the one daemon of a ledger: an flock, which dies with its process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = self._path.open("a+", encoding="utf-8")
        except OSError as error:
            raise _unusable(folder, error) from error

    def take(self) -> None:
        """Become the one daemon; raises LedgerHeld with the other's process id, or LedgerUnavailable."""
        if not self._is_taken():
            self._file.seek(0)
            other = self._file.read(20).strip() or "unknown"
            self._file.close()
            raise LedgerHeld(
                f"another daemon (pid {other}) already serves the ledger in {self._path.parent}; stop it first, "
                "or give this one its own config with another `state`"
            )
        try:
            os.ftruncate(self._file.fileno(), 0)  # not by way of a buffer, which would fail once more when it is closed
            os.write(self._file.fileno(), str(os.getpid()).encode())
        except OSError as error:
            self._file.close()
            raise _unusable(self._path.parent, error) from error

    def _is_taken(self) -> bool:
        """Try for a moment: whoever asks `holder` has the lock for an instant."""
        for _ in range(LOCK_TRIES):
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            time.sleep(LOCK_PAUSE_S)
        return False

    def release(self) -> None:
        with contextlib.suppress(OSError):  # of a full or broken disk, and nothing is lost by it: we are leaving
            self._file.close()


def _unusable(folder: Path, error: OSError) -> LedgerUnavailable:
    advice = "make room" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "make it writable for this user"
    return LedgerUnavailable(
        f"cannot use the state folder {folder}: {error.strerror}; {advice}, or set another one as `state`"
    )


def holder(folder: Path) -> int | None:
    """Return the process id of the daemon that serves this ledger now, or None."""
    try:
        with (folder / LOCK).open("r", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(file.read(20).strip() or 0)
    except (OSError, ValueError):
        pass
    return None
