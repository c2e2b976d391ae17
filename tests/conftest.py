"""For all tests: an example of hypothesis may take its time, for machines are shared and noisy; and one seed for all.

In CI what is sampled follows from the commit (`.ci/run` sets the seed); elsewhere hypothesis draws anew each time.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.support import SEED_VARIABLE, commit_seed

settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared-machine")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Before hypothesis reads its own option; one that is given on the command line wins."""
    if config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = commit_seed()


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
