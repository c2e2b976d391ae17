"""`doctor` against real folders, ledgers and the sandbox: what it says, how it exits, and that it leaves nothing."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from chamelaion_watch import settings
from chamelaion_watch.cli.doctoring import key_place
from chamelaion_watch.edges import mounts
from chamelaion_watch.sandbox.server import Sandbox, SandboxOptions
from tests.test_cli_looking import AT, JOB, Place, place, snapshot

__all__ = ["place"]

KEY: dict[str, str | None] = {"CHAMELAION_API_KEY": "secret-key-0123456789"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxOptions(key="sandbox-key")) as running:
        yield running


def env_of(sandbox: Sandbox, key: str = "sandbox-key") -> dict[str, str | None]:
    return {"CHAMELAION_API_KEY": key, "CHAMELAION_BASE_URL": sandbox.base_url}


def states(place: Place, *arguments: str, env: dict[str, str | None]) -> dict[str, str]:
    checks = place.json("doctor", *arguments, env=env)["data"]["checks"]
    return {check["what"]: check["state"] for check in checks}


def test_where_everything_works_nothing_fails_and_nothing_is_left(place: Place, sandbox: Sandbox) -> None:
    result = place.run("doctor", env=env_of(sandbox))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    for words in ("key accepted: the service knows it as 'My API Token'", "found in CHAMELAION_API_KEY", "none yet"):
        assert words in result.stdout
    assert list(place.drop.iterdir()) == []
    assert not place.state.exists()
    assert "sandbox-key" not in result.output


def test_the_same_for_scripts(place: Place, sandbox: Sandbox) -> None:
    envelope = place.json("doctor", env=env_of(sandbox))
    assert envelope["ok"] is True
    whats = [check["what"] for check in envelope["data"]["checks"]]
    for what in ("configuration", "key", "service", "key accepted", "state folder", "ledger", "clock", "folder drop"):
        assert what in whats


def test_a_rejected_key_is_77(place: Place, sandbox: Sandbox) -> None:
    result = place.run("doctor", env=env_of(sandbox, "wrong-key-0123456789"))
    assert result.exit_code == 77
    assert "fail  key accepted" in result.stdout
    assert "wrong-key" not in result.output


def test_a_missing_key_is_78_though_the_service_answers(place: Place, sandbox: Sandbox) -> None:
    found = states(place, env={"CHAMELAION_BASE_URL": sandbox.base_url})
    assert (found["key"], found["service"]) == ("fail", "ok")
    assert "key accepted" not in found
    assert place.run("doctor", env={"CHAMELAION_BASE_URL": sandbox.base_url}).exit_code == 78


def test_a_service_that_cannot_be_reached_is_75_but_not_asked_offline(place: Place) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        env = KEY | {"CHAMELAION_BASE_URL": f"http://127.0.0.1:{unused.getsockname()[1]}/api"}
        assert place.run("doctor", env=env).exit_code == 75
        offline = place.run("doctor", "--offline", env=env)
    assert offline.exit_code == 0
    assert "  service: " not in offline.stdout


def test_a_wrong_configuration_is_78_with_all_its_problems(place: Place) -> None:
    place.config.write_text("folders: []\nlog: {level: loud}\n", encoding="utf-8")
    result = place.run("doctor", env=KEY)
    assert result.exit_code == 78
    assert result.stdout.count("fail  configuration: ") == 2


def test_a_missing_folder_is_69_and_is_not_made(place: Place) -> None:
    place.drop.rmdir()
    result = place.run("doctor", "--offline", env=KEY)
    assert result.exit_code == 69
    assert "fail  folder drop: missing" in result.stdout
    assert not place.drop.exists()


def test_a_folder_of_another_ledger_is_69_and_says_how_to_hand_it_over(place: Place) -> None:
    place.add(JOB)
    mounts.claim_root(str(place.drop), "11111111-2222-3333-4444-555555555555", "edit-2", now=AT)
    before = sorted(place.drop.iterdir())
    result = place.run("doctor", "--offline", env=KEY)
    assert result.exit_code == 69
    assert "edit-2" in result.stdout
    assert "chamelaion-watch adopt" in result.stdout
    assert sorted(place.drop.iterdir()) == before


def test_a_damaged_ledger_is_69_and_stays_as_it_is(place: Place) -> None:
    place.state.mkdir()
    file = place.state / "ledger.sqlite3"
    file.write_bytes(b"this is no database" * 100)
    before = file.read_bytes()
    result = place.run("doctor", "--offline", env=KEY)
    assert result.exit_code == 69
    assert "fail  ledger" in result.stdout
    assert file.read_bytes() == before


def test_a_sound_ledger_and_a_stopped_daemon(place: Place) -> None:
    place.add(JOB)
    result = place.run("doctor", "--offline", env=KEY)
    assert result.exit_code == 0
    assert "ok    ledger: sound, 1 jobs" in result.stdout
    assert "warn  daemon: not running" in result.stdout


def test_a_running_daemon_whose_account_is_not_open_is_a_warning(place: Place) -> None:
    place.tell(snapshot())
    with place.daemon():
        result = place.run("doctor", "--offline", env=KEY)
    assert f"warn  daemon: running (pid {os.getpid()}); the account is quota_exhausted" in result.stdout


def test_a_clock_that_is_behind_the_ledger_is_a_warning(place: Place) -> None:
    place.tell(snapshot(), at=4_000_000_000_000)
    assert states(place, "--offline", env=KEY)["clock"] == "warn"


def test_results_that_go_elsewhere_need_a_folder_that_can_be_written(place: Place) -> None:
    blocked = place.folder / "file"
    blocked.write_text("")
    place.config.write_text(place.config.read_text() + '    output: "../file/{dir}/{name}.lipsync.mp4"\n')
    result = place.run("doctor", "--offline", env=KEY)
    assert result.exit_code == 69
    assert "results cannot be written" in result.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_69(place: Place) -> None:
    place.drop.chmod(0o555)
    assert place.run("doctor", "--offline", env=KEY).exit_code == 69


def test_the_place_that_is_named_is_the_one_whose_key_is_used(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    keys = {"credentials": credentials / "chamelaion-api-key", "named": tmp_path / "named", "last": tmp_path / "last"}
    for name, path in keys.items():
        path.write_text(f"key-{name}")
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"folders": [{"path": "/srv/x"}], "api": {"key_file": str(keys["last"])}}))
    loaded = settings.load(config, {"HOME": "/home/x"})
    env = {
        "CREDENTIALS_DIRECTORY": str(credentials),
        "CHAMELAION_API_KEY_FILE": str(keys["named"]),
        "CHAMELAION_API_KEY": "key-direct",
    }
    used = []
    for name in (*env, "key_file"):
        used.append((key_place(loaded, env), settings.read_key(loaded, env)))
        env.pop(name, None)
    assert used == [
        ("$CREDENTIALS_DIRECTORY/chamelaion-api-key", "key-credentials"),
        ("a file named by CHAMELAION_API_KEY_FILE", "key-named"),
        ("CHAMELAION_API_KEY", "key-direct"),
        ("a file named by api.key_file", "key-last"),
    ]
