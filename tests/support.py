"""What tests share: the one place that waits, and the seed that sampled tests begin with."""

from __future__ import annotations

import os
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


SEED_VARIABLE = "CHAMELAION_TEST_SEED"


def commit_seed() -> int | None:
    """Return the seed that `.ci/run` takes from the commit, so that each commit samples anew and can be replayed.

    None outside of CI, where every run may sample something else.
    """
    text = os.environ.get(SEED_VARIABLE)
    return int(text) if text else None
