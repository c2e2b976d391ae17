"""The texts that people and scripts read on the share: error, attention and doubtful notes, receipts.

Written for an editor without a terminal: plain words first, one technical line last. Text is UTF-8 with BOM and CRLF,
so that every editor on Windows opens it well. Everything that came from outside goes through `printable`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from chamelaion_watch.core.advice import CARETAKER, Advice, advice_for
from chamelaion_watch.core.model import Attempt, Job, Millis, RelPath, Source, Unpaired
from chamelaion_watch.core.pairing import MOST_RIVALS
from chamelaion_watch.core.text import printable

SCHEMA_VERSION = 1
TRY_AGAIN = "Delete this note to try again."
NAME_CHARACTERS = 120  # of a file name in a sentence
MAX_ITEMS = 4  # files in an attention note: it has 12 lines
MAX_CANDIDATES = 4
MAX_ATTEMPTS = 50  # in the data; the newest


@dataclass(frozen=True, slots=True)
class ErrorNote:
    """The two files of an error note: `text` for people, `data` (JSON) for scripts."""

    text: bytes
    data: bytes


def error_note(
    job: Job, attempts: Sequence[Attempt], *, now: Millis, utc_offset_s: int, waits: bool = False
) -> ErrorNote:
    """Tell that `job` failed, or with `waits` that it is held up and goes on by itself."""
    advice = advice_for(job.code or "internal", job.message or "")
    return ErrorNote(
        text=_text(_error_lines(job, advice, attempts, now, utc_offset_s, waits=waits)),
        data=_json(_error_data(job, advice, attempts, now, waits=waits)),
    )


def attention_note(name: str, items: Sequence[Unpaired], *, now: Millis, utc_offset_s: int) -> bytes:
    """Tell which files nobody but a person can sort out, and the ways out."""
    codes = list(dict.fromkeys(item.code for item in items))
    return _text(
        [
            f"Please decide: it is not clear which files belong together for {_name(name)}.",
            "Nothing was sent and nothing was paid.",
            "",
            *_listed(items),
            "",
            *(f"What to do: {advice_for(code).what_to_do}" for code in codes[:2]),
            "This note goes away by itself when it is clear.",
            f"Technical: {_time(now, utc_offset_s)}; {', '.join(printable(code, 40) for code in codes[:6])}",
        ]
    )


def doubtful_note(job: Job, *, now: Millis, utc_offset_s: int) -> bytes:
    """Tell that a paid order may or may not exist, what is known of it, and what a person can do."""
    return _text(
        [
            f"Please decide: {_files(job)} may have been ordered already.",
            "",
            *_what_is_known(job, utc_offset_s),
            "Money may have been spent on it. It is not ordered again by itself: that may cost the same again.",
            f"What to do: show this note to {CARETAKER}, who can look it up at the service.",
            "",
            "To have it made all the same, even if that is paid for again:",
            TRY_AGAIN,
            f"Or, for an administrator: chamelaion-watch retry {job.id}",
            "",
            _technical(job, [], now, utc_offset_s),
        ]
    )


def receipt(job: Job, *, now: Millis) -> bytes:
    """Tell a script what was made from what, by content."""
    return _json(
        {
            "schema_version": SCHEMA_VERSION,
            "job": job.id,
            "state": str(job.state),
            "name": printable(job.name),
            "language": _printable(job.lang),
            "run": job.run_no,
            "request_id": _printable(job.request_id),
            "reference_id": printable(job.reference_id),
            "output": {
                "name": printable(_base(job.output)) if job.output else None,
                "bytes": job.output_bytes,
                "sha256": job.output_sha256,
            },
            "video": _source_data(job.video),
            "audio": _source_data(job.audio),
            "queued_at": _utc(job.created_at),
            "accepted_at": _utc(job.accepted_at),
            "rendered_at": _utc(job.rendered_at),
            "created_at": _utc(now),
        }
    )


# -- error notes --------------------------------------------------------------------------------------


def _error_lines(
    job: Job, advice: Advice, attempts: Sequence[Attempt], now: Millis, utc_offset_s: int, *, waits: bool
) -> list[str]:
    return [
        f"{'Held up' if waits else 'No lip-synced video was made'}: {_files(job)}",
        "",
        f"What happened: {advice.what_happened}",
        *([f"In detail: {printable(job.message)}"] if job.message else []),
        f"What to do: {advice.what_to_do}",
        *_way_on(job, waits=waits),
        "",
        _technical(job, attempts, now, utc_offset_s),
    ]


def _way_on(job: Job, *, waits: bool) -> list[str]:
    if waits:
        return ["", "It is tried again by itself; this note then goes away."]
    paid = ["The service had accepted it, so a new try may cost money again."] if job.request_id else []
    return [*paid, "", "It is not tried again by itself.", TRY_AGAIN]


def _error_data(job: Job, advice: Advice, attempts: Sequence[Attempt], now: Millis, *, waits: bool) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "job": job.id,
        "state": str(job.state),
        "code": printable(job.code or "internal"),
        "message": printable(job.message or advice.what_happened),
        "what_to_do": advice.what_to_do,
        "will_retry": waits,
        "http_status": job.http_status,
        "request_id": _printable(job.request_id),
        "reference_id": printable(job.reference_id),
        "attempts": [
            {"at": _utc(attempt.at), "step": printable(attempt.step), "message": printable(attempt.message)}
            for attempt in attempts[-MAX_ATTEMPTS:]
        ],
        "video": _source_data(job.video),
        "audio": _source_data(job.audio),
        "created_at": _utc(now),
    }


# -- lines --------------------------------------------------------------------------------------------


def _listed(items: Sequence[Unpaired]) -> list[str]:
    shown = [f"- {_name(item.path)}: {printable(item.reason)}{_candidates(item)}" for item in items[:MAX_ITEMS]]
    more = len(items) - len(shown)
    return [*shown[:-1], f"- and {more + 1} more files"] if more else shown


def _candidates(item: Unpaired) -> str:
    reason = printable(item.reason)
    names = [_name(path) for path in item.candidates if path != item.path and _name(path) not in reason]
    more = len(names) - MAX_CANDIDATES
    others = "others" if len(item.candidates) == MOST_RIVALS else f"{more} more"  # there may be more than are named
    names = [*names[:MAX_CANDIDATES], others] if more > 0 else names
    return f" (see also: {', '.join(names)})" if names else ""


def _what_is_known(job: Job, utc_offset_s: int) -> list[str]:
    if job.request_id:
        accepted = f" on {_day_and_time(job.accepted_at, utc_offset_s)}" if job.accepted_at else ""
        return [f"What happened: the lip-sync service took it{accepted}, but now it does not know it any more."]
    sent = f" on {_day_and_time(job.sent_at, utc_offset_s)}" if job.sent_at else ""
    return [f"What happened: the files were sent{sent}, but whether they arrived could not be found out."]


def _technical(job: Job, attempts: Sequence[Attempt], now: Millis, utc_offset_s: int) -> str:
    """One line for whoever is asked for help."""
    facts = [
        _time(now, utc_offset_s),
        f"{printable(job.code or str(job.state), 60)}",
        f"attempt {max(job.tries, len(attempts), 1)}",
        f"job {job.id} run {job.run_no}",
        f"request {printable(job.request_id or 'none', 60)}",
        f"reference {printable(job.reference_id, 60)}",
        f"HTTP {job.http_status or 'none'}",
        f"queued {_time(job.created_at, utc_offset_s)}",
    ]
    return f"Technical: {'; '.join(facts)}"


def _files(job: Job) -> str:
    return f"{_name(job.video.path)} with {_name(job.audio.path)}"


def _name(path: RelPath) -> str:
    return printable(_base(path), NAME_CHARACTERS)


def _base(path: RelPath) -> str:
    return path.rpartition("/")[2]


def _printable(text: str | None) -> str | None:
    return None if text is None else printable(text)


def _source_data(source: Source) -> dict[str, Any]:
    return {"name": printable(_base(source.path)), "bytes": source.signature.size, "sha256": source.sha256}


# -- formats ------------------------------------------------------------------------------------------


def _text(lines: Iterable[str]) -> bytes:
    return b"\xef\xbb\xbf" + "".join(f"{line}\r\n" for line in lines).encode("utf-8")


def _json(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, ensure_ascii=False, indent=2) + "\n").encode("utf-8")


def _time(at: Millis, utc_offset_s: int) -> str:
    """`2026-11-22 19:33:05 +01:00`: local time, and which."""
    local = _local(at, utc_offset_s).isoformat(" ", "seconds")
    return f"{local[:-6]} {local[-6:]}"


def _day_and_time(at: Millis, utc_offset_s: int) -> str:
    """`2026-11-22 at 19:33`, for a sentence."""
    return _local(at, utc_offset_s).strftime("%Y-%m-%d at %H:%M")


def _local(at: Millis, utc_offset_s: int) -> datetime:
    return datetime.fromtimestamp(0, tz=timezone(timedelta(seconds=utc_offset_s))) + timedelta(milliseconds=at)


def _utc(at: Millis | None) -> str | None:
    if at is None:
        return None
    return _local(at, 0).isoformat("T", "seconds")[:-6] + "Z"
