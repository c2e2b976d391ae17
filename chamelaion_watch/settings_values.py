"""The kinds of values that the configuration holds, each with the check that one value alone can fail.

A check returns the value as it is kept and raises ValueError with what to write instead. Its words never repeat an
address or a path: people paste keys into the wrong line.
"""

from __future__ import annotations

import difflib
import ipaddress
import os.path
import re
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, Strict, WithJsonSchema

from chamelaion_watch import units
from chamelaion_watch.core.text import printable
from chamelaion_watch.templates import checked_template

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_EXTENSION = re.compile(r"\.[^\s./\\\x00-\x1f\x7f-\x9f]{1,15}")
_MODE = re.compile(r"0?[0-7]{3}")
_SHORTEST_S: Final = 0.01  # anything shorter is a busy loop
_OWNER_MAY_READ_AND_WRITE: Final = 0o600


def checked_base_url(value: str) -> str:
    """Return the address without a trailing slash; plain http only to a loopback or private address."""
    if re.search(r"[\s\x00-\x1f\x7f\\]", value):
        raise ValueError("must not contain white space, control characters or backslashes")
    parts = _split(value)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("must be an address such as https://api.chamelaion.com/api")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user name or password")
    if "?" in value or "#" in value:
        raise ValueError("must not contain a query or fragment (? or #)")
    if parts.scheme == "http" and not _is_private(parts.hostname):
        raise ValueError("must be https: the key would travel unencrypted to a public host")
    return value.rstrip("/")


def checked_line(value: str) -> str:
    """Return the text; it must be one visible line."""
    if not value.strip() or _CONTROL.search(value):
        raise ValueError("must be one line of text without control characters")
    return value


def checked_local_path(value: str) -> str:
    """Return an absolute path without a trailing slash; the file system is not asked."""
    if _CONTROL.search(value):
        raise ValueError("must not contain control characters such as NUL or a line break")
    if value.startswith("~"):
        raise ValueError("~ is not expanded here: write the full path")
    if not value.startswith("/"):
        raise ValueError("must be an absolute path, one that begins with /")
    if ".." in value.split("/"):
        raise ValueError("must not contain `..`: write the path it leads to")
    return "/" + os.path.normpath(value).lstrip("/")  # POSIX keeps two leading slashes


def checked_folder(value: str) -> str:
    """Return an absolute path that is not the whole machine."""
    path = checked_local_path(value)
    if path == "/":
        raise ValueError("must be a folder of its own, not / which is the whole machine")
    return path


def _checked_name(value: str) -> str:
    if "/" in value or value in (".", ".."):
        raise ValueError("must be a plain name without /")
    return checked_line(value)


def _checked_state(value: str) -> str:
    if re.match(r"postgres(ql)?:", value):
        raise ValueError("PostgreSQL is not available in this version yet: write null or a local folder")
    return checked_folder(value)


def _checked_extension(value: str) -> str:
    if not _EXTENSION.fullmatch(value):
        hint = f": write .{value.lower()}" if _EXTENSION.fullmatch(f".{value}") else " such as .mp4"
        raise ValueError(f"must be a dot and an extension{hint}")
    return value.lower()


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _checked_glob(value: str) -> str:
    if value.startswith("/"):
        raise ValueError("a glob is matched against names: it cannot begin with /")
    return checked_line(value)


def _checked_language(value: str) -> str:
    """Return the tag or name as written; `core.languages` says which language it is."""
    from chamelaion_watch.core.languages import canonical, named_tag  # only for a configuration that names languages

    tag = named_tag(value)
    if canonical(value) or (tag and _is_registered(tag)):
        return value
    raise ValueError(f"{printable(value, 40)!r} is not a language; {_language_hint(value)}")


def _is_registered(tag: str) -> bool:
    import langcodes

    return langcodes.tag_is_valid(tag)


def _language_hint(value: str) -> str:
    from chamelaion_watch.core.languages import LANGUAGES, canonical

    words = [word.casefold() for language in LANGUAGES for word in (*language.codes, *language.names)]
    near = difflib.get_close_matches(value.casefold(), words, n=1)
    return f"did you mean {canonical(near[0])}?" if near else "write a tag such as de or pt-BR"


def _positive_duration_s(value: object) -> float:
    seconds = units.duration_s(value)
    if seconds < _SHORTEST_S:
        raise ValueError(f"must be at least {units.duration_text(_SHORTEST_S)}")
    return seconds


def _positive_size_bytes(value: object) -> int:
    count = units.size_bytes(value)
    if count < 1:
        raise ValueError("must be larger than 0B")
    return count


def _mode_bits(value: object) -> int:
    """Return permission bits from `"0664"`: YAML 1.2 reads 0664 without quotes as six hundred and sixty-four."""
    if not isinstance(value, str):
        raise ValueError('must be octal digits in quotes, such as "0664"')  # noqa: TRY004 - pydantic collects ValueErrors only
    if not _MODE.fullmatch(value):
        raise ValueError('must be three octal digits after a 0, such as "0664"')
    bits = int(value, 8)
    if bits & _OWNER_MAY_READ_AND_WRITE != _OWNER_MAY_READ_AND_WRITE:
        raise ValueError('must let the owner read and write, such as "0664"')
    return bits


def _mode_text(bits: int) -> str:
    return f"{bits:04o}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is no number up to 65535
    except ValueError:
        raise ValueError("must be an address such as https://api.chamelaion.com/api") from None
    return parts


def _is_private(host: str) -> bool:
    """Say whether a host is certainly not on the internet; a name is not looked up, so only localhost counts."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private


def _written(kind: str, pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, "pattern": pattern, "examples": list(examples)})


Whole = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict()]
Line = Annotated[Text, AfterValidator(checked_line)]
LocalPath = Annotated[Text, AfterValidator(checked_local_path)]
FolderPath = Annotated[Text, AfterValidator(checked_folder)]
StatePath = Annotated[Text, AfterValidator(_checked_state)]
BaseUrl = Annotated[Text, AfterValidator(checked_base_url)]
Name = Annotated[Text, AfterValidator(_checked_name)]
OutputTemplate = Annotated[Text, AfterValidator(checked_template)]
Language = Annotated[Text, AfterValidator(_checked_language)]
Glob = Annotated[Text, AfterValidator(_checked_glob)]
Extensions = Annotated[tuple[Annotated[Text, AfterValidator(_checked_extension)], ...], AfterValidator(_unique)]
Duration = Annotated[
    float,
    BeforeValidator(_positive_duration_s),
    PlainSerializer(units.duration_text, return_type=str, when_used="json"),
    _written("string", units.DURATION_PATTERN, "10s", "5m", "6h"),
]
Size = Annotated[
    int,
    BeforeValidator(_positive_size_bytes),
    PlainSerializer(units.size_text, return_type=str, when_used="json"),
    _written("string", units.SIZE_PATTERN, "1KiB", "2GiB"),
]
Mode = Annotated[
    int,
    BeforeValidator(_mode_bits),
    PlainSerializer(_mode_text, return_type=str, when_used="json"),
    _written("string", "^0?[0-7]{3}$", "0664"),
]
