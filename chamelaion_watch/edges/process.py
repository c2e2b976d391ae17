"""What the daemon asks of the kernel for its own process."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4  # prctl(2)
_CAP_LEASE = 28


def forbid_dumps() -> None:
    """Leave no core and let no other process of this user read our memory: it holds the key.

    Does what the system allows, and nothing where there is no prctl.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def collect_seldom() -> None:
    """Look for cycles of garbage after 50,000 new objects, not after 700: we make next to none of them.

    A start with 100,000 files spent a third of its time looking.
    """
    gc.set_threshold(50_000, 20, 20)


def give_back_memory() -> None:
    """Return to the system what is free in the heap: after a start with 100,000 files 9 MB of 121 (malloc_trim(3)).

    Does nothing where the C library has no such call (musl, macOS).
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def may_be_dumped() -> bool | None:
    """Say whether the kernel would let this process be dumped; None where it cannot be asked."""
    if sys.platform != "linux":
        return None
    return bool(ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0))


def may_lease_of_others() -> bool:
    """Say whether a lease on another user's file is to be had: as root, or with CAP_LEASE (capabilities(7))."""
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        effective = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
        return bool(int(effective, 16) >> _CAP_LEASE & 1)
    return False
