"""`check` and `init`: is the configuration right, and a first one to begin with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from chamelaion_watch import settings as configuration
from chamelaion_watch.cli import Globals
from chamelaion_watch.cli.output import CONFIG, NO_INPUT, OK, USAGE, emit, json_option, leave, say
from chamelaion_watch.core.errors import ConfigError
from chamelaion_watch.core.text import printable
from chamelaion_watch.settings_model import Settings

# -- check --------------------------------------------------------------------------------------------


@click.command("check", short_help="Check the configuration, or print it (--show, --schema).")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the configuration, for editors.")
@click.option("--show", is_flag=True, help="Print every option with its value, defaults included.")
@json_option
@click.pass_obj
def check_command(obj: Globals, schema: bool, show: bool, as_json: bool) -> None:
    """Check the configuration and that there is an API key; neither a folder nor the service is asked.

    Every problem is told at once, with its line and column. Exits with 78 if anything is wrong or the key is missing;
    --show and --schema do without the key. Whether key and folders really work is what `doctor` finds out.
    """
    if schema and show:
        raise click.UsageError("--schema and --show exclude each other")
    if schema:
        _print_schema(as_json)
        return
    try:
        config = obj.config_path()
        settings = configuration.load(config, os.environ)
    except ConfigError as error:
        _leave_wrong(error.problems, as_json)
    if show:
        _print_effective(settings, as_json)
    else:
        _print_check(config, settings, as_json)


def _print_schema(as_json: bool) -> None:
    schema = configuration.json_schema()
    if as_json:
        emit("check", schema)
    else:
        click.echo(json.dumps(schema, indent=2, ensure_ascii=False))


def _print_effective(settings: Settings, as_json: bool) -> None:
    if as_json:
        emit("check", configuration.effective(settings), warnings=_warnings(settings))
    else:
        click.echo(configuration.to_yaml(configuration.effective(settings)), nl=False)


def _print_check(config: Path, settings: Settings, as_json: bool) -> None:
    problems = _key_problems(settings)
    warnings = _warnings(settings)
    if as_json:
        emit("check", _check_facts(config, settings, problems), ok=not problems, warnings=warnings)
    elif not problems:
        number = len(settings.folders)
        click.echo(f"{printable(str(config), 4096)}: ok, {number} folder{'s' if number > 1 else ''}")
    for line in (*warnings, *problems):
        say(line)
    if problems:
        leave(CONFIG)


def _leave_wrong(problems: list[str], as_json: bool) -> None:
    if as_json:
        emit("check", {"problems": problems}, ok=False)
    leave(CONFIG, *problems)


def _check_facts(config: Path, settings: Settings, problems: list[str]) -> dict[str, Any]:
    return {
        "problems": problems,
        "config": str(config),
        "state": str(configuration.state_folder(settings, config, os.environ)),
        "folders": [{"name": folder.name, "path": folder.path} for folder in settings.folders],
    }


def _key_problems(settings: Settings) -> list[str]:
    try:
        configuration.read_key(settings, os.environ)
    except ConfigError as error:
        return error.problems
    return []


def _warnings(settings: Settings) -> list[str]:
    return configuration.key_problems(settings, os.environ)


# -- init ---------------------------------------------------------------------------------------------


@click.command("init", short_help="Write a short commented configuration to begin with.")
@click.option("--folder", metavar="PATH", help="The drop folder to watch; it need not be there yet.")
@click.pass_obj
def init_command(obj: Globals, folder: str | None) -> None:
    """Write ./config.yaml, or what --config or $CHAMELAION_WATCH_CONFIG names; nothing is ever overwritten.

    Exits with 2 if the file exists already, 66 if it cannot be written there.

    Example: chamelaion-watch init --folder /srv/share/lipsync
    """
    named = obj.config or os.environ.get("CHAMELAION_WATCH_CONFIG")
    path = Path(named or "config.yaml")
    watched = None if folder is None else os.path.abspath(Path(folder).expanduser())  # noqa: PTH100 - resolves `..`
    try:
        text = configuration.init_text(watched)
    except ConfigError as error:
        raise click.UsageError(f"--folder: {error.message}") from error
    _write_new(path, text)
    click.echo(f"{printable(str(path), 4096)}: written")
    for line in _next_steps(path if obj.config else None, watched):
        say(line)
    leave(OK)


def _write_new(path: Path, text: str) -> None:
    shown = printable(str(path), 4096)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        leave(USAGE, f"{shown} exists already and is left as it is; name another file with --config, or move it away")
    except OSError as error:
        leave(NO_INPUT, f"{shown}: cannot be written: {(error.strerror or str(error)).lower()}")


def _next_steps(config: Path | None, watched: str | None) -> list[str]:
    command = "chamelaion-watch" + (f" --config {config}" if config else "")
    steps = ["set `path` of the folder to the one to watch"] if watched is None else []
    if watched is not None and not Path(watched).is_dir():
        steps.append(f"make {printable(watched, 4096)}, or mount it: it is waited for")
    steps += ["put the API key into CHAMELAION_API_KEY, or into a file named by CHAMELAION_API_KEY_FILE"]
    steps += [f"{command} doctor   looks whether everything works", f"{command} run      begins"]
    return ["next:", *(f"  {number}. {step}" for number, step in enumerate(steps, 1))]
