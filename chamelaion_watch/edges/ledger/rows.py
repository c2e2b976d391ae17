"""Jobs as rows and rows as jobs: names are the columns of `schema`, paths and names travel as bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from operator import attrgetter
from typing import Any

from chamelaion_watch.core.model import Job, JobState, Options, Signature, Source
from chamelaion_watch.edges.ledger.protocol import CommandRow, RootRow

UNREADABLE = "unreadable"
_AS_BYTES = ("key", "name", "folder", "stem", "output")
_AS_BOOL = ("is_superseded", "must_look_up")
_PLAIN = tuple(
    name for name in Job.__slots__ if name not in {"id", "video", "audio", "options", "state", *_AS_BYTES, *_AS_BOOL}
)
_SOURCE = ("path", "size", "mtime_ns", "sha256")
_SOURCES = tuple(f"{prefix}_{name}" for prefix in ("video", "audio") for name in _SOURCE)
# As in `job_to_row` and `job_from_row`: rows are written 12 times for each pair, and read by ten thousands at a start.
COLUMNS = (*_PLAIN, *_AS_BYTES, *_AS_BOOL, *_SOURCES, "options", "state")
_plain_of = attrgetter(*_PLAIN)


def job_to_row(job: Job) -> tuple[Any, ...]:
    """Return the values of COLUMNS; the id is not among them."""
    return (
        *_plain_of(job),
        *(encode(getattr(job, name)) for name in _AS_BYTES),
        *(int(getattr(job, name)) for name in _AS_BOOL),
        *_source_to_row(job.video),
        *_source_to_row(job.audio),
        _options_to_text(job.options),
        str(job.state),
    )


def job_from_row(row: Sequence[Any]) -> Job:
    """Return the job of a row that holds its id and then COLUMNS."""
    job_id, *found = row
    values: dict[str, Any] = dict(zip(COLUMNS, found, strict=True))
    for name in _AS_BYTES:
        values[name] = decode(values[name])
    for name in _AS_BOOL:
        values[name] = bool(values[name])
    video, audio = ([values.pop(f"{prefix}_{name}") for name in _SOURCE] for prefix in ("video", "audio"))
    values["options"] = _options_from_text(values["options"])
    values["state"] = JobState(values["state"])
    return Job(id=job_id, video=_source_from_row(*video), audio=_source_from_row(*audio), **values)


def root_from_row(row: Mapping[str, Any]) -> RootRow:
    flags = {name: bool(row[name]) for name in ("has_sentinel", "is_read_only", "is_held", "is_paused")}
    return RootRow(**{**dict(row), **flags, "path": os.fsdecode(row["path"])})


def command_from_row(row: Mapping[str, Any]) -> CommandRow:
    """Return the row as a command; one whose arguments are no texts by name is `unreadable`, and answered so."""
    args = _texts(row["args"])
    verb = UNREADABLE if args is None else row["verb"]
    return CommandRow(row["id"], row["at"], verb, args or {}, row["applied_at"], row["result"])


def _texts(written: str) -> dict[str, str] | None:
    try:
        found = json.loads(written)
    except (ValueError, RecursionError):
        return None
    is_texts = isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
    return found if is_texts else None


def encode(path: str | None) -> bytes | None:
    return None if path is None else os.fsencode(path)


def decode(path: bytes | None) -> str | None:
    return None if path is None else os.fsdecode(path)


def storable(values: Sequence[Any] | Mapping[str, Any]) -> Sequence[Any] | Mapping[str, Any]:
    """Make texts storable: bytes of names that are no UTF-8 become escapes. Paths travel as bytes, and unchanged."""
    if isinstance(values, Mapping):
        return {name: _clean(value) for name, value in values.items()}
    return tuple(_clean(value) for value in values)


def _clean(value: Any) -> Any:
    is_odd = isinstance(value, str) and not value.isascii()
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if is_odd else value


@lru_cache(maxsize=64)
def _options_to_text(options: Options) -> str:
    return json.dumps(asdict(options), sort_keys=True)


@lru_cache(maxsize=64)
def _options_from_text(text: str) -> Options:
    found = json.loads(text)
    return Options(**{name: found[name] for name in Options.__slots__ if name in found})


def _source_to_row(source: Source) -> tuple[bytes | None, int, int, str]:
    return encode(source.path), source.signature.size, source.signature.mtime_ns, source.sha256


def _source_from_row(path: bytes, size: int, mtime_ns: int, sha256: str) -> Source:
    return Source(os.fsdecode(path), Signature(size, mtime_ns), sha256)
