"""Sets logging up: one line per event, in the form that the reader wants, with no secret in it at any level.

Everything goes through one sink that redacts messages, bound fields and tracebacks, also those of libraries that log
through the standard library. Tracebacks never show the values of variables: a request object holds the key.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias
from urllib.parse import quote

from loguru import logger

from chamelaion_watch.core.text import printable

if TYPE_CHECKING:
    from loguru import Message, Record

MESSAGE_CHARACTERS = 2000
TRACEBACK_LINES = 200
SHORTEST_SECRET = 4  # hiding less would garble every line

# By number, so that levels in between get a priority as well; sd-daemon(3).
_PRIORITIES = ((50, 2), (40, 3), (30, 4), (20, 6), (0, 7))
_COLOURS = {"WARNING": "33", "ERROR": "31", "CRITICAL": "31;1", "DEBUG": "2", "TRACE": "2"}
_RESERVED = ("at", "level", "message", "exception")

_Lines: TypeAlias = Callable[["Record"], list[str]]


def configure(level: str, format: str, *, stream: TextIO, env: Mapping[str, str]) -> None:  # noqa: A002 - the config's word
    """Send all logging to `stream`, replacing what was set up before.

    `format` is `auto` (colours on a terminal, priorities for the journal, else text), `text` or `json`.
    """
    lines = _lines_for(format, stream, env)
    logger.remove()
    logger.configure(patcher=_redact_record)
    logger.add(
        _sink(lines, stream), level=level.upper(), format=_no_format, diagnose=False, backtrace=False, catch=False
    )
    _intercept_standard_logging()


def hide(secret: str) -> None:
    """Replace `secret` by `***` in everything that is logged from now on."""
    if len(secret) >= SHORTEST_SECRET:
        # Longest first: a secret that contains another must not leave its rest behind.
        forms = {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], *_secrets}
        _secrets[:] = sorted(forms, key=len, reverse=True)


def redacted(text: str) -> str:
    """Return `text` without hidden secrets, bearer tokens, passwords in URLs and the queries of URLs."""
    for secret in _secrets:
        text = text.replace(secret, "***")
    folded = text.casefold()
    for needed, pattern, replacement in _PATTERNS:
        if needed in folded:
            text = pattern.sub(replacement, text)
    return text


def log_uncaught() -> None:
    """Let exceptions that nobody caught, in any thread, end in the log instead of bare on stderr."""

    def log(kind: type[BaseException], value: BaseException | None, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt | SystemExit):
            return
        where = threading.current_thread().name
        logger.opt(exception=(kind, value, trace)).critical(f"bug: uncaught {kind.__name__} in {where}")

    sys.excepthook = log
    threading.excepthook = lambda args: log(args.exc_type, args.exc_value, args.exc_traceback)


# -- redaction ----------------------------------------------------------------------------------------

_secrets: list[str] = []

# The word that a match holds, which is quickly looked for, the pattern, and what takes the match's place.
_PATTERNS = tuple(
    (needed, re.compile(pattern, re.IGNORECASE), replacement)
    for needed, pattern, replacement in (
        ("bearer", r"\b(Bearer)[\s:=]+[^\s'\",;<>)\]}]+", r"\1 ***"),
        ("x-api-key", r"\b(x-api-key)([\s'\":=,]+(?:b['\"])?)[^\s'\",;<>)\]}]+", r"\1\2***"),
        ("://", r"(\b[a-z][a-z0-9+.-]*://)[^\s/?#@'\"<>]+@", r"\1***@"),
        ("?", r"(\b[a-z][a-z0-9+.-]*://[^\s?'\"<>]*)\?[^\s'\"<>]*", r"\1?***"),
        # request lines of servers and proxies; not every path: file names may hold a question mark
        ("?", r"(\b(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)\s+/[^\s?'\"<>]*)\?[^\s'\"<>]*", r"\1?***"),
    )
)


def _redact_record(record: Record) -> None:
    record["message"] = redacted(record["message"])
    for key, value in record["extra"].items():
        if not isinstance(value, bool | int | float | None):
            record["extra"][key] = redacted(str(value))


# -- the sink -----------------------------------------------------------------------------------------


def _sink(lines: _Lines, stream: TextIO) -> Callable[[Message], None]:
    def write(message: Message) -> None:
        try:
            stream.write("".join(f"{line}\n" for line in lines(message.record)))
            stream.flush()
        except (OSError, ValueError):  # a full disk, a closed terminal: no reason to stop rendering videos
            return

    return write


def _no_format(_: Record) -> str:
    return ""  # the sink takes the record; loguru's own text would hold the traceback unredacted


def _lines_for(form: str, stream: TextIO, env: Mapping[str, str]) -> _Lines:
    if form == "json":
        return _json_line
    if form == "text":
        return _text_lines
    if _is_journal(stream, env):
        return _journal_lines
    return _coloured_lines if _takes_colours(stream, env) else _text_lines


def _is_journal(stream: TextIO, env: Mapping[str, str]) -> bool:
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return env.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _takes_colours(stream: TextIO, env: Mapping[str, str]) -> bool:
    return stream.isatty() and not env.get("NO_COLOR") and env.get("TERM") != "dumb"


# -- lines --------------------------------------------------------------------------------------------


def _text_lines(record: Record) -> list[str]:
    return [f"{_clock(record)} {record['level'].name:<8} {_event(record)}", *_indented(record)]


def _coloured_lines(record: Record) -> list[str]:
    level = record["level"].name
    name = f"\x1b[{_COLOURS[level]}m{level:<8}\x1b[0m" if level in _COLOURS else f"{level:<8}"
    return [f"\x1b[2m{_clock(record)}\x1b[0m {name} {_event(record)}", *_indented(record)]


def _journal_lines(record: Record) -> list[str]:
    """The journal adds the time; each line carries its own priority."""
    priority = next(priority for least, priority in _PRIORITIES if record["level"].no >= least)
    return [f"<{priority}>{line}" for line in (_event(record), *_indented(record))]


def _json_line(record: Record) -> list[str]:
    at = record["time"].astimezone(UTC).isoformat("T", "milliseconds")
    fields: dict[str, Any] = {
        "at": f"{at[:-6]}Z",
        "level": record["level"].name.lower(),
        "message": printable(record["message"], MESSAGE_CHARACTERS),
    }
    fields |= {key: _shown(value) for key, value in record["extra"].items() if key not in _RESERVED}
    if trace := _traceback(record):
        fields["exception"] = "\n".join(trace)
    return [json.dumps(fields, ensure_ascii=False)]


def _event(record: Record) -> str:
    fields = "".join(f" {key}={_shown(value)}" for key, value in record["extra"].items())
    return printable(record["message"], MESSAGE_CHARACTERS) + fields


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def _clock(record: Record) -> str:
    return record["time"].isoformat(" ", "milliseconds")[:23]


def _indented(record: Record) -> list[str]:
    return [f"    {line}" for line in _traceback(record)]  # so that no exception's text can pose as an event


def _traceback(record: Record) -> list[str]:
    exception = record["exception"]
    if exception is None or exception.type is None:
        return []
    text = redacted("".join(traceback.format_exception(exception.type, exception.value, exception.traceback)))
    lines = text.rstrip("\n").split("\n")
    if len(lines) > TRACEBACK_LINES:
        half = TRACEBACK_LINES // 2
        lines = [*lines[:half], f"… {len(lines) - 2 * half} lines …", *lines[-half:]]
    return [printable(line, MESSAGE_CHARACTERS) for line in lines]


# -- the standard library's logging -------------------------------------------------------------------


class _Interceptor(logging.Handler):
    """Hands what libraries log to loguru; their DEBUG and INFO are theirs (httpx writes whole URLs)."""

    def emit(self, record: logging.LogRecord) -> None:
        known = record.levelname in {"WARNING", "ERROR", "CRITICAL"}
        level = record.levelname if known else record.levelno
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # a library's mistake in its own format
            message = str(record.msg)
        logger.opt(exception=record.exc_info).bind(logger=record.name).log(level, "{}", message)


def _intercept_standard_logging() -> None:
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _Interceptor)]
    root.addHandler(_Interceptor(logging.WARNING))
    root.setLevel(logging.WARNING)
