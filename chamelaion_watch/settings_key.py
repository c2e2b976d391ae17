"""Where the API key comes from; it is never in the configuration, and no message here repeats any of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from chamelaion_watch.core.errors import ConfigError
from chamelaion_watch.settings_model import Settings

PLACES: Final = (
    "$CREDENTIALS_DIRECTORY/chamelaion-api-key",
    "a file named by CHAMELAION_API_KEY_FILE",
    "CHAMELAION_API_KEY",
    "a file named by api.key_file",
)
_MAX_BYTES: Final = 8192
_FOR_OTHERS: Final = 0o007
_LOOKS_LIKE_A_KEY = re.compile(r"[^/\s]\S{15,}")  # people do paste the key itself, and it may hold a slash


class _Source(NamedTuple):
    """A place that names the key: a file, or the text itself."""

    place: str
    file: Path | None = None
    text: str = ""


def read_key(settings: Settings, env: Mapping[str, str]) -> str:
    """Return the key from the first of the places that is set, white space around it cut.

    Raises ConfigError if none is, or if what is there cannot be a key: a place that is set is never skipped.
    """
    source = _source(settings, env)
    if source is None:
        raise ConfigError([f"there is no API key; it is looked for in {', '.join(PLACES)}"])
    key = (source.text if source.file is None else _file_text(source.place, source.file)).strip()
    problem = _problem(key)
    if problem:
        where = source.place if source.file is None else f"{source.place}: {source.file}"
        raise ConfigError([f"{where}: {problem}"])
    return key


def key_problems(settings: Settings, env: Mapping[str, str]) -> list[str]:
    """Return warnings about how the key is kept: a file that everybody on the machine can read."""
    source = _source(settings, env)
    if source is None or source.file is None:
        return []
    try:
        mode = source.file.stat().st_mode & 0o777
    except OSError:
        return []  # read_key says it
    if not mode & _FOR_OTHERS:
        return []
    path = shlex.quote(str(source.file))
    return [f"{source.file}: everybody on this machine can read the key (mode {mode:04o}): chmod 600 {path}"]


def is_there(path: Path) -> bool:
    """Say whether something lies at this path; what cannot be looked at does, so that reading it says why."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _source(settings: Settings, env: Mapping[str, str]) -> _Source | None:
    credentials = env.get("CREDENTIALS_DIRECTORY")
    if credentials and is_there(file := Path(credentials, "chamelaion-api-key")):
        return _Source("$CREDENTIALS_DIRECTORY", file)
    if "CHAMELAION_API_KEY_FILE" in env:
        name = env["CHAMELAION_API_KEY_FILE"].strip()
        return _Source("CHAMELAION_API_KEY_FILE", Path(name) if name else None)
    if "CHAMELAION_API_KEY" in env:
        return _Source("CHAMELAION_API_KEY", text=env["CHAMELAION_API_KEY"])
    if settings.api.key_file is not None:
        return _Source("api.key_file", Path(settings.api.key_file))
    return None


def _file_text(place: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ConfigError([f"{place}: {_unreadable(path, error)}"]) from None
    if len(raw) > _MAX_BYTES:
        raise ConfigError([f"{place}: {path} is larger than {_MAX_BYTES} bytes: this is not a key"])
    return raw.decode("utf-8-sig", "replace")


def _unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, PermissionError) and _LOOKS_LIKE_A_KEY.fullmatch(str(path)):
        return "names a file that does not exist; it must be a path, not the key itself"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{path} cannot be read: {(reason or str(error)).lower()}"


def _problem(key: str) -> str | None:
    if not key:
        return "is empty: the key is missing"
    if len(key.split()) > 1:
        return "has white space inside: it must be the key alone, on one line"
    if not key.isascii() or not key.isprintable():
        return "has characters that no key has: control characters, or letters beyond ASCII"
    return None
