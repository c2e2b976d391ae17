"""The mark of the one daemon of a ledger: a lock on a file beside it, which dies with its process.

Commands that look or append never take it; they may ask who holds it.
"""

from __future__ import annotations

import contextlib
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
            raise LedgerUnavailable(
                f"cannot use the state folder {folder}: {error.strerror}; make it writable for this user, "
                "or set another one as `state`"
            ) from error

    def take(self) -> None:
        """Become the one daemon; raises LedgerHeld with the other's process id."""
        if not self._is_taken():
            self._file.seek(0)
            other = self._file.read(20).strip() or "unknown"
            self._file.close()
            raise LedgerHeld(
                f"another daemon (pid {other}) already serves the ledger in {self._path.parent}; stop it first, "
                "or give this one its own config with another `state`"
            )
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def _is_taken(self) -> bool:
        """Try for a moment: whoever asks `holder` has the lock for an instant."""
        for _ in range(LOCK_TRIES):
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            time.sleep(LOCK_PAUSE_S)
        return False

    def release(self) -> None:
        self._file.close()


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
