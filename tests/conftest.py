"""For all tests: an example of hypothesis may take its time, for machines are shared and noisy; and one seed for all.

In CI what is sampled follows from the commit (`.ci/run` sets the seed); elsewhere hypothesis draws anew each time.
Processes share the work by files (pytest-xdist); within a file, lives run side by side.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import SEED_VARIABLE, commit_seed

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # three hundred processes of ours would each compile everything again
sys.dont_write_bytecode = False

LONG = {"test_walk", "test_systemd", "test_sim"}  # beside those with lives

settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared-machine")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Before hypothesis reads its own option; one that is given on the command line wins."""
    if config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = commit_seed()


def pytest_xdist_auto_num_workers() -> int:
    """Three for each processor: lives wait as long as they compute."""
    return 3 * len(os.sched_getaffinity(0))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left alone with one of them in the end."""
    items.sort(key=lambda item: (not takes_long(item.path), item.path.parent.name != "threats"))


@cache
def takes_long(path: Path) -> bool:
    return path.stem in LONG or "\n@side_by_side\n" in path.read_text(encoding="utf-8")


def pytest_report_header() -> str:
    return _told()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """`-q` shows no header, and a log is read from its end."""
    terminalreporter.write_line(_told())


def _told() -> str:
    seed = commit_seed()
    if seed is None:
        return f"sampled at random; with {SEED_VARIABLE}=NUMBER what is sampled can be replayed"
    return f"sampled with seed {seed}; to replay: {SEED_VARIABLE}={seed} .venv/bin/pytest"
