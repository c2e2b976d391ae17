from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parent.parent / "systemd" / "chamelaion-watch.service"
BINARY = "/opt/chamelaion-watch/bin/chamelaion-watch"


def settings() -> dict[str, list[str]]:
    """The assignments of the unit, comments left out."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if not line.startswith("#") and "=" in line:
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a binary that exists on any machine."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(f"ExecStart={BINARY}", "ExecStart=/bin/true"))
    return copy


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def complaints(result: subprocess.CompletedProcess[str]) -> list[str]:
    """What it says of our unit: a test machine may have broken units of its own."""
    return [line for line in (result.stdout + result.stderr).splitlines() if "chamelaion" in line]


def test_systemd_has_nothing_to_say_about_the_unit(installed: Path) -> None:
    result = analyze("verify", "--man=no", str(installed))
    assert complaints(result) == []
    assert result.returncode == 0, result.stderr


def test_the_check_would_notice_a_mistake(installed: Path) -> None:
    installed.write_text(installed.read_text().replace("WatchdogSec=60", "WatchdogSec=often\nWatchDogSec=60"))
    assert len(complaints(analyze("verify", "--man=no", str(installed)))) == 2


def test_the_unit_runs_the_command_of_the_package() -> None:
    (command,) = settings()["ExecStart"]
    assert command == f"{BINARY} --config /etc/chamelaion-watch/config.yaml run"
    assert '[project.scripts]\nchamelaion-watch = "chamelaion_watch' in (UNIT.parents[1] / "pyproject.toml").read_text()


def test_only_what_a_person_must_repair_is_not_restarted() -> None:
    found = settings()
    assert found["Restart"] == ["on-failure"]
    assert set(found["RestartPreventExitStatus"][0].split()) == {"2", "77", "78"}


def test_the_key_is_a_credential_and_nothing_else() -> None:
    assert settings()["LoadCredential"] == ["chamelaion-api-key:/etc/chamelaion-watch/api-key"]
    assert not re.search(r"^Environment.*KEY", UNIT.read_text(), re.MULTILINE)


def test_a_stop_has_longer_than_the_daemon_takes() -> None:
    assert int(settings()["TimeoutStopSec"][0]) > 10


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "notify"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("StateDirectory", "chamelaion-watch"),
        ("WatchdogSec", "60"),
        ("KillMode", "mixed"),
        ("OOMPolicy", "continue"),
    ],
)
def test_what_the_daemon_relies_on(name: str, value: str) -> None:
    assert settings()[name] == [value]
