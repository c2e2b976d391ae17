"""Output templates such as `{dir}/{name}.lipsync.mp4`: what one may say, and where its results will land.

Only the words are checked and the folder is worked out; file names are made in `core.naming`.
"""

from __future__ import annotations

import difflib
import os.path
import re
from typing import Final, NamedTuple

from chamelaion_watch.core.naming import Ours
from chamelaion_watch.core.text import printable

FIELDS: Final = ("dir", "stem", "lang", "name", "date")
OWN_ENDING: Final = str(Ours.OUTPUT)  # what every watched folder ignores, so that no result is taken for a new video
_FIELD = re.compile(r"\{([^{}]*)\}")


class Landing(NamedTuple):
    """Where results arrive: in `folder` itself, or also anywhere below it."""

    folder: str
    may_be_below: bool


def checked_template(template: str) -> str:
    """Return the template; raises ValueError if it is not one, whatever the folder."""
    for problem in (_field_problem(template), _path_problem(template), _name_problem(template)):
        if problem:
            raise ValueError(problem)
    return template


def has_field(template: str, field: str) -> bool:
    return field in _FIELD.findall(template)


def landing(template: str, folder: str) -> Landing:
    """Return where the results of a checked template in this folder arrive."""
    parts = template.split("/")[:-1]
    fixed = _fixed_parts(parts)
    return Landing(os.path.normpath(os.path.join(folder, *fixed)), may_be_below=len(fixed) < len(parts))  # noqa: PTH118


def _field_problem(template: str) -> str | None:
    for field in _FIELD.findall(template):
        if field not in FIELDS:
            near = difflib.get_close_matches(field, FIELDS, n=1)
            hint = (
                f"did you mean {{{near[0]}}}?" if near else f"known are {', '.join(f'{{{name}}}' for name in FIELDS)}"
            )
            return f"unknown field {{{printable(field, 40)}}}; {hint}"
    if re.search(r"[{}]", _FIELD.sub("", template)):
        return "a brace without its other half"
    if has_field(template, "name") or (has_field(template, "stem") and has_field(template, "lang")):
        return None
    return "needs {name}, or {stem} and {lang}: without them two results would get one name"


def _path_problem(template: str) -> str | None:
    parts = template.split("/")
    if template.startswith("/"):
        return "must be relative to the folder's path: an output folder elsewhere is written ../results/…"
    if not template.isprintable() or "\\" in template:
        return "must not contain control characters or backslashes"
    if ".." in parts[len(_fixed_parts(parts)) :]:
        return "`..` may only stand before the first field"
    return None


def _name_problem(template: str) -> str | None:
    return None if template.endswith(".mp4") else "must end in .mp4"


def _fixed_parts(parts: list[str]) -> list[str]:
    """Return the leading parts that hold no field."""
    first = next((index for index, part in enumerate(parts) if _FIELD.search(part)), len(parts))
    return parts[:first]
