"""Jobs as rows and rows as jobs: names are the columns of `schema`, paths and names travel as bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from chamelaion_watch.core.model import Job, JobState, Options, Signature, Source
from chamelaion_watch.edges.ledger.protocol import CommandRow, RootRow

UNREADABLE = "unreadable"
_AS_BYTES = ("key", "name", "folder", "stem", "output")
_AS_BOOL = ("is_superseded", "must_look_up")
_PLAIN = tuple(
    name for name in Job.__slots__ if name not in {"video", "audio", "options", "state", *_AS_BYTES, *_AS_BOOL}
)


def job_to_row(job: Job) -> dict[str, Any]:
    """Return the job as a row, without its id."""
    row: dict[str, Any] = {name: getattr(job, name) for name in _PLAIN}
    row.update({name: encode(getattr(job, name)) for name in _AS_BYTES})
    row.update({name: int(getattr(job, name)) for name in _AS_BOOL})
    row.update(_source_to_row("video", job.video) | _source_to_row("audio", job.audio))
    row["options"] = json.dumps(asdict(job.options), sort_keys=True)
    row["state"] = str(job.state)
    del row["id"]
    return row


def job_from_row(row: Mapping[str, Any]) -> Job:
    """Return the row as a job."""
    values: dict[str, Any] = {name: row[name] for name in _PLAIN}
    values.update({name: decode(row[name]) for name in _AS_BYTES})
    values.update({name: bool(row[name]) for name in _AS_BOOL})
    options = json.loads(row["options"])
    return Job(
        **values,
        video=_source_from_row("video", row),
        audio=_source_from_row("audio", row),
        options=Options(**{name: options[name] for name in Options.__slots__ if name in options}),
        state=JobState(row["state"]),
    )


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
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _source_to_row(prefix: str, source: Source) -> dict[str, Any]:
    return {
        f"{prefix}_path": encode(source.path),
        f"{prefix}_size": source.signature.size,
        f"{prefix}_mtime_ns": source.signature.mtime_ns,
        f"{prefix}_sha256": source.sha256,
    }


def _source_from_row(prefix: str, row: Mapping[str, Any]) -> Source:
    return Source(
        os.fsdecode(row[f"{prefix}_path"]),
        Signature(row[f"{prefix}_size"], row[f"{prefix}_mtime_ns"]),
        row[f"{prefix}_sha256"],
    )
