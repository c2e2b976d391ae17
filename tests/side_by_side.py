"""Tests that mostly wait, run side by side: each is some seconds in the life of a real daemon.

The first one to be reached starts all that were collected, a few at a time; each then waits for its own. They take no
fixtures, share nothing, and fail like any other test.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

AT_ONCE = 6  # they wait far more than they compute
PATIENCE_S = 110.0
_STARTED = pytest.StashKey[dict[Any, Future[None]]]()


def side_by_side(scenario: Callable[[], None]) -> Callable[[pytest.FixtureRequest], None]:
    """Make a function without arguments such a test."""

    def test(request: pytest.FixtureRequest) -> None:
        started(request.session)[scenario].result(PATIENCE_S)

    test.__name__, test.__qualname__, test.__doc__ = scenario.__name__, scenario.__qualname__, scenario.__doc__
    test.__module__ = scenario.__module__
    test.scenario = scenario  # type: ignore[attr-defined]
    return test


def started(session: pytest.Session) -> dict[Any, Future[None]]:
    """Start what was collected, unless that has been done."""
    if _STARTED not in session.stash:
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="side-by-side")
        session.addfinalizer(lambda: pool.shutdown(cancel_futures=True))
        found = [getattr(getattr(item, "obj", None), "scenario", None) for item in session.items]
        scenarios = dict.fromkeys(scenario for scenario in found if scenario)
        session.stash[_STARTED] = {scenario: pool.submit(scenario) for scenario in scenarios}
    return session.stash[_STARTED]
