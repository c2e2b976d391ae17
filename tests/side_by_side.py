"""Tests that mostly wait, run side by side: each is some seconds in the life of a real daemon.

The first one of a file to be reached starts all of that file, a few at a time; each then waits for its own. They take
no fixtures, share nothing, and fail like any other test.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

AT_ONCE = 3  # in each process; they wait more than they compute. A file whose lives only wait may name another number.
PATIENCE_S = 110.0
_STARTED = pytest.StashKey[dict[Path, dict[Any, Future[None]]]]()


def side_by_side(scenario: Callable[[], None]) -> Callable[[pytest.FixtureRequest], None]:
    """Make a function without arguments such a test."""

    def test(request: pytest.FixtureRequest) -> None:
        started(request)[scenario].result(PATIENCE_S)

    test.__name__, test.__qualname__, test.__doc__ = scenario.__name__, scenario.__qualname__, scenario.__doc__
    test.__module__ = scenario.__module__
    test.scenario = scenario  # type: ignore[attr-defined]
    return test


def started(request: pytest.FixtureRequest) -> dict[Any, Future[None]]:
    """Start what was collected of this file, unless that has been done."""
    session, path = request.session, request.path
    of_files = session.stash.setdefault(_STARTED, {})
    if path not in of_files:
        at_once = getattr(request.module, "AT_ONCE", AT_ONCE)
        pool = ThreadPoolExecutor(at_once, thread_name_prefix="side-by-side")
        session.addfinalizer(lambda: pool.shutdown(cancel_futures=True))
        found = [getattr(getattr(item, "obj", None), "scenario", None) for item in session.items if item.path == path]
        of_files[path] = {scenario: pool.submit(scenario) for scenario in dict.fromkeys(found) if scenario}
    return of_files[path]
