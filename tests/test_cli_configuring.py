"""`check` and `init` as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chamelaion_watch import settings, yaml12
from chamelaion_watch.cli import cli
from tests.test_cli_looking import ENV, Place, place

__all__ = ["place"]

KEY: dict[str, str | None] = {"CHAMELAION_API_KEY": "secret-key-0123456789"}


def run(*arguments: str, env: dict[str, str | None] | None = None) -> Result:
    return CliRunner().invoke(cli, arguments, env=ENV | (env or {}))


# -- check --------------------------------------------------------------------------------------------


def test_a_sound_configuration_with_a_key_is_ok(place: Place) -> None:
    result = place.run("check", env=KEY)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{place.config}: ok, 1 folder\n", "")
    facts = place.json("check", env=KEY)["data"]
    assert (facts["problems"], facts["state"]) == ([], str(place.state))
    assert facts["folders"] == [{"name": "drop", "path": str(place.drop)}]


def test_a_missing_key_is_78_and_the_places_are_named(place: Place) -> None:
    result = place.run("check")
    assert (result.exit_code, result.stdout) == (78, "")
    for name in ("CHAMELAION_API_KEY_FILE", "CHAMELAION_API_KEY", "api.key_file", "CREDENTIALS_DIRECTORY"):
        assert name in result.stderr
    envelope = place.json("check")
    assert (envelope["ok"], len(envelope["data"]["problems"])) == (False, 1)


def test_every_problem_is_told_at_once_with_its_place(place: Place) -> None:
    place.config.write_text("folders:\n  - path: drop\n    setle: 10s\nlog: {level: loud}\n", encoding="utf-8")
    result = place.run("check", env=KEY)
    assert result.exit_code == 78
    assert [line.split(": ")[0] for line in result.stderr.splitlines()] == [
        f"{place.config}:2:11",
        f"{place.config}:3:5",
        f"{place.config}:4:14",
    ]
    envelope = place.json("check", env=KEY)
    assert envelope["ok"] is False
    assert envelope["data"]["problems"] == result.stderr.splitlines()


def test_a_key_file_that_everybody_can_read_is_a_warning(place: Place) -> None:
    key = place.folder / "key"
    key.write_text("secret-key-0123456789\n")
    key.chmod(0o644)
    result = place.run("check", env={"CHAMELAION_API_KEY_FILE": str(key)})
    assert result.exit_code == 0
    assert "chmod 600" in result.stderr
    assert "secret-key" not in result.output


def test_the_schema_needs_no_configuration(tmp_path: Path) -> None:
    result = run("--config", str(tmp_path / "none.yaml"), "check", "--schema")
    assert result.exit_code == 0
    assert "folders" in json.loads(result.stdout)["properties"]
    assert json.loads(run("check", "--schema", "--json").stdout)["data"] == json.loads(result.stdout)


def test_show_prints_every_option_and_can_be_read_back(place: Place) -> None:
    result = place.run("check", "--show")
    assert result.exit_code == 0
    shown = place.folder / "shown.yaml"
    shown.write_text(result.stdout, encoding="utf-8")
    assert settings.load(shown, {}) == settings.load(place.config, {})
    assert yaml12.read(shown).data == place.json("check", "--show")["data"]


def test_schema_and_show_exclude_each_other(place: Place) -> None:
    assert place.run("check", "--schema", "--show").exit_code == 2


def test_without_a_configuration_all_places_are_named(tmp_path: Path) -> None:
    result = run("--config", str(tmp_path / "none.yaml"), "check", env=KEY)
    assert result.exit_code == 78
    assert "none.yaml" in result.stderr


# -- init ---------------------------------------------------------------------------------------------


def test_what_init_writes_is_a_sound_configuration(tmp_path: Path) -> None:
    config, drop = tmp_path / "my.yaml", tmp_path / "drop"
    result = run("--config", str(config), "init", "--folder", str(drop))
    assert (result.exit_code, result.stdout) == (0, f"{config}: written\n")
    assert [folder.path for folder in settings.load(config, {"HOME": "/home/x"}).folders] == [str(drop)]
    for step in ("make ", "CHAMELAION_API_KEY", f"--config {config} doctor", f"--config {config} run"):
        assert step in result.stderr


def test_init_never_overwrites(tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    config.write_text("mine")
    result = run("--config", str(config), "init")
    assert result.exit_code == 2
    assert "exists already" in result.stderr
    assert config.read_text() == "mine"


def test_init_follows_no_link_to_nowhere(tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    config.symlink_to(tmp_path / "elsewhere.yaml")
    assert run("--config", str(config), "init").exit_code == 2
    assert not (tmp_path / "elsewhere.yaml").exists()


def test_init_writes_where_the_environment_says(tmp_path: Path) -> None:
    config = tmp_path / "named.yaml"
    assert run("init", env={"CHAMELAION_WATCH_CONFIG": str(config)}).exit_code == 0
    assert config.exists()


def test_a_relative_folder_is_meant_from_here(tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    run("--config", str(config), "init", "--folder", "some/../drop")
    assert settings.load(config, {"HOME": "/home/x"}).folders[0].path == str(Path.cwd() / "drop")


@pytest.mark.parametrize("folder", ["/", "a\nb"])
def test_a_folder_that_cannot_be_watched_is_a_usage_error(tmp_path: Path, folder: str) -> None:
    config = tmp_path / "my.yaml"
    result = run("--config", str(config), "init", "--folder", folder)
    assert result.exit_code == 2
    assert not config.exists()


def test_init_into_a_folder_that_is_not_there_is_66(tmp_path: Path) -> None:
    result = run("--config", str(tmp_path / "no" / "my.yaml"), "init")
    assert result.exit_code == 66
    assert "no such file" in result.stderr
