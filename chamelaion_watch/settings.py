"""The configuration: found, read, checked, with all its problems at once, each at its line and column.

The one door to it: models live in `settings_model`, what clashes in `settings_checks`, the key in `settings_key`,
examples and schema in `settings_text`. What it reads is the configuration and the key; a folder is only resolved.
The value of anything that looks like a secret is never repeated in a message.
"""

from __future__ import annotations

import difflib
import os.path
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from chamelaion_watch import yaml12
from chamelaion_watch.core.errors import ConfigError
from chamelaion_watch.core.text import printable
from chamelaion_watch.settings_checks import Problem, clashes
from chamelaion_watch.settings_key import PLACES, is_there, key_problems, read_key
from chamelaion_watch.settings_model import (
    ApiSettings,
    FolderSettings,
    Growth,
    LogSettings,
    PauseSettings,
    Preflight,
    ServerSettings,
    Settings,
    section_at,
)
from chamelaion_watch.settings_text import effective, example_text, init_text, json_schema, to_yaml
from chamelaion_watch.settings_values import checked_base_url, checked_folder
from chamelaion_watch.yaml12 import KeyPath

__all__ = [
    "ApiSettings",
    "FolderSettings",
    "Growth",
    "LogSettings",
    "PauseSettings",
    "Preflight",
    "ServerSettings",
    "Settings",
    "effective",
    "example_text",
    "find_config",
    "init_text",
    "json_schema",
    "key_problems",
    "load",
    "read_key",
    "state_folder",
    "to_yaml",
]

_SYSTEM_FOLDER: Final = Path("/etc/chamelaion-watch")
_SYSTEM_STATE: Final = Path("/var/lib/chamelaion-watch")
_SECRET = re.compile(r"key|token|secret|passw|credential|bearer|auth", re.IGNORECASE)
_LONGEST_PROBLEM: Final = 500
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_BOOLEANS_OF_YAML_1_1: Final = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def find_config(explicit: str | None, env: Mapping[str, str], cwd: Path) -> Path:
    """Return the configuration that is meant: `--config`, the environment, here, or the system's.

    Raises ConfigError if there is none; one that is named but absent is an error, not passed over.
    """
    for origin, named in (("--config", explicit), ("CHAMELAION_WATCH_CONFIG", env.get("CHAMELAION_WATCH_CONFIG"))):
        if named:
            return _existing(origin, cwd / named)
    places = [cwd / "config.yaml", _SYSTEM_FOLDER / "config.yaml"]
    found = next(filter(is_there, places), None)
    if found is None:
        looked = ", ".join(["--config", "$CHAMELAION_WATCH_CONFIG", *map(str, places)])
        raise ConfigError([f"there is no configuration; looked at {looked}: `chamelaion-watch init` writes one"])
    return found


def load(path: Path, env: Mapping[str, str]) -> Settings:
    """Return the configuration in the file, `CHAMELAION_BASE_URL` put in; no folder or key is touched.

    Raises ConfigError with every problem there is, in the order of the file: `config.yaml:8:17: folders.0.settle: …`.
    """
    document = yaml12.read(path)
    settings, problems = _validated(document.data)
    problems += _clashes(document.data, path, env)
    lines = [_located(document, problem) for problem in sorted(problems, key=lambda p: _place(document, p))]
    base_url = env.get("CHAMELAION_BASE_URL", "").strip()
    try:
        base_url = checked_base_url(base_url) if base_url else ""
    except ValueError as error:
        lines.append(f"CHAMELAION_BASE_URL: {error}")
    if lines or settings is None:
        raise ConfigError(lines)
    return _with_base_url(settings, base_url) if base_url else settings


def state_folder(settings: Settings, config_path: Path, env: Mapping[str, str]) -> Path:
    """Return the folder of the ledger: as configured, else the system's or the user's usual place."""
    return Path(settings.state) if settings.state else _usual_state_folder(config_path, env)


# -- finding ------------------------------------------------------------------------------------------


def _existing(origin: str, path: Path) -> Path:
    if not is_there(path):
        raise ConfigError([f"{path}: there is no such configuration (named by {origin})"])
    return path


def _usual_state_folder(config_path: Path, env: Mapping[str, str]) -> Path:
    config = Path(os.path.abspath(config_path))  # noqa: PTH100 - resolves `..` without asking the disk
    if _SYSTEM_FOLDER in config.parents:
        return _SYSTEM_STATE / config.stem
    state_home = Path(env.get("XDG_STATE_HOME", ""))
    if not state_home.is_absolute():  # the specification says to ignore a relative one
        state_home = Path(env.get("HOME") or Path.home(), ".local", "state")
    return state_home / "chamelaion-watch"


def _with_base_url(settings: Settings, base_url: str) -> Settings:
    return settings.model_copy(update={"api": settings.api.model_copy(update={"base_url": base_url})})


# -- problems -----------------------------------------------------------------------------------------


def _validated(data: Any) -> tuple[Settings | None, list[Problem]]:
    if data is None:
        return None, [Problem((), "the configuration is empty: `chamelaion-watch init` writes one")]
    try:
        return Settings.model_validate(data), []
    except ValidationError as error:
        return None, [p for p in map(_problem, error.errors(include_url=False)) if p]


def _clashes(data: Any, path: Path, env: Mapping[str, str]) -> Iterator[Problem]:
    """Compare what is valid by itself even if something else is not, so that all problems come at once."""
    written = data if isinstance(data, dict) else {}
    folders = written.get("folders")
    valid = {index: _valid_part(folder) for index, folder in enumerate(folders if isinstance(folders, list) else [])}
    state = written.get("state")
    place = _written_state(state) if state is not None else str(_usual_state_folder(path, env))
    return clashes({i: folder for i, folder in valid.items() if folder}, place, state_is_written=state is not None)


def _written_state(state: object) -> str | None:
    """Return the state folder, None if it is no folder: then its own problem is enough."""
    try:
        return checked_folder(str(state))
    except ValueError:
        return None


def _valid_part(written: Any) -> FolderSettings | None:
    """Return the folder with its faulty options at their defaults, None if its path is faulty."""
    try:
        return FolderSettings.model_validate(written)
    except ValidationError as error:
        faulty = {e["loc"][0] if e["loc"] else "path" for e in error.errors(include_url=False)}
    if "path" in faulty:
        return None
    return FolderSettings.model_validate({key: value for key, value in written.items() if key not in faulty})


def _place(document: yaml12.Document, problem: Problem) -> yaml12.Place:
    return document.place(problem.path, of_key=problem.of_key)


def _located(document: yaml12.Document, problem: Problem) -> str:
    place = _place(document, problem)
    where, words = f"{document.name}:{place.line}:{place.column}", printable(problem.words, _LONGEST_PROBLEM)
    return f"{where}: {_dotted(problem.path)}: {words}" if problem.path else f"{where}: {words}"


def _dotted(path: KeyPath) -> str:
    return ".".join(_shown_key(str(part)) for part in path)


def _shown_key(key: str) -> str:
    plain = _PLAIN_KEY.match(key)
    if plain and plain.end() == len(key):
        return key
    if _SECRET.search(key):  # CHAMELAION_API_KEY=abc without a colon is all key and no value
        return f"{plain[0] if plain else ''}…"
    return repr(printable(key, 40))


# -- pydantic's errors in our words -------------------------------------------------------------------


def _problem(error: Any) -> Problem | None:
    """Return the problem that pydantic found; None for a list that is short only as all its items are faulty."""
    path: KeyPath = error["loc"]
    match error["type"]:
        case "extra_forbidden":
            return Problem(path, _unknown_key(path), of_key=True)
        case "missing":
            return Problem(path, "is missing" if path[-1] != "folders" else "is missing: name a folder to watch")
        case "too_short":
            return Problem(path, "must have at least one entry") if not error["input"] else None
        case "value_error":
            return Problem(path, str(error["ctx"]["error"]))
        case _:
            return Problem(path, _expected(error) + _instead(path, error["input"]) + _did_you_mean(error))


def _expected(error: Any) -> str:
    match error["type"]:
        case "literal_error":
            return f"must be one of {', '.join(_choices(error))}"
        case "greater_than_equal":
            return f"must be at least {error['ctx']['ge']}"
        case "less_than_equal":
            return f"must be at most {error['ctx']['le']}"
        case kind:
            return _EXPECTED.get(kind) or printable(error["msg"].lower(), 100)


_EXPECTED: Final = {
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "model_type": "must be a mapping of options",
}


def _instead(path: KeyPath, value: Any) -> str:
    if any(isinstance(part, str) and _SECRET.search(part) for part in path):
        return ""
    match value:
        case dict():
            return ", not a mapping"
        case list():
            return ", not a list"
        case None | bool():
            return f", not {yaml12.dump_inline(value)}"
        case int() | float():
            return f", not the number {printable(str(value), 40)}"
        case _ if len(path) == 1 or section_at(path):
            return ", not text"  # where a mapping belongs people may well have put the key
        case _:
            return f", not {printable(str(value), 40)!r}"


def _did_you_mean(error: Any) -> str:
    value = error["input"]
    if not isinstance(value, str):
        return ""
    if error["type"] == "bool_type" and value.lower() in _BOOLEANS_OF_YAML_1_1:
        return f"; did you mean {_BOOLEANS_OF_YAML_1_1[value.lower()]}?"
    if error["type"] == "tuple_type" and len(error["loc"]) > 1:
        return f"; did you mean {yaml12.dump_inline([value[:40]])}?"
    near = difflib.get_close_matches(value.lower(), _choices(error), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _choices(error: Any) -> list[str]:
    return re.findall(r"'([^']*)'", error["ctx"]["expected"]) if error["type"] == "literal_error" else []


def _unknown_key(path: KeyPath) -> str:
    key = str(path[-1])
    section = section_at(path[:-1]) or Settings
    near = difflib.get_close_matches(key.lower(), section.model_fields, n=1)
    if near and (_SECRET.search(near[0]) or not _SECRET.search(key)):
        return f"unknown option; did you mean {near[0]}?"
    if _SECRET.search(key):
        return f"the key never stands in the configuration; put it into one of {', '.join(PLACES)}"
    elsewhere = [place for place in _option_places() if place.rpartition(".")[2] == key]
    return f"unknown option; did you mean {elsewhere[0]}?" if elsewhere else "unknown option"


def _option_places(prefix: tuple[str, ...] = ()) -> Iterator[str]:
    section = section_at(prefix)
    for name in section.model_fields if section else ():
        yield ".".join((*prefix, name))
        yield from _option_places((*prefix, name))
