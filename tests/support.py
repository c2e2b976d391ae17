"""What tests of real processes and sockets share: the one place that waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(predicate: Callable[[], T], timeout: float = 10.0, *, every: float = 0.02) -> T:
    """Return the predicate's first true value; the only sleep in the tests.

    Raises AssertionError after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {predicate}")
        time.sleep(every)
    return value
