"""The configuration as text: the complete example, what `init` writes, what `check` shows, the JSON Schema.

All of it is made from the models, so that a default or a comment stands in one place only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic.fields import FieldInfo

from chamelaion_watch import yaml12
from chamelaion_watch.core.errors import ConfigError
from chamelaion_watch.settings_model import FolderSettings, Growth, Preflight, Section, Settings, section_at
from chamelaion_watch.settings_values import checked_folder

_EXAMPLE_FOLDER: Final = "/srv/share/lipsync"
_EXAMPLE_HEAD: Final = """\
# Every option of chamelaion-watch at its default; a line that you leave out means the same.
# `chamelaion-watch init` writes a short one to begin with, `chamelaion-watch check` finds what is wrong in yours.
# Durations: 500ms 10s 5m 6h 90d. Sizes: 1024B 1KiB 64MB 2GiB. YAML 1.2: `no` is a language.
# The API key never stands here: see key_file."""
_INIT_HEAD: Final = """\
# chamelaion-watch: drop a video and a sound track into a folder; the lip-synced video appears beside them.
# These are the options that people change; `chamelaion-watch check --show` lists all with their values.
# The API key never stands here. Put it into the environment (CHAMELAION_API_KEY), or into a file of its own
# (chmod 600) named by CHAMELAION_API_KEY_FILE or by key_file below.
# Then: chamelaion-watch doctor, and chamelaion-watch run"""
_INIT_OPTIONS: Final = frozenset(
    {
        "api.key_file",
        "api.requests_per_minute",
        "max_jobs_per_day",
        "folders.path",
        "folders.output",
        "folders.recursive",
        "folders.languages",
        "folders.backlog",
        "folders.receipts",
        "log.level",
    }
)


def example_text() -> str:
    """Return what `config.example.yaml` holds."""
    return "\n".join([_EXAMPLE_HEAD, *_written(_defaults(_EXAMPLE_FOLDER), None)]) + "\n"


def init_text(folder: str | None = None) -> str:
    """Return the short commented configuration that `init` writes; raises ConfigError if `folder` cannot be watched."""
    try:
        path = checked_folder(_EXAMPLE_FOLDER if folder is None else folder)
        path.encode()
    except ValueError as error:
        words = "its name is not UTF-8, so it cannot be written" if isinstance(error, UnicodeError) else str(error)
        raise ConfigError([f"{folder!r}: {words}"]) from error
    return "\n".join([_INIT_HEAD, *_written(_defaults(path), _INIT_OPTIONS)]) + "\n"


def effective(settings: Settings) -> dict[str, Any]:
    """Return every option with its value in its written form, as plain data; there is no secret among them."""
    return settings.model_dump(mode="json")


def to_yaml(data: Mapping[str, Any]) -> str:
    """Return plain data, such as `effective` gives, as YAML."""
    return yaml12.dump(data)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration, for editors."""
    schema = Settings.model_json_schema(mode="serialization")  # this mode shows defaults in their written form
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _defaults(folder: str) -> dict[str, Any]:
    return effective(Settings(folders=(FolderSettings.model_validate({"path": folder}),)))


def _written(values: Mapping[str, Any], only: frozenset[str] | None) -> Iterator[str]:
    """Yield the lines of the whole configuration, or of the options in `only`, each below its comment."""
    for name, field in Settings.model_fields.items():
        lines = list(_option((name,), field, values[name], only))
        yield from ["", *lines] if lines else []


def _option(path: tuple[str, ...], field: FieldInfo, value: Any, only: frozenset[str] | None) -> Iterator[str]:
    indent = "  " * (len(path) - 1)
    comment, key = f"{indent}# {field.description}", f"{indent}{path[-1]}:"
    model = section_at(path)
    if model is None or issubclass(model, Growth | Preflight):
        yield from [comment, f"{key} {yaml12.dump_inline(value)}"] if only is None or ".".join(path) in only else []
    elif model is FolderSettings:
        yield from [comment, key, *_as_list_item(list(_section(path, model, value[0], only)))]
    elif lines := list(_section(path, model, value, only)):
        yield from [comment, key, *lines]


def _section(
    path: tuple[str, ...], model: type[Section], values: Mapping[str, Any], only: frozenset[str] | None
) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield from _option((*path, name), field, values[name], only)


def _as_list_item(lines: list[str]) -> list[str]:
    """Return the lines of a mapping as the item of a list: a dash before its first key, the rest indented."""
    first = next(index for index, line in enumerate(lines) if not line.lstrip().startswith("#"))
    dashed = lines[first].replace("  ", "  - ", 1)
    return [*lines[:first], dashed, *(f"  {line}" for line in lines[first + 1 :])]
