"""What may be changed about the stand-in service while it runs, with its checks.

Times are in the sandbox's own seconds, which `--speed` makes shorter than the client's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from email.utils import formatdate
from typing import Any, TypeAlias

Span: TypeAlias = float | tuple[float, float]  # a length of time, or the range it is drawn from


@dataclass(frozen=True, slots=True)
class Limits:
    """The account's limits and the service's pace; None means unlimited."""

    rpm: int | None = 60  # generations per window
    window: str = "sliding"  # or "fixed": all of the next window is free as soon as it begins
    window_s: float = 60.0
    retry_after: str = "seconds"  # "seconds", "date", "ms", "none", or a literal to send instead
    cap: int | None = None  # requests queued and processing at once
    quota: int | None = None  # accepted requests in all, since the sandbox started
    queue_s: Span = 0.5
    processing_s: Span = 2.0
    link_ttl_s: float = 3600.0
    page_max: int = 100  # a longer `limit` is answered with this many, and the pagination says so

    def changed(self, changes: Mapping[str, object]) -> Limits:
        """Return these limits with `changes`; raises ValueError that names the first bad one."""
        unknown = sorted(changes.keys() - {field.name for field in fields(self)})
        if unknown:
            raise ValueError(f"unknown setting: {', '.join(unknown)}")
        # unpacked through Any: each check returns the type of its own field
        checked: dict[str, Any] = {name: _CHECKS[name](name, value) for name, value in changes.items()}
        return replace(self, **checked)


def retry_after_headers(style: str, wait_s: float, wall_s: float) -> dict[str, str]:
    """Return how a refusal names its time; `wait_s` and `wall_s` are the client's seconds."""
    whole_s = max(1, math.ceil(wait_s))
    match style:
        case "none":
            return {}
        case "seconds":
            return {"Retry-After": str(whole_s)}
        case "date":
            return {"Retry-After": formatdate(math.ceil(wall_s + whole_s), usegmt=True)}
        case "ms":
            return {"retry-after-ms": str(max(1, math.ceil(wait_s * 1000)))}
        case literal:
            return {"Retry-After": literal}


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, not {value!r}")
    return value


def _count_or_none(name: str, value: object) -> int | None:
    return None if value is None else _count(name, value)


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number of seconds, not {value!r}")
    return float(value)


def _window_seconds(name: str, value: object) -> float:
    if not (seconds := _seconds(name, value)):
        raise ValueError(f"{name} must be more than 0")
    return seconds


def _span(name: str, value: object) -> Span:
    if not isinstance(value, list | tuple):
        return _seconds(name, value)
    if len(value) != 2:  # noqa: PLR2004 -- a range has two ends
        raise ValueError(f"{name} must be a number of seconds or [least, most], not {value!r}")
    return _seconds(name, value[0]), _seconds(name, value[1])


def _window(name: str, value: object) -> str:
    if value not in {"sliding", "fixed"}:
        raise ValueError(f'{name} must be "sliding" or "fixed", not {value!r}')
    return str(value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text, not {value!r}")  # noqa: TRY004 -- one error for all bad settings
    return value


_CHECKS: dict[str, Callable[[str, object], object]] = {
    "rpm": _count_or_none,
    "window": _window,
    "window_s": _window_seconds,
    "retry_after": _text,
    "cap": _count_or_none,
    "quota": _count_or_none,
    "queue_s": _span,
    "processing_s": _span,
    "link_ttl_s": _seconds,
    "page_max": _count,
}
