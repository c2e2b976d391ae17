"""For all tests: an example of hypothesis may take its time, for machines are shared and noisy; and one seed for all.

In CI what is sampled follows from the commit (`.ci/run` sets the seed); elsewhere hypothesis draws anew each time.
Processes share the work by files (pytest-xdist); the lives that are side by side are one share, and the first: they
wait much, beside whatever computes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from tests.support import SEED_VARIABLE, commit_seed

settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared-machine")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Before hypothesis reads its own option; one that is given on the command line wins."""
    if config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = commit_seed()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    """Share by files. (`--dist loadgroup` does nothing with pytest 9.2: pytest-xdist issue 1386.)"""
    return Shares(config, log)


class Shares(LoadFileScheduling):  # type: ignore[misc]
    """All files with lives side by side are one share: the first test of them starts every one."""

    def _split_scope(self, nodeid: str) -> str:
        path = super()._split_scope(nodeid)
        return "side by side" if has_lives(self.config.rootpath / path) else path


@cache
def has_lives(path: Path) -> bool:
    return "\n@side_by_side\n" in path.read_text(encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest share."""
    items.sort(key=lambda item: not has_lives(item.path))


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
